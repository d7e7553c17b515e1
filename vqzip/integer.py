"""The prior as it codes: the PixelCNN in integers, bit-identical on every machine.

Every number here is an integer.  Matrix products run in float32 over integers below 2^24, other
steps in float64 over integers below 2^53: exact in any order of summation, with any number of
threads and any instruction set.  `FORMAT.md` states the same computation for other implementers.

Here are the layers and what a model's tensors say of them; `coding.py` takes a map through them.
"""

from __future__ import annotations

from copy import copy
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqzip import native, structures
from vqzip.errors import VqzError

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Tensors = dict[str, NDArray[np.generic]]

REQUANTIZE_SHIFT = 22  # fraction bits of the multipliers from accumulators to fixed point
ACTIVATION_SHIFT = 5  # fixed point to activations: 1280 and 40 to the unit
ACTIVATION_LEVELS = 240
INPUT_MAX = 127
INPUT_SHIFT = 16
CODEWORD_ONE = 64  # codewords and means are fixed point with 6 fraction bits
HEAD_SHIFT = 12
HEAD_MAX = 2**18
MEAN_MAX = 2**15
UNIT_SHIFT = 14  # normalized means (12 fraction bits) times units (8) to code units (6)
TAIL_SHIFT = 10
LOGIT_SHIFT = 28  # fraction bits of logits
BIAS_SHIFT = 16  # codebook biases (12 fraction bits) to logits (28)
MAX_PRECISION = 2**21  # of the table's entries
SCALE_STEP = 64  # entries of the precision table to a natural logarithm
SCALE_LOWEST = -4
SCALE_HIGHEST = 5

EXACT_FLOAT32 = 2**24
EXACT_FLOAT64 = 2**52


def shift_right(x: Doubles, bits: int) -> Doubles:
    """Divide integers by 2^bits, rounding half up; exact for |x| < 2^52."""
    y: Doubles = x * 2.0**-bits
    y += 0.5
    return np.floor(y, out=y)


def activate(x: Doubles) -> Bytes:
    """Fixed point to activations, integers in [0, 240]."""
    y = x * 2.0**-ACTIVATION_SHIFT
    y += 0.5
    return to_activations(y)


def to_activations(y: Doubles) -> Bytes:
    """The same of numbers of activations with a half on top, which are rounded down."""
    return clamp(y, 0, ACTIVATION_LEVELS).astype(np.uint8)


def clamp(y: Doubles, low: float, high: float) -> Doubles:
    """np.clip in place: on a step's few numbers that takes longer than the work itself."""
    np.maximum(y, low, out=y)
    return np.minimum(y, high, out=y)


class Linear:
    """int8 matrix, then a fixed-point multiplier and bias for each output."""

    def __init__(self, tensors: Tensors, name: str, largest_input: int) -> None:
        weight = tensors[f"{name}.weight"]
        self.matrix = np.ascontiguousarray(weight.astype(np.float32).T)  # (inputs, outputs)
        multiplier = tensors[f"{name}.multiplier"].astype(np.float64)
        bias = tensors[f"{name}.bias"].astype(np.float64)
        reach = np.abs(self.matrix).sum(0, dtype=np.float64) * largest_input
        if reach.max(initial=0) >= EXACT_FLOAT32:
            raise VqzError(f"model: {name} is not exact: accumulators reach {reach.max():.0f}")
        product = reach * np.abs(multiplier) + np.abs(bias)
        if product.max(initial=0) >= EXACT_FLOAT64:
            raise VqzError(f"model: {name} is not exact: products reach {product.max():.0f}")
        # The division by 2^22 and the rounding are folded in: powers of two lose nothing.
        self._scale = multiplier * 2.0**-REQUANTIZE_SHIFT
        self._offset = bias * 2.0**-REQUANTIZE_SHIFT + 0.5
        # Rounding twice, to fixed point and on to activations, is rounding once with both halves.
        self._activation_scale = self._scale * 2.0**-ACTIVATION_SHIFT
        self._activation_offset = self._offset * 2.0**-ACTIVATION_SHIFT + 0.5

    def __call__(self, x: NDArray[Any]) -> Doubles:
        """Rows (n, inputs) of integers to fixed point (n, outputs)."""
        y = self._products(x, self._scale)
        y += self._offset
        return np.floor(y, out=y)

    def activations(self, x: NDArray[Any]) -> Bytes:
        """`activate` of the same."""
        y = self._products(x, self._activation_scale)
        y += self._activation_offset
        return to_activations(y)

    def native(self, active: bool = False, signed: bool = False) -> structures.Linear:
        """For the compiled loops; `active` if what they take of it is activations.

        `signed` if inputs are: those that are not are activations.
        """
        if active:
            scale, offset = self._activation_scale, self._activation_offset
        else:
            scale, offset = self._scale, self._offset
        return native.linear_of_bytes(self.matrix, scale, offset, signed)

    def parts(self) -> tuple[Floats, Doubles, Doubles]:
        """Matrix (inputs, outputs), and for each output scale and offset.

        Of sums times scale plus offset, what is rounded down is fixed point.
        """
        return self.matrix, self._scale, self._offset

    def narrowed(self, channels: int, kept: int) -> Linear:
        """The same layer for taps of `channels` inputs, when all but the first `kept` are zero."""
        narrow = copy(self)
        taps = self.matrix.reshape(-1, channels, self.matrix.shape[1])
        narrow.matrix = np.ascontiguousarray(taps[:, :kept]).reshape(-1, self.matrix.shape[1])
        return narrow

    def _products(self, x: NDArray[Any], scale: Doubles) -> Doubles:
        sums: Floats = x.astype(np.float32, copy=False) @ self.matrix
        products = sums.astype(np.float64)
        products *= scale
        return products


