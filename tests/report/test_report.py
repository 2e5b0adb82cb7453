"""The report: what it says of every verdict, that it stands alone, and that a browser shows it on a phone."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from rethink_fast.env import environment
from rethink_fast.errors import UserError
from rethink_fast.experiments import EXPERIMENTS
from rethink_fast.experiments.scales import FULL
from rethink_fast.experiments.spec import Result, Results, Task
from rethink_fast.experiments.verdicts import VERDICTS, judge
from rethink_fast.markdown import bullets, heading, paragraph, table
from rethink_fast.report import write_report
from rethink_fast.report.html import page
from rethink_fast.report.plots import picture, svg
from rethink_fast.report.wording import caption, deviations
from rethink_fast.text import number

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt install chromium)")


def made_up(task: Task, accuracy: float) -> Result:
    """A result with the keys that a report reads: this file tests how numbers are shown, not what they are."""
    kind = {"true": 0, "shuffled-pixels": 1, "gaussian": 2, "random-pixels": 3, "random": 4}
    corruption = task.corruption.corruption  # type: ignore[union-attr]
    epochs = 10 + 5 * kind.get(corruption, 2)
    curve: tuple[dict[str, float | None], ...] = tuple(
        {
            "epoch": float(e),
            "train_loss": 2.3 / e,
            "online_loss": 2.3 / e,
            "train_accuracy": accuracy,
            "test_accuracy": accuracy / 2,
        }
        for e in range(1, epochs + 1)
    )
    record: dict[str, Any] = {
        "dataset": "cifar10",
        "data_source": "jpeg tar cifar10.tar",
        "n_train": 50_000,
        "n_test": 10_000,
        "num_classes": 10,
        "batch_size": 128,
        "precision": "fp32",
        "device": "cpu",
        "model": task.model.model,  # type: ignore[union-attr]
        "recipe": {"name": "paper", "overrides": ["lr 0.01 in place of 0.1"]},
        "epochs": epochs,
        "train_accuracy": accuracy,
        "test_accuracy": 0.1 if corruption == "random" else accuracy / 2,
        "best_test_accuracy": accuracy / 2,
        "time_to_memorize": {"loss<=0.05": {"seconds": 1.0, "epochs": epochs, "steps": 1}},
        "environment": environment(),
        **dict.fromkeys(("train_seconds", "eval_seconds", "compile_seconds", "checkpoint_seconds"), 1.5),
    }
    return Result(record, curve)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with rows of every verdict: most of Table 1 and Figure 1, a failed run, and some that were not run."""
    out = tmp_path_factory.mktemp("report")
    experiments = {name: EXPERIMENTS[name](FULL) for name in ("table1", "figure1", "figure2", "table2")}
    tasks = [task for name in ("table1", "figure1") for task in experiments[name].tasks]
    results: dict[Task, Result | str] = {task: made_up(task, 1.0) for task in tasks[:-2]}
    results[tasks[1]] = "the loss became NaN <or> infinite"
    results[tasks[2]] = made_up(tasks[2], 0.5)
    keys = {task: f"{place:016x}" for place, task in enumerate(dict.fromkeys(tasks))}
    found = Results(results, 1)
    judged = {name: judge(experiment, found, keys, 1) for name, experiment in experiments.items()}
    judged["table2"]["skipped_because"] = "no imagenet found"
    values = {
        "schema": 1,
        "contract_version": 1,
        "scale": {"name": "full", "words": "all images", "deviations": ["fewer <images>"]},
        "seeds": 1,
        "verdicts": VERDICTS,
        "experiments": judged,
        "runs": {
            key: {
                "what": "a run",
                "status": "done" if isinstance(results.get(task), Result) else "failed",
                "record": results[task].record if isinstance(results.get(task), Result) else None,  # type: ignore[union-attr]
            }
            for task, key in keys.items()
        },
        "environment": environment(),
    }
    (out / "reproduction.json").write_text(json.dumps(values))
    write_report(out)
    return out


