"""CorruptedDataset over the forms that images come in: the same form back, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from rethink_fast.errors import UserError
from tests.corruptions.forms import MODES, MOVING, TORCH_DTYPES, Picture, one


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
