"""CorruptedDataset over the forms that items, images and labels come in: the same form back, or refused by name."""

from __future__ import annotations

import enum
from collections import OrderedDict, UserDict, namedtuple
from collections.abc import Callable
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset

from rethink_fast import CorruptedDataset
from rethink_fast.errors import UserError

MODES: tuple[str, ...] = (
    "1",
    "L",
    "LA",
    "La",
    "P",
    "PA",
    "RGB",
    "RGBA",
    "RGBa",
    "RGBX",
    "CMYK",
    "YCbCr",
    "HSV",
    "LAB",
    "I",
    "F",
)
MODES += ("I;16", "I;16B", "I;16L", "I;16N")
MOVING = ("shuffled_pixels", "random_pixels")


def one(image: Any, kind: str = "random_pixels", seed: int = 0, **how: Any) -> Any:
    """The image as it comes out, its label staying what it is."""
    label = object()
    moved, kept = CorruptedDataset([(image, label)], kind, seed=seed, **how)[0]
    assert kept is label
    return moved


def drawn(label: Any, classes: int = 10, seed: int = 0) -> Any:
    image = object()
    kept, new = CorruptedDataset([(image, label)], "random_labels", seed=seed, num_classes=classes)[0]
    assert kept is image
    return new


# Images


def source(height: int, width: int, seed: int, kind: str) -> np.ndarray:
    """From which position each pixel comes: int64 [H, W]."""
    return one(np.arange(height * width).reshape(height, width), kind, seed)


def pillow(mode: str, height: int, width: int) -> Image.Image:
    image = Image.new(mode, (width, height))
    content: np.ndarray = np.random.default_rng(0).integers(0, 256, len(image.tobytes()), dtype=np.uint8)
    if mode == "F":
        content = np.random.default_rng(0).random(height * width, dtype=np.float32)
    image.frombytes(content.tobytes())
    if mode in ("P", "PA"):
        image.putpalette(list(range(256)) * 3)
    image.info.update(dpi=(72, 72), transparency=3)
    return image


