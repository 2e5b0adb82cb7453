"""A table of runs, one a line: which columns are hyper-parameters, measures and the gap.

What is not named by the caller is detected. A hyper-parameter has a few values, each of several runs, and does not
follow from other hyper-parameters: the number of parameters, which follows from the width, is a measure.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError, bad_path, one_of, unreadable
from ..files import read_bytes
from ..schema import shown
from .evaluate import Codes, Values

MAX_BYTES = 2**28
GAPS = ("gap", "gen.gap", "gen_gap", "generalization_gap", "generalisation_gap")
SEEDS = ("seed", "seeds", "repeat", "hp.seed")
TEST_IMAGES = "n_test"
OUTCOMES = tuple(f"{part}{what}" for part in ("train", "test") for what in ("", "_accuracy", "_acc", "_error", "_loss"))
HYPERPARAMETER, MEASURE = "hp.", "complexity."
"""First letters of the names of columns in the published table of Dziugaite et al. 2020."""
Cells = dict[str, list[str]]


@dataclass(frozen=True)
class RunTable:
    """Runs, as evaluate.evaluate takes them.

    settings: by hyper-parameter, its values in the order of their codes, as they are written in the table.
    codes: int64 [n, k].
    measures: float64 [n] by name.
    gap: float64 [n], in the column `gap_name`.
    n_test: test images behind each gap, where the table says so.
    unused: why, by the name of each column that is none of these.
    """

    settings: dict[str, list[str]]
    codes: Codes
    measures: dict[str, Values]
    gap: Values
    gap_name: str
    n_test: int | None
    unused: dict[str, str]


def read_run_table(
    path: Path, *, hyperparameters: Sequence[str] = (), measures: Sequence[str] = (), gap: str = ""
) -> RunTable:
    """Return the runs of a CSV file, see run_table. Raises UserError, also for a file that cannot be read."""
    try:
        text = read_bytes(path, limit=MAX_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise unreadable(path, error) from None
    except UnicodeDecodeError:
        raise bad_path(path, "is not CSV: it is not text in UTF-8", "name a table of runs with a header line") from None
    return run_table(text, path, hyperparameters=hyperparameters, measures=measures, gap=gap)


def run_table(
    text: str,
    path: Path,
    *,
    hyperparameters: Sequence[str] = (),
    measures: Sequence[str] = (),
    gap: str = "",
) -> RunTable:
    """Return the runs of CSV text with a header line, separated by commas, semicolons or tabs.

    path: for messages.
    hyperparameters, measures, gap: names of columns. Default: detected.
    Raises UserError for text that is no such table, an unknown column, and a measure or gap that is not a number.
    """
    cells = _columns(text, path)
    rows = len(next(iter(cells.values())))
    for name in (*hyperparameters, *measures, *([gap] if gap else [])):
        one_of("column", name, cells)
    gap = gap or _gap_column(path, cells)
    if gap in (*hyperparameters, *measures):
        fix = "name it once, or another column by --gap"
        raise UserError(f"column {gap!r} is the gap, so it cannot be a measure or hyperparameter", fix, value=gap)
    twice = [name for name, count in Counter((*hyperparameters, *measures)).items() if count > 1]
    if twice:
        raise UserError(f"column {twice[0]!r} is named twice", "give each column one role", value=twice[0])
    unused = _not_for_use(cells)
    free = [name for name in cells if name != gap and name not in unused and name not in (*hyperparameters, *measures)]
    settings = list(hyperparameters) or _hyperparameters(cells, free)
    chosen = list(measures) or _measures(cells, [name for name in free if name not in settings])
    if not chosen:
        raise bad_path(path, "has no column of numbers that is a measure", "name some by --measures")
    for name in free:
        if name not in settings and name not in chosen:
            unused[name] = "not asked for" if _broken(cells[name]) is None else f"not numbers: {_broken(cells[name])}"
    numbers = {name: _numbers(path, name, cells[name]) for name in (*chosen, gap)}
    if len(set(numbers[gap].tolist())) == 1:
        raise bad_path(path, f"has the same {gap} in all {rows} runs", "there is nothing to predict: add other runs")
    codes, values = _coded(cells, settings)
    n_test = _n_test(cells)
    used = {*settings, *chosen, gap, *([TEST_IMAGES] if n_test else [])}
    left = {name: why for name, why in unused.items() if name not in used}
    return RunTable(values, codes, {name: numbers[name] for name in chosen}, numbers[gap], gap, n_test, left)


def _columns(text: str, path: Path) -> Cells:
    """Return the columns of CSV text by name."""
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        lines = [line for line in csv.reader(io.StringIO(text), delimiter=delimiter, strict=True) if line]
    except csv.Error as error:
        raise bad_path(path, f"is not CSV ({error})", "name a table of runs with a header line") from None
    header = [name.strip() for name in lines[0]] if lines else []
    if len(header) < 2:
        raise bad_path(path, "is not a table of runs", "it needs a header line that names the gap and a measure")
    names = [name or f"column {place}" for place, name in enumerate(header, 1)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise bad_path(path, f"has two columns called {shown(twice[0])}", "rename one")
    for number, line in enumerate(lines[1:], 1):
        if len(line) != len(names):
            raise bad_path(path, f"has {len(line)} cells in run {number} and {len(names)} in its header", "correct it")
    if len(lines) < 3:
        raise bad_path(path, f"has {len(lines) - 1} run(s)", "a measure is judged by two or more")
    columns = zip(*lines[1:], strict=True)
    return {name: [cell.strip() for cell in column] for name, column in zip(names, columns, strict=True)}


def _gap_column(path: Path, cells: Cells) -> str:
    found = [name for name in cells if name.lower() in GAPS] or [name for name in cells if "gap" in name.lower()]
    if len(found) == 1:
        return found[0]
    what = f"several columns for the gap ({', '.join(found)})" if found else "no column called gap"
    raise bad_path(path, f"has {what}", f"name it by --gap, one of {', '.join(cells)}")


def _not_for_use(cells: Cells) -> dict[str, str]:
    """Return the columns that are neither hyper-parameters nor measures unless the caller names them, and why."""
    unused = {}
    for name, column in cells.items():
        if name.startswith("column "):
            unused[name] = "no name"
        elif name.lower() in SEEDS:
            unused[name] = "tells repeats of one configuration apart"
        elif name.lower() in OUTCOMES:
            unused[name] = "a result, not a measure"
        elif name == TEST_IMAGES:
            unused[name] = "not one number of images for all runs"
        elif len(set(column)) == 1:
            unused[name] = "the same in all runs"
    return unused


def _hyperparameters(cells: Cells, free: Sequence[str]) -> list[str]:
    """Return the columns that are hyper-parameters, in the order of the table."""
    marked = [name for name in free if name.startswith(HYPERPARAMETER)]
    if marked:
        return marked
    repeated = [name for name in free if min(Counter(cells[name]).values()) > 1 and not name.startswith(MEASURE)]
    found: list[str] = []
    for name in sorted(repeated, key=lambda name: len(set(cells[name]))):
        settings = list(zip(*(cells[other] for other in found), strict=True)) or [()] * len(cells[name])
        if len(set(zip(settings, cells[name], strict=True))) > len(set(settings)):
            found.append(name)
    return [name for name in free if name in found]


def _measures(cells: Cells, free: Sequence[str]) -> list[str]:
    marked = [name for name in free if name.startswith(MEASURE)]
    return marked or [name for name in free if _broken(cells[name]) is None]


def _n_test(cells: Cells) -> int | None:
    """Return the number of test images, where a column has it and it is the same for all runs."""
    written = set(cells.get(TEST_IMAGES, ()))
    word = next(iter(written)) if len(written) == 1 else ""
    return int(word) if word.isdecimal() and int(word) else None


def _broken(column: Sequence[str]) -> str | None:
    """Return the first cell that is no finite number, with its run; None where all are."""
    for number, cell in enumerate(column, 1):
        try:
            good = math.isfinite(float(cell))
        except ValueError:
            good = False
        if not good:
            return f"{shown(cell)} in run {number}"
    return None


def _numbers(path: Path, name: str, column: Sequence[str]) -> Values:
    broken = _broken(column)
    if broken is not None:
        fix = "correct it, or omit the column by --measures"
        raise bad_path(path, f"has no number under {shown(name)}: {broken}", fix)
    return np.array([float(cell) for cell in column])


def _coded(cells: Cells, settings: Sequence[str]) -> tuple[Codes, dict[str, list[str]]]:
    """Return the hyper-parameters as codes, and the values behind them, numbers in their order."""
    values = {}
    for name in settings:
        number = _broken(cells[name]) is None
        values[name] = sorted(set(cells[name]), key=lambda cell: (float(cell) if number else 0.0, cell))
    rows = len(next(iter(cells.values())))
    codes = np.zeros((rows, len(settings)), np.int64)
    for column, name in enumerate(settings):
        codes[:, column] = [values[name].index(cell) for cell in cells[name]]
    return codes, values