def test_pixels_that_were_compressed_are_said() -> None:
    def said(source: str) -> list[str]:
        record = {"dataset": "cifar10", "data_source": source}
        return deviations({"scale": {"deviations": []}, "runs": {"a": {"record": record}, "b": {"record": None}}})

    official = "CIFAR-10 was read from JPEG files, so its pixels are not those of the official, uncompressed files."
    assert said("jpeg tar cifar10.tar") == said("jpeg folder cifar10") == [official]
    assert said("cifar10 binary cifar10") == []


def test_every_verdict_is_said(folder: Path) -> None:
    page, text = (folder / "report.html").read_text(), (folder / "report.md").read_text()
    for said, colour in (("agrees", " good"), ("differs", " bad"), ("failed", " bad"), ("not run", "")):
        assert f'<td data-label="verdict" class="verdict{colour}">{said}</td>' in page
        assert f"| {said} |" in text
    assert "Not run: no imagenet found." in page
    assert "the loss became NaN &lt;or&gt; infinite" in page
    assert "lr 0.01 in place of 0.1" in page
    assert "fewer &lt;images&gt;" in page
    assert "CIFAR-10 was read from JPEG files" in page
    assert "lr 0.01 in place of 0.1" in text


ODD = "a|b `c` *d* [e](javascript:f) <script>alert(1)</script> $x$ &lt; ~g~ \x1b[31m \u202e \udc80\n# h\\"
"""What a name may hold: Markdown, HTML, mathematics, control characters, bytes that are not UTF-8."""


def words_of(values: Any, place: str = "") -> Iterator[tuple[Any, Any]]:
    """Every text in nested values that may be any text, as its container and key."""
    fixed = ("verdict", "status", "schema")
    for key, value in list(values.items() if isinstance(values, dict) else enumerate(values)):
        if isinstance(value, str) and key not in fixed and "runs" not in place.split("/")[3:]:
            yield values, key
        elif isinstance(value, dict | list):
            yield from words_of(value, f"{place}/{key}")


def test_no_word_of_a_record_acts_as_html_or_markdown(folder: Path, tmp_path: Path) -> None:
    values = json.loads((folder / "reproduction.json").read_text())
    for container, key in list(words_of(values)):
        container[key] = ODD
    values["runs"] = {f"{ODD}{place}": run for place, run in enumerate(values["runs"].values())}
    for experiment in values["experiments"].values():
        for rows in experiment["tables"]:
            for row in rows["rows"]:
                row["runs"] = []
    (tmp_path / "reproduction.json").write_text(json.dumps(values))
    files = write_report(tmp_path)
    assert {path.parent for path in files} == {tmp_path}
    page = (tmp_path / "report.html").read_text()
    stands_alone(page)
    well_formed(page)
    shown = html.unescape(re.sub(r"<svg.*?</svg>|<[^>]*>", "", page.partition("<main>")[2], flags=re.DOTALL))
    said = r"a|b `c` *d* [e](javascript:f) <script>alert(1)</script> $x$ &lt; ~g~ \x1b[31m \u202e \x80\n# h" + "\\"
    assert shown.count("alert(1)") == shown.count(said) > 100
    assert "<a href" not in page.partition("</nav>")[2]
    runs = (tmp_path / "report.md").read_text().partition("\n## Runs\n\n")[2].splitlines()[: len(values["runs"])]
    assert {len(re.split(r"(?<!\\)\|", line)) for line in runs} == {9}


LINES = ["- x", "# x", "1. x", "+ x", "> x", "=== x", "    x", "| x | y |", "x\n\ny", "", "---", "12) x"]
LABELS = ["$x", "$\\frac$", "a\nb", "\u4e00\U0001f600", "", "</text><script>", "\x00\x1b", "_x", "a" * 5000]


@pytest.mark.parametrize("line", LINES)
def test_a_line_stays_a_line(line: str) -> None:
    for lines in (paragraph(line), bullets([line]), heading(2, line), table(["a"], [[line]])):
        shown = page("\n".join(lines), {}).partition("<main>")[2]
        assert html.unescape(re.sub(r"<[^>]*>", "", shown)).split() in (
            line.replace("\n", r"\n").split(),
            ["a", *line.replace("\n", r"\n").split()],
        )
        assert "<hr" not in shown
        assert "<code" not in shown


