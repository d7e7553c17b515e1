"""The structures of the compiled loops, as `native.c` and what it includes have them."""

from __future__ import annotations

import ctypes
from ctypes import Structure, c_int64, c_void_p
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def address(array: Array) -> int:
    """Where an array's numbers are, which have to lie one after the other."""
    where: int = array.__array_interface__["data"][0]
    return where


class Kept(Structure):
    """A structure that keeps the arrays that it points into."""

    def __init__(self, *values: Array | Kept | int | None) -> None:
        assert all(v.flags.c_contiguous for v in values if isinstance(v, np.ndarray))
        self.kept = values
        super().__init__(*map(_word, values))

    @property
    def pointer(self) -> int:
        """Where it is."""
        return ctypes.addressof(self)


def _word(value: Array | Kept | int | None) -> int | None:
    """What stands for a value in a structure."""
    if isinstance(value, np.ndarray):
        return address(value)
    return value.pointer if isinstance(value, Kept) else value


class Linear(Kept):
    """A layer."""

    _fields_ = (
        *((name, c_void_p) for name in ("matrix", "bytes", "first", "scale", "offset")),
        *((name, c_int64) for name in ("inputs", "outputs")),
    )


class Convolution(Kept):
    """A convolution of floats, with borders of zeros around what it is done to."""

    _fields_ = (
        *((name, c_void_p) for name in ("kernel", "bias", "largest", "down", "across", "length")),
        *((name, c_int64) for name in ("outputs", "channels", "taps", "runs")),
        *((name, c_int64) for name in ("border", "reach")),
    )


class Filter(Kept):
    """A picture's own filter: weights of each output colour, and where neighbours are."""

    _fields_ = tuple(
        (name, c_void_p) for name in ("bias", "centre", "taps", "others", "down", "across")
    )


class Network(Kept):
    """A map's shared layers, and what its cells hold."""

    _fields_ = (
        *((name, c_void_p) for name in ("context", "spatial", "pointwise", "last")),
        *((name, c_void_p) for name in ("inputs", "activations")),
        *((name, c_void_p) for name in ("context_taps", "spatial_taps")),
        *((name, c_int64) for name in ("layers", "cells")),
        *((name, c_int64) for name in ("context_tap_count", "spatial_tap_count")),
    )
    owned: tuple[Any, ...] = ()


class Slice(Kept):
    """The layers of a slice, as `slices.Slice` has them."""

    _fields_ = (
        *((name, c_void_p) for name in ("previous", "head", "back")),
        *((name, c_void_p) for name in ("low", "high", "tail", "unit", "precision")),
        *((name, c_int64) for name in ("channels", "start")),
    )


class Book(Kept):
    """The tables of a slice's codebooks, as `entropy.CodebookTable` has them."""

    _fields_ = (
        *((name, c_void_p) for name in ("phi", "squares", "rows")),
        *((name, c_int64) for name in ("groups", "size", "dim")),
    )


class Choice(Kept):
    """What the codes of a slice are chosen by in a run, and where they go."""

    _fields_ = (
        *((name, c_void_p) for name in ("slice", "book", "table")),
        *((name, c_void_p) for name in ("slopes", "squares", "sums", "codes", "adapted")),
        ("first", c_int64),
    )


class Adaptation(Kept):
    """What a slice learns from its codes, as `adaptation.Adaptation` has it."""

    _fields_ = (
        *((name, c_void_p) for name in ("labels", "first", "logarithms")),
        *((name, c_void_p) for name in ("start", "gains")),
        *((name, c_void_p) for name in ("seen", "expected", "slopes", "squares")),
        ("threads", c_int64),
    )
