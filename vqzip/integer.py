"""The prior as it codes: the PixelCNN in integers, bit-identical on every machine.

Every number here is an integer.  Matrix products run in float32 over integers below 2^24, other
steps in float64 over integers below 2^53: exact in any order of summation, with any number of
threads and any instruction set.  `FORMAT.md` states the same computation for other implementers.

Positions of a code map are rows, and a position is a cell of its `Layout`.  All positions of a
wavefront step are independent of each other, so `hidden` serves the decoder, a step at a time, and
the encoder, many steps at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqzip.errors import VqzError
from vqzip.layout import Ints, Layout
from vqzip.threads import share

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
    return _to_activations(y)


def _to_activations(y: Doubles) -> Bytes:
    return _clamp(y, 0, ACTIVATION_LEVELS).astype(np.uint8)  # which rounds down


def _clamp(y: Doubles, low: float, high: float) -> Doubles:
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
        return _to_activations(y)

    def folded(self) -> tuple[Doubles, Doubles]:
        """Matrix and offset in float64, what is to be rounded down to fixed point.

        For a layer of few inputs it takes less time to multiply once, in twice the width.
        """
        return self.matrix * self._scale, self._offset

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
        self.previous = [Linear(part, f"previous.{i}", INPUT_MAX).folded() for i in count]
        self.heads = [Linear(part, f"head.{i}", ACTIVATION_LEVELS).folded() for i in count]
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
        return _clamp(shift_right(scaled, INPUT_SHIFT), -INPUT_MAX, INPUT_MAX).astype(np.int8)


class Coding:
    """A map on its way through the prior: the state that decoding fills step by step."""

    def __init__(
        self, prior: IntegerPixelCNN, layout: Layout, level: int, condition: Bytes | None
    ) -> None:
        """`condition` (height * width, channels): activations for the plain map, or None."""
        self.prior, self.layout, self.level = prior, layout, level
        self.inputs = np.zeros((layout.cells, prior.channels), np.int8)
        width = prior.embedding.shape[1]
        self.activations = [np.zeros((layout.cells, width), np.uint8) for _ in prior.spatial]
        self.condition = condition
        self._context_taps = layout.taps(2, inclusive=False)
        self._spatial_taps = layout.taps(1, inclusive=True)
        self._slices = [Slice(prior, i, level) for i in range(len(prior.slices))]

    def open(self, begin: int, end: int) -> None:
        """Make room for some steps, in order."""
        reused = self.layout.reused(begin, end)
        if len(reused):
            for rows in (self.inputs, *self.activations):
                rows.reshape(self.layout.held, self.layout.lines, -1)[reused] = 0

    def put(self, cells: Ints, inputs: NDArray[Any]) -> None:
        """Store codewords as the network sees them (n, channels)."""
        self.inputs[cells] = inputs

    def start(self, places: Ints) -> Doubles:
        """What positions start from, whatever their context, in fixed point (n, width)."""
        # The half for rounding to activations is in here, once for all layers.
        base = self.prior.embedding[self.level] + 2 ** (ACTIVATION_SHIFT - 1)
        f = np.empty((len(places), len(base)))

        def work(rows: slice) -> None:
            f[rows] = base
            if self.prior.condition is not None:
                assert self.condition is not None
                f[rows] += self.prior.condition(self.condition[places[rows]])

        share(work, len(places))
        return f

    def hidden(self, cells: Ints, start: Doubles, one_step: bool = False) -> Doubles:
        """What all slices share, side by side as in `shares`, in fixed point (n, outputs).

        `start` is what `start` gives for these positions.  All positions that they depend on must
        have been put, and passed to `hidden` before or be among the given ones; if these are
        `one_step`, none depends on another and threads need not wait for each other.
        """
        prior = self.prior
        f = np.empty_like(start)
        out = np.empty((len(cells), prior.to_slices.matrix.shape[1]))

        def finish(layer: int, rows: slice) -> None:
            active = _to_activations(f[rows] * 2.0**-ACTIVATION_SHIFT)
            if layer < len(self.activations):
                self.activations[layer][cells[rows]] = active
            else:
                out[rows] = prior.to_slices(active)

        def begin(rows: slice) -> None:
            context = prior.context(_gather(self.inputs, cells[rows], self._context_taps))
            np.add(context, start[rows], out=f[rows])
            finish(0, rows)

        def add(layer: int, rows: slice) -> None:
            seen = _gather(self.activations[layer], cells[rows], self._spatial_taps)
            f[rows] += prior.pointwise[layer](prior.spatial[layer].activations(seen))
            finish(layer + 1, rows)

        layers = range(len(self.activations))
        stages: list[Callable[[slice], None]] = [begin, *(partial(add, i) for i in layers)]

        def all_stages(rows: slice) -> None:
            for stage in stages:
                stage(rows)

        for work in [all_stages] if one_step else stages:
            share(work, len(cells))
        return out

    def features(self, hidden: Doubles, seen: NDArray[Any], slice_index: int) -> Doubles:
        """F of a slice (n, channels, 4): what a codebook's logits are linear in.

        `seen` are the codewords of the slices before it (n, at least their channels) as the network
        sees them.
        """
        return self._slices[slice_index].features(hidden, seen)


class Slice:
    """The layers of one slice at one level, from what all slices share to features."""

    def __init__(self, prior: IntegerPixelCNN, index: int, level: int) -> None:
        self._start, end = prior.starts[index : index + 2]
        self._share = prior.shares[index]
        channels = slice(self._start, end)
        matrix, offset = prior.previous[index]
        self._previous = matrix * 2.0**-ACTIVATION_SHIFT
        self._offset = offset * 2.0**-ACTIVATION_SHIFT + 0.5
        if not self._start:
            self._offset = np.full_like(offset, 0.5)
        matrix, offset = prior.heads[index]
        # Of the four numbers of a channel, the second is made an entry of the precision table:
        # steps of the table, the half for rounding, and its start, folded in; then it is clamped
        # to what the clamped logarithm would give and to the table.
        step = SCALE_STEP * 2.0**-HEAD_SHIFT
        first = (prior.log_scale[level, channels]) * step + 0.5 - SCALE_LOWEST * SCALE_STEP
        self._head = matrix.reshape(len(matrix), -1, 4).copy()
        self._head[:, :, 1] *= step
        self._head = self._head.reshape(matrix.shape)
        offsets = offset.reshape(-1, 4).copy()
        offsets[:, 1] = offsets[:, 1] * step + first
        self._head_offset = offsets.reshape(-1)
        last = len(prior.precision) - 1
        bounds = np.full((2, end - self._start, 4), float(HEAD_MAX))
        bounds[0] *= -1
        bounds[:, :, 1] = np.clip(np.floor(bounds[:, :, 1] * step + first), 0, last)
        self._low, self._high = bounds.reshape(2, -1)
        self._tail = np.tile([1.0, 1.0, 2.0**TAIL_SHIFT, 2.0**TAIL_SHIFT], end - self._start)
        self._precision = prior.precision
        self._unit = prior.unit[level, channels] * 2.0**-UNIT_SHIFT

    def features(self, hidden: Doubles, seen: NDArray[Any]) -> Doubles:
        """See `Coding.features`."""
        u = hidden[:, self._share] * 2.0**-ACTIVATION_SHIFT
        u += self._offset
        if self._start:
            u += self._products(seen[:, : self._start], self._previous)
        _clamp(u, 0, ACTIVATION_LEVELS)
        y = self._products(np.floor(u, out=u), self._head)
        y += self._head_offset
        np.floor(y, out=y)
        np.maximum(y, self._low, out=y)
        np.minimum(y, self._high, out=y)
        y *= self._tail
        features = y.reshape(len(y), -1, 4)
        precision = self._precision.take(features[..., 1].astype(np.int64))
        mean = features[..., 0] * self._unit
        mean += 0.5
        np.floor(mean, out=mean)
        _clamp(mean, -MEAN_MAX, MEAN_MAX)
        mean *= precision
        np.multiply(mean, 2, out=features[..., 0])
        features[..., 1] = precision
        return features

    def _products(self, x: NDArray[Any], matrix: Doubles) -> Doubles:
        products: Doubles = x @ matrix
        return products


def _gather(rows: NDArray[Any], cells: Ints, taps: Ints) -> NDArray[Any]:
    """Rows of the neighbours of each cell side by side, (n, taps * channels)."""
    near = rows.take(cells[:, None] + taps, axis=0, mode="wrap")
    gathered: NDArray[Any] = near.reshape(len(cells), -1)
    return gathered


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
