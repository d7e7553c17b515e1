"""The prior as it codes: the PixelCNN in integers, bit-identical on every machine.

Every number here is an integer.  Matrix products run in float32 over integers below 2^24, other
steps in float64 over integers below 2^53: exact in any order of summation, with any number of
threads and any instruction set.  `FORMAT.md` states the same computation for other implementers.

Positions of a code map are rows: a map is cut into tiles whose contexts do not cross, each tile is
laid out with a margin of zeros, and a position is an index into that layout.  All positions of a
wavefront step (the same `x + 2 y` within their tile) are independent of each other, so `hidden`
serves the decoder, a step at a time, and the encoder, the whole map at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqzip.errors import VqzError
from vqzip.threads import share

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
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

MARGIN = 2  # rows above, columns at each side
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

    def _products(self, x: NDArray[Any], scale: Doubles) -> Doubles:
        sums: Floats = x.astype(np.float32, copy=False) @ self.matrix
        return np.multiply(sums, scale, dtype=np.float64)


@dataclass(frozen=True)
class Layout:
    """A map's tiles, each with a margin of zeros, and the order in which positions are coded."""

    height: int
    width: int
    tile: int

    @cached_property
    def tiles(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return -(-self.height // self.tile), -(-self.width // self.tile)

    @cached_property
    def _block(self) -> tuple[int, int]:
        return (
            min(self.tile, self.height) + MARGIN,
            min(self.tile, self.width) + 2 * MARGIN,
        )

    @property
    def cells(self) -> int:
        """Rows of an array that holds the laid-out map."""
        rows, columns = self._block
        return self.tiles[0] * self.tiles[1] * rows * columns

    @cached_property
    def order(self) -> tuple[Ints, Ints, Ints]:
        """Indices into the layout and into the plain map in coding order, and each step's start.

        Ordered by wavefront step `x + 2 y` within the tile, then by tile, then by row.
        """
        y, x = np.divmod(np.arange(self.height * self.width), self.width)
        tile_y, local_y = np.divmod(y, self.tile)
        tile_x, local_x = np.divmod(x, self.tile)
        tile = tile_y * self.tiles[1] + tile_x
        step = local_x + 2 * local_y
        order = np.lexsort((local_y, tile, step))
        rows, columns = self._block
        index = (tile * rows + local_y + MARGIN) * columns + local_x + MARGIN
        starts = np.flatnonzero(np.diff(step[order], prepend=-1))
        return index[order], order, np.append(starts, len(order))

    def taps(self, radius: int, inclusive: bool) -> Ints:
        """Offsets of a causal kernel's taps in the layout, rows from the top, left to right."""
        columns = self._block[1]
        offsets = [
            -up * columns + across
            for up in range(radius, 0, -1)
            for across in range(-radius, min(radius, up) + 1)
        ]
        offsets += list(range(-radius, 1 if inclusive else 0))
        return np.array(offsets)


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
        self.to_slice = [Linear(part, f"to_slice.{i}", ACTIVATION_LEVELS) for i in count]
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

    def put(self, cells: Ints, slice_index: int, inputs: NDArray[np.int8]) -> None:
        """Store a slice's codewords as the network sees them (n, channels of the slice)."""
        start, end = self.prior.starts[slice_index : slice_index + 2]
        self.inputs[cells, start:end] = inputs

    def hidden(self, cells: Ints, places: Ints) -> Bytes:
        """Activations (n, width) that all slices of the positions share.

        `cells` index the layout, `places` the plain map.  All positions that the given ones depend
        on must have been put, and passed to `hidden` before or be among the given ones.
        """
        prior = self.prior
        f = np.empty((len(cells), prior.embedding.shape[1]))

        def start(rows: slice) -> None:
            f[rows] = prior.context(_gather(self.inputs, cells[rows], self._context_taps))
            f[rows] += prior.embedding[self.level]
            if prior.condition is not None:
                assert self.condition is not None
                f[rows] += prior.condition(self.condition[places[rows]])

        share(start, len(cells))
        for spatial, pointwise, stored in zip(
            prior.spatial, prior.pointwise, self.activations, strict=True
        ):
            self._layer(f, cells, spatial, pointwise, stored)
        return activate(f)

    def _layer(
        self, f: Doubles, cells: Ints, spatial: Linear, pointwise: Linear, stored: Bytes
    ) -> None:
        def store(rows: slice) -> None:
            stored[cells[rows]] = activate(f[rows])

        def add(rows: slice) -> None:
            seen = _gather(stored, cells[rows], self._spatial_taps)
            f[rows] += pointwise(spatial.activations(seen))

        share(store, len(cells))
        share(add, len(cells))

    def features(self, cells: Ints, hidden: Bytes, slice_index: int) -> Doubles:
        """F of a slice (n, channels, 4): what a codebook's logits are linear in.

        The slices before it must have been put at these cells.
        """
        prior, i = self.prior, slice_index
        start, end = prior.starts[i : i + 2]
        if start:
            u = prior.to_slice[i](hidden)
            u += prior.previous[i](self.inputs[cells, :start])
            active = activate(u)
        else:
            active = prior.to_slice[i].activations(hidden)
        features = prior.heads[i](active).reshape(len(cells), end - start, 4)
        _clamp(features, -HEAD_MAX, HEAD_MAX)
        log_scale = features[..., 1] + prior.log_scale[self.level, start:end]
        step = shift_right(log_scale * SCALE_STEP, HEAD_SHIFT) - SCALE_LOWEST * SCALE_STEP
        precision = prior.precision.take(step.astype(np.int64), mode="clip")
        mean = shift_right(features[..., 0] * prior.unit[self.level, start:end], UNIT_SHIFT)
        _clamp(mean, -MEAN_MAX, MEAN_MAX)
        mean *= precision
        np.multiply(mean, 2, out=features[..., 0])
        features[..., 1] = precision
        features[..., 2:] *= 2.0**TAIL_SHIFT
        return features


def _gather(rows: NDArray[Any], cells: Ints, taps: Ints) -> NDArray[Any]:
    """Rows of the neighbours of each cell side by side, (n, taps * channels)."""
    gathered: NDArray[Any] = rows.take(cells[:, None] + taps, axis=0).reshape(len(cells), -1)
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
    padded = np.pad(rows, ((1, 1), (1, 1), (0, 0)))[start : stop + 2]
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
    patches: NDArray[Any] = windows.transpose(0, 1, 3, 4, 2).reshape(
        (stop - start) * rows.shape[1], -1
    )
    return patches
