"""`rethink-fast memorize`; the options of data, corruption, network and training are those of bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from ..config import PATH, Corruption, Data, Model, Run, RunDatasetName, Train
from ..output import print_json
from ..terminal import Terminal
from .bench import section


def memorize(
    dataset: RunDatasetName,
    /,
    *,
    models: int = 40,
    ratio: float = 0.7,
    influence: Literal["top", "all"] = "top",
    out: Annotated[Path | None, PATH] = None,
    data: Annotated[Data, section("Data")] = Data(),
    corruption: Annotated[Corruption, section("Corruption")] = Corruption(),
    model: Annotated[Model, section("Model")] = Model(),
    train: Annotated[Train, section("Training")] = Train(),
    json: bool = False,
) -> int:
    """Measure how much each training sample is memorised, and its influence on each test image.

    Trains many models, each on a random part of the samples, and compares those with a sample to those without
    (Feldman and Zhang 2020). The same command resumes where it was stopped; with a larger --models it adds models.

    Parameters
    ----------
    dataset:
        The data set; own is a pack of your own, with --data.
    models:
        How many models are trained.
    ratio:
        Fraction of the samples in each model's training set, between 0 and 1.
    influence:
        top: the 100 training samples of largest influence on each test image; all: the whole matrix.
    out:
        Folder of the models and the results. Default: memorized/DATASET-MODEL-KEY, the key by all other settings.
    json:
        Print memorize.json on stdout, and everything else on stderr.
    """
    from ..memorize.run import Options, run_memorize

    run = Run(dataset=dataset, data=data, corruption=corruption, model=model, train=train)
    found, code = run_memorize(run, Options(models, ratio, influence, out), Terminal(stderr=json))
    return code or (print_json(found.values) if json and found is not None else 0)
