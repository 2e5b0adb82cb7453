"""The ops on the CPU, by their public functions; shapes, bytes, references and tolerances are those of gpu_cases."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from rethink_fast import corruptions, kernels, rng
from rethink_fast.data import preprocess as data_preprocess
from rethink_fast.data.preprocess import Preprocessing

from ..gpu_cases import REFERENCES, SEED, arguments, difference, smaller
from ..gpu_cases import Case as Op
from ..timing import PreparedCase
from . import Case

KINDS = ("", *corruptions.PIXEL_KINDS)
# older revisions call it prepare
preprocess = getattr(data_preprocess, "preprocess", None) or data_preprocess.prepare  # type: ignore[attr-defined]
ORDERED, IMAGENET = 100_000, 1_281_167


def public(op: Op, given: tuple) -> Callable[[], Tensor]:
    """The op as people call it. given: the arguments of the op itself."""
    if op.op == "corrupt_labels":
        labels, index, classes, probability, seed = given
        named = {"num_classes": classes, "probability": probability, "seed": seed}
        return partial(corruptions.partially_corrupted_labels, labels, index, **named)
    if op.op == "prepare":
        images, rows, index, window, corruption, seed, mean, std, size, _, _, _, _, normalisation, dtype = given
        stages = {"normalisation": normalisation, "mean": mean, "std": std, "dtype": dtype}
        preprocessing = Preprocessing(tuple(window), corruption, seed, tuple(size), **stages)
        return partial(preprocess, images, rows, index, preprocessing, epoch=None)
    if op.op == "gaussian":
        index, height, width, mean, std, seed = given
        images = torch.empty(len(index), height, width, len(mean), dtype=torch.uint8)
        return partial(corruptions.gaussian, images, index, seed=seed, mean=mean, std=std)
    if op.op == "shuffled_pixels":
        return partial(corruptions.shuffled_pixels, given[0], torch.arange(len(given[0])), seed=given[1])
    return partial(corruptions.random_pixels, *given[:-1], seed=given[-1])


def make(op: Op, against: str) -> PreparedCase:
    """against: "reference", "copy" for copying as many bytes within the memory there is, "clone" for copying them into
    new memory, as the op writes its output, or "randn" for torch.randn of the op's shape."""
    given, few = arguments(op, "cpu"), smaller(op)

    def wrong() -> str:
        small = arguments(few, "cpu")
        return difference(few, public(few, small)(), REFERENCES[op.op](*small))

    baseline: Callable[[], object]
    if against == "copy":
        source = torch.ones(op.bytes // 2, dtype=torch.uint8)
        baseline = partial(torch.ones_like(source).copy_, source)
    elif against == "clone":
        baseline = torch.ones(op.bytes // 2, dtype=torch.uint8).clone
    elif against == "randn":
        baseline = partial(torch.randn, op.batch, op.size, op.size, op.channels)
    else:
        baseline = partial(REFERENCES[op.op], *given)
    return PreparedCase(public(op, given), wrong, baseline, against, bytes=op.bytes)


def make_order(n: int) -> PreparedCase:
    """An epoch's order, as the loader asks for it: before there was an op, of the reference."""
    reference = partial(rng.order, 1, 2, n)
    call = partial(getattr(kernels, "order", rng.order), 1, 2, n)
    wrong = lambda: "" if torch.equal(call(), reference()) else "another order"  # noqa: E731
    return PreparedCase(call, wrong, reference, "reference", bytes=8 * n)


def make_single() -> PreparedCase:
    """One small image with every augmentation: mostly what a call itself costs."""
    images, one = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8), torch.tensor([2])
    preprocessing = Preprocessing((0, 0, 32, 32), "", SEED, (28, 28), crop=True, flip=True, normalisation="unit_range")

    def plain() -> Tensor:
        from rethink_fast.augment import random_crop, random_flip, unit_range

        cropped = random_crop(images[one], one, (28, 28), seed=SEED, epoch=3)
        return unit_range(random_flip(cropped, one, seed=SEED, epoch=3)).permute(0, 3, 1, 2)

    call = partial(preprocess, images, one, one, preprocessing, epoch=3)
    return PreparedCase(call, lambda: "" if torch.equal(call(), plain()) else "another image", plain, "reference")


def make_resize() -> PreparedCase:
    """A photograph's centre brought to 299 pixels, beside torch's own antialiased filter."""
    from rethink_fast.data import resize as ours

    image, out = torch.randint(0, 256, (328, 437, 3), dtype=torch.uint8), torch.empty(1, 299, 299, 3, dtype=torch.uint8)
    call = partial(ours.resize, [image], out)
    picture = image.permute(2, 0, 1)[None]
    plain = partial(torch.nn.functional.interpolate, picture, size=(299, 299), mode="bilinear", antialias=True)

    def wrong() -> str:
        expected = torch.empty_like(out)
        ours._reference([image], expected)
        call()
        return "" if torch.equal(out, expected) else "another image"

    return PreparedCase(call, wrong, plain, "torch", bytes=image.numel() + out.numel())


def row(op: Op, against: str, min_speedup: float | None = None, compared: bool = False) -> Case:
    """A case of an op; its name says what it is compared with."""
    return Case(f"{op.name} / {against}", "op", partial(make, op, against), min_speedup, compared)


def cases() -> list[Case]:
    """Against the reference on few images, where that takes long; against a copy at the paper's shapes.

    min_speedup: half of what two cores of an AMD EPYC with AVX-512 gave, rounded down: AVX2 alone halves most of them.
    """
    out = []
    for size, channels in ((224, 3), (28, 1)):
        few = 4 if size > 100 else 64
        for op, floor in (("random_pixels", 20.0), ("shuffled_pixels", 2.0), ("gaussian", 8.0)):
            out.append(row(Op(op, few, size, channels), "reference", floor if size > 100 else None))
    out.append(row(Op("corrupt_labels", 100_000), "reference", 20.0, compared=True))
    out.append(Case(f"order {ORDERED}", "op", partial(make_order, ORDERED), 20.0, compared=True))
    for op in ("random_pixels", "shuffled_pixels", "gaussian"):
        out.append(row(Op(op, 2, 224, 3), "copy", compared=True))
    for kind in KINDS:
        out.append(row(Op("prepare", 2, 224, 3, kind), "copy", compared=True))
        out.append(row(Op("prepare", 64, 28, 3, kind, "whiten", torch.float32), "copy", compared=True))
        out.append(row(Op("prepare", 128, 299, 3, kind), "copy"))
        out.append(row(replace(Op("prepare", 4, 224, 3, kind), dtype=torch.float32), "reference"))
    out.append(row(Op("prepare", 64, 224, 3, dtype=torch.float32), "copy"))
    out.append(Case("prepare a single image, augmented", "op", make_single, 2.0, compared=True))
    out.append(Case("resize 328x437 to 299x299", "op", make_resize, 1.3, compared=True))
    return out


def paper_shapes() -> list[Case]:
    """Every preparation of a batch of 128 in the paper's sizes, and references that take seconds and gigabytes.

    A clone pays for fresh memory as the op does: glibc maps an output above 32 MB each time, unless it is made to keep
    what is freed, as `make perf` does. In bfloat16 at 224 x 224 the clone itself stays below that.
    """
    out = []
    dtypes = (torch.float32, torch.bfloat16)
    for size, dtype, kind, normalisation in itertools.product((299, 224), dtypes, KINDS, ("unit_range", "whiten")):
        out.append(row(Op("prepare", 128, size, 3, kind, normalisation, dtype), "clone"))
    out.append(row(Op("corrupt_labels", IMAGENET), "reference"))
    out.append(Case(f"order {IMAGENET}", "op", partial(make_order, IMAGENET)))
    for op in ("random_pixels", "gaussian"):
        out.append(row(Op(op, 8, 299, 3), "reference"))
    return [*out, *(row(Op("gaussian", 128, size, 3), "randn") for size in (299, 224))]