class IntegerPixelCNN:
    """One map's PixelCNN; holds no state, see `Coding`."""

    def __init__(self, tensors: Tensors, name: str, slices: tuple[int, ...]) -> None:
        self.slices = slices
        self.channels = sum(slices)
        part = {
            key.removeprefix(f"{name}."): value
            for key, value in tensors.items()
            if key.startswith(f"{name}.")
        }
        self.context = Linear(part, "context", INPUT_MAX)
        conditional = "condition.weight" in part
        self.condition = Linear(part, "condition", ACTIVATION_LEVELS) if conditional else None
        layers = sum(key.startswith("spatial.") and key.endswith(".weight") for key in part)
        self.spatial = [Linear(part, f"spatial.{i}", ACTIVATION_LEVELS) for i in range(layers)]
        self.pointwise = [Linear(part, f"pointwise.{i}", ACTIVATION_LEVELS) for i in range(layers)]
        count = range(len(slices))
        sizes = [len(part[f"to_slice.{i}.bias"]) for i in count]
        self.shares = [slice(*ends) for ends in pairwise(np.cumsum((0, *sizes)))]
        """Columns of what `to_slices` gives that are for each slice."""
        for kind in ("weight", "multiplier", "bias"):
            rows = [part[f"to_slice.{i}.{kind}"] for i in count]
            part[f"to_slice.{kind}"] = np.concatenate(rows)
        self.to_slices = Linear(part, "to_slice", ACTIVATION_LEVELS)
        self.previous = [Linear(part, f"previous.{i}", INPUT_MAX) for i in count]
        self.heads = [Linear(part, f"head.{i}", ACTIVATION_LEVELS) for i in count]
        self.embedding = part["embedding"].astype(np.float64)  # (positions of the scale, width)
        self.unit = part["unit"].astype(np.float64)  # (positions of the scale, channels)
        self.inverse_unit = part["inverse_unit"].astype(np.float64)
        self.log_scale = part["log_scale"].astype(np.float64)
        self.precision = part["precision"].astype(np.float64)
        if self.precision.min(initial=0) < 0 or self.precision.max(initial=0) > MAX_PRECISION:
            raise VqzError(f"model: {name}.precision is out of range")
        self.starts = np.cumsum((0, *slices))

    def inputs(self, vectors: NDArray[Any], level: int, start: int = 0) -> NDArray[np.int8]:
        """Codewords (n, channels from `start` on), in sixty-fourths, as the network sees them."""
        scaled = vectors * self.inverse_unit[level, start : start + vectors.shape[1]]
        return clamp(shift_right(scaled, INPUT_SHIFT), -INPUT_MAX, INPUT_MAX).astype(np.int8)


class Lift:
    """Top codes to the condition of the bottom prior: two 3x3 layers and a pixel shuffle."""

    def __init__(self, tensors: Tensors) -> None:
        self.first = Linear(tensors, "lift.0", INPUT_MAX)
        self.second = Linear(tensors, "lift.1", ACTIVATION_LEVELS)
        self.out = Linear(tensors, "lift.2", ACTIVATION_LEVELS)

    def __call__(self, inputs: NDArray[np.int8], rows: slice) -> Bytes:
        """Inputs of the top map (h, w, channels) to conditions of its `rows`, at twice the size.

        Returns (2 * number of rows, 2 * w, condition), activations.
        """
        height, width, _ = inputs.shape
        start, stop, _ = rows.indices(height)
        first, last = max(start - 1, 0), min(stop + 1, height)
        x = self.first.activations(_patches(inputs, first, last))
        x = x.reshape(last - first, width, -1)
        x = self.second.activations(_patches(x, start - first, stop - first))
        x = self.out.activations(x).reshape(stop - start, width, -1, 2, 2)
        lifted = x.transpose(0, 3, 1, 4, 2)
        return np.ascontiguousarray(lifted).reshape(2 * (stop - start), 2 * width, -1)


def _patches(rows: NDArray[Any], start: int, stop: int) -> NDArray[Any]:
    """3x3 neighbourhoods of map rows start..stop, zeros outside the map, (n, 9 * channels)."""
    first, last = max(start - 1, 0), min(stop + 1, len(rows))
    outside = (first - (start - 1), stop + 1 - last)
    padded = np.pad(rows[first:last], (outside, (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
    patches: NDArray[Any] = windows.transpose(0, 1, 3, 4, 2).reshape(
        (stop - start) * rows.shape[1], -1
    )
    return patches