def _place(values: Any, path: str) -> tuple[Any, Any]:
    *steps, last = (int(step) if step in "0123456789" else step for step in path.split("."))
    for step in steps:
        values = values[step]
    return values, last


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("experiments", []),
        ("experiments", {"../../x": {}}),
        ("experiments.table1.tables", {}),
        ("experiments.table1.tables.0.rows.0.values.0.verdict", 'x" onclick="f'),
        ("experiments.table1.tables.0.rows.0.values.0.ours", {"n": 1}),
        ("experiments.table1.tables.0.rows.0.values.0.paper", []),
        ("experiments.table1.tables.0.rows.0.labels", []),
        ("experiments.table1.tables.0.rows.0.runs", ["none"]),
        ("experiments.figure1.plots.0.paper.0.x", [1.0]),
        ("experiments.figure1.plots.0.paper.0.x", None),
        ("experiments.figure1.plots.0.y_limits", [1]),
        ("experiments.figure1.plots.0.x_limit", 1e308),
        ("experiments.figure1.findings.0.verdict", "perhaps"),
        ("scale", None),
        ("scale.deviations", [1]),
        ("seeds", "one"),
        ("seeds", True),
        ("runs", [1]),
        ("runs.0000000000000000.record.environment", None),
        ("runs.0000000000000000.record.environment.cores", 1.5),
        ("runs.0000000000000000.record.train_seconds", "1.5"),
        ("runs.0000000000000000.record.recipe", "paper"),
        ("verdicts", None),
    ],
)
def test_a_reproduction_of_another_shape_is_one_line(folder: Path, tmp_path: Path, path: str, value: Any) -> None:
    values = json.loads((folder / "reproduction.json").read_text())
    container, key = _place(values, path)
    container[key] = value
    (tmp_path / "reproduction.json").write_text(json.dumps(values))
    with pytest.raises(
        UserError, match=r"reproduction\.json (has|lacks) .*: run the same rethink-fast reproduce again\.$"
    ) as raised:
        write_report(tmp_path)
    assert "\n" not in str(raised.value)
    assert [each.name for each in tmp_path.iterdir()] == ["reproduction.json"]


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("y", [[None, 1.0], [1e300, -1e300], [], [0.0, 0.0], [5e-324, 1.0]])
def test_a_plot_takes_any_label_and_any_numbers(label: str, y: list[float | None]) -> None:
    series = {"label": label, "x": [1.0, 2.0][: len(y)], "y": y, "spread": y, "mark": None}
    plot = {"title": label, "x_label": label, "y_label": label, "x_limit": None, "y_limits": None, "note": label}
    drawn = svg(lambda: picture({**plot, "paper": [series], "ours": [series]}), "figure1a")
    assert "<script" not in drawn
    parsed = ElementTree.fromstring(drawn)
    if label.isprintable() and 0 < len(label) <= 80:
        assert label in [text.text for text in parsed.iter("{http://www.w3.org/2000/svg}text")]


def test_a_figure_says_which_curves_of_ours_are_missing(folder: Path) -> None:
    page, text = (folder / "report.html").read_text(), (folder / "report.md").read_text()
    for written in (page, text):
        assert written.count("; not run, or failed: all of ours") == 1, "Figure 2a"
    drawn = {"paper": [{"label": "a"}, {"label": "b"}], "ours": [{"label": "a", "y": [0.5]}], "note": ""}
    assert caption(drawn) == "not run, or failed: b"
    assert caption({**drawn, "paper": drawn["ours"]}) == ""