@pytest.mark.parametrize("kind", MOVING)
@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=8, deadline=None)
@given(height=st.integers(1, 9), width=st.integers(1, 20), seed=st.integers(0, 9))
def test_a_pillow_image_of_any_mode(mode: str, kind: str, height: int, width: int, seed: int) -> None:
    image = pillow(mode, height, width)
    before = image.tobytes()
    moved = one(image, kind, seed)
    assert (moved.mode, moved.size, moved.info) == (mode, image.size, image.info)
    assert moved.getpalette() == image.getpalette()
    assert image.tobytes() == before
    places = source(height, width, seed, kind)
    for y in range(height):
        for x in range(width):
            assert moved.getpixel((x, y)) == image.getpixel((int(places[y, x]) % width, int(places[y, x]) // width))


DTYPES = st.one_of(
    *(hnp.integer_dtypes(endianness=e) for e in "<>"),
    *(hnp.unsigned_integer_dtypes(endianness=e) for e in "<>"),
    hnp.floating_dtypes(endianness=">"),
    hnp.floating_dtypes(endianness="<"),
    hnp.complex_number_dtypes(),
    hnp.boolean_dtypes(),
    st.just(np.dtype([("depth", "<f4"), ("grey", "u1")])),
)
SHAPES = st.one_of(
    st.tuples(st.integers(1, 7), st.integers(1, 7)), st.tuples(*[st.integers(1, 7)] * 2, st.integers(1, 4))
)
LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "C": lambda a: a,
    "F": np.asfortranarray,
    "reversed": lambda a: a[::-1, ::-1],
    "transposed": lambda a: a.swapaxes(0, 1).copy().swapaxes(0, 1),
    "every second": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_an_array_of_any_dtype_and_layout(data: st.DataObject) -> None:
    dtype, shape = data.draw(DTYPES), data.draw(SHAPES)
    content = np.random.default_rng(data.draw(st.integers(0, 9))).bytes(int(np.prod(shape)) * dtype.itemsize)
    if dtype == np.bool_:
        content = bytes(byte & 1 for byte in content)
    array = LAYOUTS[data.draw(st.sampled_from(sorted(LAYOUTS)))](np.frombuffer(content, dtype).reshape(shape))
    array.setflags(write=data.draw(st.booleans()) and array.base is None)
    kind, seed = data.draw(st.sampled_from(MOVING)), data.draw(st.integers(0, 9))
    moved = one(array, kind, seed)
    assert (type(moved), moved.dtype, moved.shape) == (np.ndarray, array.dtype, array.shape)
    assert moved.flags.c_contiguous >= array.flags.c_contiguous
    assert moved.flags.f_contiguous >= array.flags.f_contiguous
    places = source(shape[0], shape[1], seed, kind)
    expected = array.copy().reshape(shape[0] * shape[1], *shape[2:])[places.ravel()].reshape(shape)
    assert moved.tobytes() == expected.tobytes()


TORCH_DTYPES: tuple[torch.dtype, ...] = (
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.uint16,
    torch.int32,
    torch.int64,
    torch.bool,
    torch.float16,
)
TORCH_DTYPES += (torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.float8_e4m3fn)


class Picture(torch.Tensor):
    """As tv_tensors.Image is one."""


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_tensor_of_any_dtype_and_layout(data: st.DataObject) -> None:
    dtype, shape = data.draw(st.sampled_from(TORCH_DTYPES)), data.draw(SHAPES)
    shape = (*shape[2:], *shape[:2])
    tensor = torch.rand(shape, generator=torch.Generator().manual_seed(1)).mul(2 if dtype == torch.bool else 200)
    tensor = tensor.to(torch.int64).to(dtype)
    if dtype.is_complex:
        tensor = tensor * (1 + 2j)
    layout = data.draw(st.sampled_from(["contiguous", "channels last", "transposed", "conj"]))
    if layout == "channels last":
        tensor = tensor.movedim(0, -1).contiguous().movedim(-1, 0)
    if layout == "transposed":
        tensor = tensor.transpose(-1, -2).contiguous().transpose(-1, -2)
    if layout == "conj":
        tensor = tensor.conj()
    if dtype.is_floating_point:
        tensor.requires_grad_(data.draw(st.booleans()))
    if data.draw(st.booleans()):
        tensor = tensor.as_subclass(Picture)
    kind, seed = data.draw(st.sampled_from(MOVING)), data.draw(st.integers(0, 9))
    moved = one(tensor, kind, seed)
    assert type(moved) is type(tensor)
    assert (moved.dtype, moved.shape, moved.stride()) == (dtype, tensor.shape, tensor.stride())
    assert moved.requires_grad == tensor.requires_grad
    places = torch.from_numpy(source(shape[-2], shape[-1], seed, kind)).flatten()
    expected = tensor.detach().flatten(-2)[..., places].reshape(tensor.shape)
    assert torch.equal(moved.to(torch.complex128), expected.to(torch.complex128))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            np.zeros((3, 32, 32)),
            r"type ndarray, shape \(3, 32, 32\) has its channels elsewhere: give \[H, W\] or \[H, W, C\]",
        ),
        (torch.zeros(32, 32, 3), r"type Tensor, shape \(32, 32, 3\) has its channels elsewhere: .*\[C, H, W\]"),
        (np.zeros((2, 8, 8, 3)), r"shape \(2, 8, 8, 3\) is unknown"),
        (torch.zeros(784), r"shape \(784,\) is unknown"),
        (np.zeros((0, 3)), r"shape \(0, 3\) is unknown"),
        (torch.zeros(3, 0, 4), r"shape \(3, 0, 4\) is unknown"),
        (Image.new("L", (0, 3)), "0x3 pixels"),
        (np.zeros((3, 3), object), "type ndarray and dtype object"),
        (np.zeros((3, 3), "U2"), "dtype <U2"),
        (np.ma.masked_array(np.zeros((3, 3))), "type MaskedArray"),
        (np.zeros((3, 3)).view(np.matrix), "type matrix"),
        (torch.zeros(3, 3).to_sparse(), "plain dense numbers"),
        ([[1, 2], [3, 4]], "type list is unknown: give a PIL image, an array or a tensor"),
        ({"bytes": b"", "path": None}, "type dict is unknown"),
        (b"\xff\xd8", "type bytes"),
        ("cat.jpg", "type str"),
        (None, "type NoneType"),
    ],
)
@pytest.mark.parametrize("kind", [*MOVING, "gaussian"])
def test_what_is_no_image_is_refused_by_name(image: Any, message: str, kind: str) -> None:
    with pytest.raises(UserError, match=f"^sample 0: an image .*{message}"):
        one(image, kind, mean=[1.0], std=[1.0])


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode not in ("1", "P", "PA")])
def test_gaussian_of_every_mode_has_its_channels(mode: str) -> None:
    image = pillow(mode, 5, 4)
    channels = len(image.getbands())
    noise = one(image, "gaussian", mean=[1.0] * channels, std=[2.0] * channels)
    assert (noise.dtype, noise.shape) == (np.float32, (5, 4, channels))
    again = one(np.zeros((5, 4, channels), ">i2"), "gaussian", mean=[1.0] * channels, std=[2.0] * channels)
    np.testing.assert_array_equal(again, noise)
    tensor = one(torch.zeros(channels, 5, 4, dtype=torch.bool), "gaussian", mean=[1.0] * channels, std=[2.0] * channels)
    assert (tensor.dtype, tensor.is_contiguous()) == (torch.float32, True)
    np.testing.assert_array_equal(tensor.permute(1, 2, 0), noise)


