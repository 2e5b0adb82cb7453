"""CorruptedDataset over the forms that labels come in: the same form back, or refused by name."""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch

from rethink_fast.errors import UserError
from tests.corruptions.forms import TORCH_DTYPES, Picture, drawn

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
