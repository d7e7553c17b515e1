"""A code map on its way through the integer prior, from codes that are known to those that follow.

Positions of a code map are rows, and a position is a cell of its `Layout`.  All positions of a
wavefront step are independent of each other, so `hidden` serves the decoder, a step at a time, and
the encoder, many steps at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqzip import native
from vqzip.coder import SUMS, Sums
from vqzip.entropy import EXP2, RAREST, CodebookTable, look_up
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

_EXP2 = native.table(EXP2)


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
        self.slices = _slices(prior, level, native.library() is not None)
        self._native = self._compiled() if prior.spatial and native.library() else None

    def _compiled(self) -> native.Network:
        prior = self.prior
        spatial = [layer.native(active=True) for layer in prior.spatial]
        pointwise = [layer.native() for layer in prior.pointwise]
        layers = self._context.native(signed=True), spatial, pointwise, prior.to_slices.native()
        taps = self._context_taps, self._spatial_taps
        return native.network(layers, self.inputs, self.activations, taps)

    def open(self, begin: int, end: int) -> None:
        """Make room for some steps, in order."""
        reused = self.layout.reused(begin, end)
        if not len(reused):
            return
        # Around the end there are two runs of them, which are sooner zeroed than single ones.
        for run in np.split(reused, np.flatnonzero(np.diff(reused) != 1) + 1):
            for rows in (self.inputs, *self.activations):
                rows.reshape(self.layout.held, self.layout.lines, -1)[run[0] : run[-1] + 1] = 0

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
        f = np.empty_like(start)
        out = np.empty((len(cells), self.prior.to_slices.matrix.shape[1]))
        run = self._run if self._native is None else self._run_compiled

        def work(layers: range, rows: slice) -> None:
            run(layers, cells[rows], start[rows], f[rows], out[rows])

        everything = range(len(self.activations) + 1)
        for layers in [everything] if one_step else [range(i, i + 1) for i in everything]:
            native.spread(partial(work, layers), len(cells))
        return out

    def choose(self, choices: list[Choice], cells: Ints, begun: Doubles, starts: Ints) -> None:
        """Choose codes of all slices by error plus bits, each in the context of all before.

        For the steps of a run that start at these rows, the last number being the last step's end;
        cells (n,) and begun (n, width), which `start` gives, are those of all of the run.
        """
        pairs = list(zip(self.slices, choices, strict=True))
        if self._native is not None:
            compiled = [part.compiled(choice) for part, choice in pairs]
            run = cells, begun, starts
            native.walk(self._native, compiled, self.prior.channels, *run, _EXP2, RAREST)
            return
        for begin, end in pairwise(starts):
            rows = slice(begin, end)
            hidden = self.hidden(cells[rows], begun[rows], one_step=True)
            seen = np.empty((len(hidden), self.prior.channels), np.int8)
            for part, choice in pairs:
                part.choose(choice, hidden, seen, begin)
            self.put(cells[rows], seen)

    def _run_compiled(
        self, layers: range, cells: Ints, start: Doubles, f: Doubles, out: Doubles
    ) -> None:
        assert self._native is not None
        native.layers(self._native, layers, cells, start, f, out)

    def _run(self, layers: range, cells: Ints, start: Doubles, f: Doubles, out: Doubles) -> None:
        """The layers' residuals f and what is seen of them, and of the last one `out`."""
        prior = self.prior
        for layer in layers:
            if layer == 0:
                context = self._context(_gather(self.inputs, cells, self._context_taps))
                np.add(context, start, out=f)
            else:
                seen = _gather(self.activations[layer - 1], cells, self._spatial_taps)
                f += prior.pointwise[layer - 1](prior.spatial[layer - 1].activations(seen))
            active = to_activations(f * 2.0**-ACTIVATION_SHIFT)
            if layer < len(self.activations):
                self.activations[layer][cells] = active
            else:
                out[:] = prior.to_slices(active)


@dataclass(frozen=True)
class Choice:
    """What codes of a slice are chosen by in a run of positions, and where they go.

    Attributes:
        book: The slice's codebooks.
        table: What the network sees of their codewords (G, K, d).
        error: What errors are linear in (n, channels) each, as `entropy.error_terms` gives it.
        codes: Those that are chosen (n, G).
        sums: Theirs (n, G, 3), as `find_sums` gives them, if they are wanted.
    """

    book: CodebookTable
    table: NDArray[np.int8]
    error: tuple[Doubles, Doubles]
    codes: NDArray[np.int32]
    sums: Sums | None