@pytest.mark.parametrize("mode", ["1", "P", "PA"])
def test_gaussian_of_indices_is_refused(mode: str) -> None:
    with pytest.raises(UserError, match=f"sample 0: gaussian draws .*mode {mode} has none: convert to RGB or L"):
        one(pillow(mode, 4, 4), "gaussian", mean=[1.0], std=[1.0])


def test_gaussian_with_other_statistics_is_refused() -> None:
    with pytest.raises(UserError, match="sample 0: the image has 1 channels, and mean and std have 3"):
        one(np.zeros((4, 4)), "gaussian", mean=[1.0] * 3, std=[1.0] * 3)
    for mean in (1.0, [float("nan")], [[1.0]]):
        with pytest.raises(UserError, match=r"mean .* is not allowed: give one finite number for each channel"):
            one(np.zeros((4, 4)), "gaussian", mean=mean, std=[1.0])


# Labels

NUMPY_TYPES: tuple[Any, ...] = (
    np.int8,
    np.int16,
    np.int32,
    np.int64,
    np.uint8,
    np.uint16,
    np.uint32,
    np.uint64,
    np.intp,
)
NUMPY_TYPES += (np.float16, np.float32, np.float64, np.longdouble)


class Colour(enum.Enum):
    RED = 1


class Two(enum.IntEnum):
    A = 0
    B = 1


class Digit(enum.IntEnum):
    ZERO, ONE, TWO, THREE, FOUR, FIVE, SIX, SEVEN, EIGHT, NINE = range(10)


class Number(int):
    pass


LABELS: dict[str, Any] = {
    "int": int,
    "float": float,
    "IntEnum": Digit,
    "subclass": Number,
    **{kind.__name__: kind for kind in NUMPY_TYPES},
    **{f"array {kind.__name__}": (lambda n, k=kind: np.array(n, k)) for kind in NUMPY_TYPES},
    **{f"array of one {kind.__name__}": (lambda n, k=kind: np.array([n], k)) for kind in NUMPY_TYPES},
    "array big-endian": lambda n: np.array([[n]], ">i4"),
    **{f"{d}": (lambda n, d=d: torch.tensor(n).to(d)) for d in TORCH_DTYPES[:-2] if d != torch.bool},
    **{f"{d} of one": (lambda n, d=d: torch.tensor([n]).to(d)) for d in TORCH_DTYPES[:-2] if d != torch.bool},
    "tensor with gradient": lambda n: torch.tensor(float(n), requires_grad=True),
    "tensor subclass": lambda n: torch.tensor(n).as_subclass(Picture),
}


@pytest.mark.parametrize("form", LABELS)
def test_a_label_of_any_form(form: str) -> None:
    labels = [drawn(3, seed=seed) for seed in range(20)]
    assert set(map(type, labels)) == {int}
    assert len(set(labels)) > 5
    given = LABELS[form](3)
    for seed in range(20):
        new = drawn(given, seed=seed)
        assert type(new) is type(given)
        assert new == labels[seed]
        if isinstance(given, np.ndarray | torch.Tensor):
            assert (new.dtype, new.shape) == (given.dtype, given.shape)
        if isinstance(given, torch.Tensor):
            assert new.requires_grad == given.requires_grad
    assert given == 3


