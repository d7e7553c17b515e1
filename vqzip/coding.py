"""A code map on its way through the integer prior, from codes that are known to those that follow.

Positions of a code map are rows, and a position is a cell of its `Layout`.  All positions of a
wavefront step are independent of each other, so `hidden` serves the decoder, a step at a time, and
the encoder, many steps at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqzip.integer import (
    ACTIVATION_LEVELS,
    ACTIVATION_SHIFT,
    HEAD_MAX,
    HEAD_SHIFT,
    MEAN_MAX,
    SCALE_LOWEST,
    SCALE_STEP,
    TAIL_SHIFT,
    UNIT_SHIFT,
    Bytes,
    Doubles,
    IntegerPixelCNN,
    clamp,
    to_activations,
)
from vqzip.layout import Ints, Layout
from vqzip.threads import share


class Coding:
    """A map on its way through the prior: the state that decoding fills step by step."""

    def __init__(
        self,
        prior: IntegerPixelCNN,
        layout: Layout,
        level: int,
        condition: Bytes | None,
        coded: int | None = None,
    ) -> None:
        """`condition` (height * width, channels): activations for the plain map, or None.

        Only the first `coded` channels are ever other than zero; None is all.
        """
        self.prior, self.layout, self.level = prior, layout, level
        self._coded = prior.channels if coded is None else coded
        self.inputs = np.zeros((layout.cells, self._coded), np.int8)
        self._context = prior.context.narrowed(prior.channels, self._coded)
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
        self.inputs[cells] = inputs[:, : self._coded]

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
            active = to_activations(f[rows] * 2.0**-ACTIVATION_SHIFT)
            if layer < len(self.activations):
                self.activations[layer][cells[rows]] = active
            else:
                out[rows] = prior.to_slices(active)

        def begin(rows: slice) -> None:
            context = self._context(_gather(self.inputs, cells[rows], self._context_taps))
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
        clamp(u, 0, ACTIVATION_LEVELS)
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
        clamp(mean, -MEAN_MAX, MEAN_MAX)
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