def test_times_of_a_busy_machine_are_marked(folder: Path, tmp_path: Path) -> None:
    values = json.loads((folder / "reproduction.json").read_text())
    done = [run["record"] for run in values["runs"].values() if run["record"]]
    done[0]["environment"]["contention"] = {"busy": True}
    (tmp_path / "reproduction.json").write_text(json.dumps(values))
    write_report(tmp_path)
    lead, _, runs = (tmp_path / "report.md").read_text().partition("\n## Runs\n")
    assert f", which is too long: in 1 of {len(done)} the machine was busy with other work." in lead
    assert runs.count(", busy |") == 1
    assert "busy" not in (folder / "report.md").read_text()


def test_a_row_shows_paper_ours_difference_and_tolerance(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    row = "| Inception | yes | yes | true | test | 89.05 | 50.00 | -39.05 | ± 1.50 (b) | differs |"
    assert row in text
    assert "- (b) tolerance: how far the paper's own runs" in text


def stands_alone(page: str) -> None:
    """No script, and nothing from elsewhere."""
    links = re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?([^"\'\s>)]+)', page)
    assert links
    assert all(link.startswith(("#", "data:")) for link in links), links
    assert "<script" not in page
    assert "@import" not in page


def test_the_page_stands_alone(folder: Path) -> None:
    stands_alone((folder / "report.html").read_text())


def well_formed(page: str) -> None:
    """Every tag is closed, and every name is given once and to something."""
    names = re.findall(r'\bid="([^"]+)"', page)
    assert len(names) == len(set(names))
    wanted = set(re.findall(r'(?:url\(|href=")#([^")]+)', page))
    assert wanted <= set(names)
    stack: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "link", "br"):
                stack.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert stack.pop() == tag

    Tags().feed(page)
    assert not stack


def test_the_page_is_well_formed_and_its_names_are_its_own(folder: Path) -> None:
    well_formed((folder / "report.html").read_text())


def test_every_figure_has_a_picture_of_the_same_bytes_each_time(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.glob("*.svg")}
    assert {path.stem for path in before} == {"figure1a", "figure1b", "figure1c", "figure1d", "figure2a", "figure2b"}
    write_report(folder)
    assert {path: path.read_bytes() for path in folder.glob("*.svg")} == before


@pytest.mark.parametrize("content", [None, "{", '{"schema": 0}', "[]"])
def test_what_is_no_reproduction_is_one_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "reproduction.json").write_text(content)
    with pytest.raises(UserError, match=r"rethink-fast reproduce"):
        write_report(tmp_path)


def test_numbers_are_written_for_people() -> None:
    assert [number(value) for value in (103_072.0, 85.75, 0.0, 2.1e-9)] == ["103,072", "85.75", "0.00", "2.1e-09"]


def in_a_browser(page: str, width: int, scratch: Path) -> tuple[int, int]:
    """Show the page in a frame of that width (headless Chromium has a least width of its own).

    The console stays silent and nothing lies beyond its sides. Returns its pictures and bodies of tables, counted.
    """
    report = """
        const inner = document.getElementById("f").contentDocument;
        document.title = [inner.documentElement.scrollWidth, inner.documentElement.clientWidth,
                          inner.querySelectorAll("svg").length, inner.querySelectorAll("tbody").length].join(" ");
    """
    frame = f'<iframe id="f" style="border:0;width:{width}px;height:800px" srcdoc="{html.escape(page)}"></iframe>'
    (scratch / "frame.html").write_text(
        f"<!doctype html><meta charset=utf-8>{frame}<script>onload = () => {{{report}}}</script>"
    )
    arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
    arguments += [f"--user-data-dir={scratch / 'profile'}", "--virtual-time-budget=5000", "--dump-dom"]
    command = [str(CHROMIUM), *arguments, (scratch / "frame.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title = re.search(r"<title>([\d ]+)</title>", done.stdout)
    assert title, done.stderr[-2000:]
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    scroll, client, pictures, bodies = map(int, title[1].split())
    assert width - 20 <= client <= width  # beside the scroll bar
    assert scroll <= client
    return pictures, bodies


@needs_chromium
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_it_without_errors_or_sideways_scrolling(folder: Path, tmp_path: Path, width: int) -> None:
    pictures, rows = in_a_browser((folder / "report.html").read_text(), width, tmp_path)
    assert pictures == 5
    assert rows > 10