@pytest.mark.parametrize("make", [bool, np.bool_, np.array, lambda n: torch.tensor(bool(n))])
def test_a_label_that_is_a_truth_value(make: Any) -> None:
    label = make(True) if make is not np.array else np.array(True)
    new = [drawn(label, classes=2, seed=seed) for seed in range(20)]
    assert [int(n) for n in new] == [drawn(1, classes=2, seed=seed) for seed in range(20)]
    assert {type(n) for n in new} == {type(label)}
    with pytest.raises(UserError, match="cannot hold the class 2: give labels as int"):
        drawn(label, classes=3)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (np.eye(10)[3], r"a label of shape \(10,\) is unknown: give the number of the class, not one-hot"),
        (torch.eye(10)[3], r"shape \(10,\)"),
        (np.zeros(0), r"shape \(0,\)"),
        ("3", "type str"),
        (b"3", "type bytes"),
        (np.str_("3"), "type str_"),
        (np.array("3"), "dtype <U1"),
        (np.array(3, object), "dtype object"),
        (np.datetime64(3, "ns"), "type datetime64"),
        (np.ma.masked_array(3), "type MaskedArray"),
        (3.5, "the label 3.5 is not a whole number"),
        (np.float32(0.5), "the label 0.5 is not"),
        (float("nan"), "the label nan is not"),
        (torch.tensor(float("inf")), "the label inf is not"),
        (3 + 0j, "type complex"),
        (torch.tensor(3 + 0j), "dtype torch.complex64"),
        (Decimal(3), "type Decimal"),
        ([3], "type list"),
        (None, "type NoneType"),
        (Colour.RED, "type Colour"),
        (Two.A, "type Two cannot hold the class 9"),
        (-1, r"the label -1 is not in 0 \.\.\. 9"),
        (10, "the label 10 is not in"),
        (np.uint8(255), "the label 255 is not in"),
    ],
)
def test_what_is_no_class_number_is_refused_by_name(label: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"^sample 0: .*{message}") as caught:
        drawn(label)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("label", [np.uint8(3), np.array(3, np.int8), torch.tensor(3, dtype=torch.uint8)])
def test_a_dtype_that_cannot_hold_all_classes_is_refused_whatever_is_drawn(label: Any) -> None:
    for seed in range(5):
        with pytest.raises(UserError, match="cannot hold the class 999: give labels as int"):
            drawn(label, classes=1000, seed=seed)


# Items

IMAGE = np.arange(24, dtype=np.uint8).reshape(4, 6)
Sample = namedtuple("Sample", "image label path")
Swapped = namedtuple("Swapped", "label img")
Unnamed = namedtuple("Unnamed", "x y")
ITEMS: dict[str, Any] = {
    "tuple": (IMAGE, 3, "more", None),
    "list": [IMAGE, 3, "more"],
    "namedtuple": Sample(IMAGE, 3, "a.png"),
    "namedtuple swapped": Swapped(3, IMAGE),
    "namedtuple unnamed": Unnamed(IMAGE, 3),
    "dict": {"label": 3, "image": IMAGE},
    "cifar10 of Hugging Face": {"img": IMAGE, "label": 3},
    "cifar100 of Hugging Face": {"img": IMAGE, "fine_label": 3, "coarse_label": 1},
    "beans of Hugging Face": {"image_file_path": "a", "image": IMAGE, "labels": 3},
    "after a processor": UserDict(pixel_values=IMAGE, labels=3),
    "ordered": OrderedDict(label=3, name="a", image=IMAGE),
}


def elements(item: Any) -> dict[Any, Any]:
    return dict(item) if hasattr(item, "keys") else dict(zip(getattr(item, "_fields", range(9)), item, strict=False))


@pytest.mark.parametrize("form", ITEMS)
@pytest.mark.parametrize("kind", ["random_labels", "random_pixels", "true_labels"])
def test_an_item_of_any_form(form: str, kind: str) -> None:
    item = ITEMS[form]
    before = elements(item)
    new = CorruptedDataset([item], kind, num_classes=10, seed=2)[0]
    assert type(new) is type(item)
    assert list(elements(new)) == list(before)
    changed = {key for key, value in elements(new).items() if value is not before[key]}
    assert len(changed) == (kind != "true_labels")
    for key in changed:
        if kind == "random_labels":
            assert (before[key], elements(new)[key]) == (3, drawn(3, seed=2))
        else:
            np.testing.assert_array_equal(elements(new)[key], one(IMAGE, seed=2))
    assert all(value is elements(item)[key] for key, value in before.items())


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"x": IMAGE, "label": 3}, "keys 'x', 'label' is unknown: name one of them image, img, pixel_values"),
        ({"image": IMAGE, "img": IMAGE, "label": 3}, "both 'image' and 'img' is ambiguous: keep one of them"),
        ((), "0 elements"),
        (IMAGE, "type ndarray is unknown"),
        ("ab", "type str is unknown"),
        (MappingProxyType({"image": IMAGE, "label": 3}), "type mappingproxy cannot be changed"),
        ((3, IMAGE), "an image of type int"),
    ],
)
def test_an_item_of_another_form_is_refused_by_name(item: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"^sample 0: .*{message}"):
        CorruptedDataset([item], "random_pixels")[0]