class Slice:
    """The layers of one slice at one level, from what all slices share to features."""

    def __init__(self, prior: IntegerPixelCNN, index: int, level: int) -> None:
        self._start, end = prior.starts[index : index + 2]
        self._share = prior.shares[index]
        channels = self._channels = slice(int(self._start), int(end))
        weights, scale, offset = prior.previous[index].parts()
        scale = scale * 2.0**-ACTIVATION_SHIFT
        self._offset = offset * 2.0**-ACTIVATION_SHIFT + 0.5
        if not self._start:
            weights, self._offset = weights[:0], np.full_like(offset, 0.5)
        # For a layer of few inputs it takes less time to multiply once, in twice the width.
        self._previous = weights * scale
        # Of the four numbers of a channel, the second is made an entry of the precision table:
        # steps of the table, the half for rounding, and its start, folded in; then it is clamped
        # to what the clamped logarithm would give and to the table.
        head, head_scale, head_offset = prior.heads[index].parts()
        head_scale, head_offset = head_scale.copy(), head_offset.copy()
        step = SCALE_STEP * 2.0**-HEAD_SHIFT
        first = (prior.log_scale[level, channels]) * step + 0.5 - SCALE_LOWEST * SCALE_STEP
        head_scale[1::4] *= step
        head_offset[1::4] = head_offset[1::4] * step + first
        self._head, self._head_offset = head * head_scale, head_offset
        last = len(prior.precision) - 1
        bounds = np.full((2, end - self._start, 4), float(HEAD_MAX))
        bounds[0] *= -1
        bounds[:, :, 1] = np.clip(np.floor(bounds[:, :, 1] * step + first), 0, last)
        self._low, self._high = bounds.reshape(2, -1)
        self._tail = np.tile([1.0, 1.0, 2.0**TAIL_SHIFT, 2.0**TAIL_SHIFT], end - self._start)
        self._precision = prior.precision
        self._unit = prior.unit[level, channels] * 2.0**-UNIT_SHIFT
        self._native = None
        if native.library() is not None:
            layers = (
                native.linear(weights, scale, self._offset),
                native.linear(head, head_scale, head_offset),
            )
            limits = self._low, self._high, self._tail
            sizes = len(self._unit), self._share.start
            self._native = native.Slice(*layers, *limits, self._unit, self._precision, *sizes)

    def features(self, hidden: Doubles, seen: NDArray[Any]) -> Doubles:
        """F (n, channels, 4): what a codebook's logits are linear in.

        `seen` are the codewords of the slices before it (n, at least their channels) as the network
        sees them.
        """
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

    def see(
        self, table: NDArray[np.int8], codes: NDArray[np.int32], seen: NDArray[np.int8]
    ) -> None:
        """Set its columns of seen (n, channels) to a table's rows (G, K, d) for codes (n, G)."""
        if self._native is None:
            seen[:, self._channels] = look_up(table, codes)
        else:
            native.look_up(table, codes, seen, self._channels.start)

    def weigh(
        self, book: CodebookTable, hidden: Doubles, seen: NDArray[Any], weights: Doubles
    ) -> None:
        """Set the codewords' weights (n * G, K), given what `features` is."""
        if self._native is None:
            book.weights(self.features(hidden, seen), out=weights)
        else:
            native.weigh(self._native, book.native(), _EXP2, hidden, seen, weights)

    def choose(self, choice: Choice, hidden: Doubles, seen: NDArray[Any], start: int) -> None:
        """Choose codes for positions from `start` of a run on, and set what is seen of them."""
        rows = slice(start, start + len(hidden))
        book, codes = choice.book, choice.codes[rows]
        if book.size > 1:
            features = self.features(hidden, seen)
            slopes, squares = (x[rows] for x in choice.error)
            codes[:] = book.best((slopes, squares), features)
            if choice.sums is not None:
                book.find_sums(features, codes, choice.sums[rows].reshape(-1, SUMS))
        seen[:, self._channels] = look_up(choice.table, codes)

    def compiled(self, choice: Choice) -> native.Choice:
        """The same for the compiled loops, which there are."""
        assert self._native is not None
        arrays = choice.table, *choice.error, choice.sums, choice.codes
        return native.Choice(self._native, choice.book.native(), *arrays, self._channels.start)

    def find_sums(
        self,
        book: CodebookTable,
        hidden: Doubles,
        seen: NDArray[Any],
        codes: NDArray[np.int32],
        sums: Doubles,
    ) -> None:
        """Set sums (n * G, 3) to those of weights (`entropy.Sums`) for codes (n, G)."""
        if self._native is None:
            book.find_sums(self.features(hidden, seen), codes, sums)
        else:
            native.find_sums(self._native, book.native(), _EXP2, hidden, seen, codes, sums)


@lru_cache(maxsize=8)
def _slices(prior: IntegerPixelCNN, level: int, compiled: bool) -> list[Slice]:  # noqa: ARG001
    """All slices at a level, which hold no state, with compiled loops or without."""
    return [Slice(prior, i, level) for i in range(len(prior.slices))]


def _gather(rows: NDArray[Any], cells: Ints, taps: Ints) -> NDArray[Any]:
    """Rows of the neighbours of each cell side by side, (n, taps * channels)."""
    near = rows.take(cells[:, None] + taps, axis=0, mode="wrap")
    gathered: NDArray[Any] = near.reshape(len(cells), -1)
    return gathered
