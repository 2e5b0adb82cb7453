"""A data set given in Python, as `rethink_fast.run(run, data=...)` takes it: opened in one pass over its items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..corruptions.dataset import check_map_style
from ..errors import UserError
from .digest import digest_some
from .options import DataOptions
from .own_images import FailedItem, OwnImages, PlainItems
from .registry import OWN
from .residency import DECODED_AT_ONCE, plan_for
from .source import Dataset, Images, InMemoryImages, Split, square_note, subset

READ_TWICE = 16


class OwnData(NamedTuple):
    """Two map-style data sets: to train on, and to test on, if any."""

    train: Any
    test: Any = None


def image_shape(dataset: Any) -> tuple[int, int, int]:
    """Return height, width and channels of the first image of a map-style data set. Raises UserError."""
    check_map_style(dataset)
    name = name_of_type(dataset)
    try:
        count = len(dataset)
    except Exception as error:  # torch's Sampler and others have a __len__ that raises
        raise UserError(
            f"{name} has no length ({type(error).__name__})",
            "give a map-style dataset, with len() and integer indexing",
            option="data",
        ) from None
    if not count:
        raise UserError(f"{name} has no items", "give some", option="data")
    item = PlainItems(dataset)[0]
    if isinstance(item, FailedItem):
        raise item.error(name)
    height, width, channels = item[0].shape
    return height, width, channels


def load_own(data: OwnData, options: DataOptions) -> Dataset:
    """Open a data set given in Python: every item that takes part is read once, and its image kept if all fit.

    The sample index is the position in the data set. The classes are its attribute `classes`, else 0 to the largest
    label, which a note says.

    data: the data sets.
    options: max_samples, cache_images, device, workers, processes and progress are used.
    Raises UserError for items that differ in shape or dtype, labels that are no class, and a data set whose length or
    items change from one read to the next.
    """
    given = [(dataset, what) for dataset, what in zip(data, ("training", "test"), strict=True) if dataset is not None]
    shapes = [image_shape(dataset) for dataset, _ in given]
    height, width, channels = shape = shapes[0]
    if shapes[-1] != shape:
        raise UserError(
            f"the test images have the shape {shapes[-1]}, and the training images {shape}",
            "resize or convert them to one shape",
            option="test",
        )
    counts = [len(subset(len(dataset), options.max_samples)) for dataset, _ in given]
    plan = plan_for(options, sum(counts) * height * width * channels)
    splits = [_split(dataset, what, shape, options, stay=plan.stay) for dataset, what in given]
    classes, notes = _classes(data, splits)
    notes += square_note(height, width, options.size)
    name = f"python {name_of_type(data.train)}"
    opened = Dataset(OWN, name, classes, splits[0], splits[1] if len(splits) > 1 else None)
    if not plan.stay:
        opened = replace(opened, sample=digest_some(opened.train))
    return replace(opened, notes=(*notes, f"images {plan}"))


def name_of_type(dataset: Any) -> str:
    """Return the class of a data set, with its module."""
    return f"{type(dataset).__module__}.{type(dataset).__qualname__}"


def _split(dataset: Any, what: str, shape: tuple[int, int, int], options: DataOptions, *, stay: bool) -> Split:
    index = subset(len(dataset), options.max_samples)
    source = OwnImages(dataset, f"{name_of_type(dataset)} ({what})", shape, options)
    labels = torch.zeros(len(dataset), dtype=torch.int64)
    held = torch.empty((len(index) if stay else 0, *shape), dtype=torch.uint8, device=options.device)
    done = 0
    try:
        for pixels, part in source.read_items(index.split(DECODED_AT_ONCE)):
            labels[index[done : done + len(part)]] = part
            if stay:
                held[done : done + len(part)] = pixels
            done += len(part)
            if options.progress is not None:
                options.progress(f"reading {what} images", done, len(index))
        source.check_length()
        _check_repeatable(source, index, labels, what)
    except BaseException:
        source.end_workers()
        raise
    images: Images = source
    if stay:
        images = InMemoryImages(held, options.device, None if len(index) == len(labels) else index)
    return Split(images, labels, index)


def _check_repeatable(source: OwnImages, index: Tensor, labels: Tensor, what: str) -> None:
    """Raise UserError where some evenly spaced samples are not the same each time they are read."""
    few = index[torch.linspace(0, len(index) - 1, min(len(index), READ_TWICE), dtype=torch.float64).round().long()]
    (first, classes), (again, _) = (next(source.read_items([few])) for _ in range(2))
    changed = (first != again).flatten(1).any(1).cpu() | (classes != labels[few])
    if changed.any():
        raise UserError(
            f"item {int(few[changed][0])} of the {what} data changes from one read to the next",
            "omit its random transforms; Train(augment=...) has reproducible ones",
            option="data",
        )


def _classes(data: OwnData, splits: list[Split]) -> tuple[tuple[str, ...], list[str]]:
    """Return the names of the classes, and what must be said of them. Raises UserError for a label that is none."""
    named, *others = (_named(dataset) for dataset in data if dataset is not None)
    if named and any(other not in ((), named) for other in others):
        raise UserError("the test data has other classes than the training data", "give the same", option="test")
    labels = [split.labels[split.index] for split in splits]
    most = max(int(part.max()) for part in labels)
    count = len(named) or most + 1
    samples = max(len(split.labels) for split in splits)
    if (count > samples and not named) or most >= count:
        given = f"{count} classes" if named else f"{samples} samples, and no attribute classes"
        raise UserError(
            f"the label {most} is out of range: there are {given}",
            "number the classes from 0 on",
            option="data",
            value=most,
        )
    if count < 2:
        raise UserError("all labels are 0", "give at least 2 classes", option="data")
    if named:
        return named, []
    notes = [f"{count} classes: the data set has no attribute classes, and its largest label is {most}"]
    absent = sorted(set(range(count)) - set(labels[0].tolist()))
    if absent:
        several = f" and {len(absent) - 1} others" if len(absent) > 1 else ""
        notes.append(f"no training image has the label {absent[0]}{several}")
    return tuple(map(str, range(count))), notes


def _named(dataset: Any) -> tuple[str, ...]:
    try:
        classes = getattr(dataset, "classes", None)
    except Exception as error:
        problem = f"the attribute classes of {name_of_type(dataset)} cannot be read ({type(error).__name__})"
        raise UserError(problem, "give a list of names, or no such attribute", option="data") from error
    is_list = isinstance(classes, Sequence) and not isinstance(classes, str | bytes)
    return tuple(map(str, classes)) if is_list and classes else ()