# Datasets


class Stream(IterableDataset[Any]):
    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Any:
        return iter([(IMAGE, 0)] * 3)


class NoLength:
    def __getitem__(self, i: int) -> Any:
        return IMAGE, 0


@pytest.mark.parametrize(
    "dataset", [Stream(), NoLength(), iter([]), {"train": [], "test": []}, DataLoader(TensorDataset(torch.arange(1)))]
)
def test_a_dataset_without_an_index_is_refused(dataset: Any) -> None:
    with pytest.raises(
        UserError, match=rf"^a dataset of type {type(dataset).__name__} (has no index|is a dict of 'train')"
    ):
        CorruptedDataset(dataset, "random_pixels")


class Broken:
    """Its last sample fails, as user code does."""

    def __init__(self, error: type[Exception]) -> None:
        self.error = error

    def __len__(self) -> int:
        return 3

    def __getitem__(self, i: int) -> Any:
        if i == 1:
            raise self.error("a fault of the dataset")
        return IMAGE, 0


@pytest.mark.parametrize("error", [IndexError, KeyError, OSError])
def test_a_fault_of_the_dataset_is_never_its_end(error: type[Exception]) -> None:
    with pytest.raises(error, match="a fault of the dataset"):
        list(CorruptedDataset(Broken(error), "random_pixels"))


def test_indexing() -> None:
    plain = TensorDataset(torch.arange(120.0).view(5, 1, 4, 6), torch.arange(5))
    dataset = CorruptedDataset(plain, "random_labels", num_classes=5)
    labels = [int(label) for _, label in dataset]
    assert len(labels) == 5
    positions: tuple[Any, ...] = (np.int64(4), torch.tensor(4), np.uint8(4), -1, np.int8(-1))
    for i in positions:
        assert int(dataset[i][1]) == labels[4]
    for wrong in (5, -6, 2**70):
        with pytest.raises(IndexError, match="is out of range: there are 5"):
            dataset[wrong]
    for other in (slice(0, 2), 1.0, "1", None):
        with pytest.raises(TypeError):
            dataset[other]  # type: ignore[index]
    assert [int(label) for _, label in map(Subset(dataset, [3, 1]).__getitem__, range(2))] == [labels[3], labels[1]]
    double = CorruptedDataset(ConcatDataset([plain, plain]), "random_labels", num_classes=5)
    assert [int(double[i][1]) for i in range(5)] == labels


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (7, "classes are of type int: give num_classes"),
        (["one"], "num_classes 1 is out of range"),
        (None, "num_classes"),
    ],
)
def test_classes_that_give_no_number(classes: Any, message: str) -> None:
    dataset = TensorDataset(torch.zeros(2, 1, 4, 4), torch.zeros(2))
    dataset.classes = classes  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=message):
        CorruptedDataset(dataset, "random_labels")
    CorruptedDataset(dataset, "random_pixels")
    assert len(CorruptedDataset(dataset, "random_labels", num_classes=4)) == 2


@pytest.mark.parametrize("num_classes", [1, 0, -3, 10.0, "10", 2**32])
def test_a_number_of_classes_that_is_none(num_classes: Any) -> None:
    with pytest.raises(ValueError, match=f"num_classes {num_classes!r} is"):
        CorruptedDataset([(IMAGE, 0)], "random_labels", num_classes=num_classes)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_give_the_same(start: str) -> None:
    dataset = CorruptedDataset(
        TensorDataset(torch.zeros(6, 1, 4, 4), torch.arange(6)), "gaussian", mean=[1.0], std=[2.0], num_classes=6
    )
    loader = DataLoader(dataset, batch_size=2, num_workers=1, multiprocessing_context=start)
    found = torch.cat([images for images, _ in loader])
    assert torch.equal(found, torch.stack([image for image, _ in dataset]))
