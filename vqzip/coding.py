"""A code map on its way through the integer prior, from codes that are known to those that follow.

Positions of a code map are rows, and a position is a cell of its `Layout`.  All positions of a
wavefront step are independent of each other, so `hidden` serves the decoder, a step at a time, and
the encoder, many steps at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqzip import native, structures
from vqzip.adaptation import EVERY, Adaptation
from vqzip.entropy import RAREST
from vqzip.integer import (
    ACTIVATION_SHIFT,
    Bytes,
    Doubles,
    Floats,
    IntegerPixelCNN,
    to_activations,
)
from vqzip.layout import Ints, Layout
from vqzip.slices import EXPONENTIALS, Choice, slices_at
from vqzip.threads import share


@dataclass(frozen=True)
class Memory:
    """What compiled loops remember of a walk, for `backward.py`.

    Attributes:
        gates: Activations (2 * layers + 1, positions, width): before each residual layer, in the
            midst of each, and after the last.
        costs: By how many bits codes change with what slices have of hidden activations
            (positions, hidden).
    """

    gates: Bytes
    costs: Floats

    @classmethod
    def of(cls, prior: IntegerPixelCNN, positions: int, channels: int) -> Memory:
        """Room for so many positions, of which the first channels are coded."""
        shares = zip(prior.shares, prior.starts, strict=False)
        hidden = max(share.stop for share, start in shares if start < channels)
        width = prior.embedding.shape[1]
        gates = np.empty((2 * len(prior.spatial) + 1, positions, width), np.uint8)
        return cls(gates, np.zeros((positions, hidden), np.float32))


class Coding:
    """A map on its way through the prior: the state that decoding fills step by step."""

    def __init__(
        self,
        prior: IntegerPixelCNN,
        layout: Layout,
        level: int,
        condition: Bytes | None,
        coded: int | None = None,
        adaptations: list[Adaptation | None] | None = None,
    ) -> None:
        """`condition` (height * width, channels): activations for the plain map, or None.

        Only the first `coded` channels are ever other than zero; None is all.  `adaptations` are
        what slices learn from their codes, if they do.
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
        self.slices = slices_at(prior, level, native.library() is not None)
        self.adaptations = adaptations or [None] * len(self.slices)
        self._passed = 0  # steps whose codes are known
        self._native = self._compiled() if prior.spatial and native.library() else None

    def _compiled(self) -> structures.Network:
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
            if self.prior.condition is None:
                f[rows] = base
            else:
                assert self.condition is not None
                np.add(self.prior.condition(self.condition[places[rows]]), base, out=f[rows])

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

    def blocks(self, count: int) -> Iterator[slice]:
        """The next steps, so many, in runs in which nothing is learned; each is to be passed."""
        learning = any(part is not None for part in self.adaptations)
        begin = 0
        while begin < count:
            left = EVERY - self._passed % EVERY if learning else count
            end = min(begin + left, count)
            yield slice(begin, end)
            self.pass_steps(end - begin)
            begin = end

    def pass_steps(self, count: int = 1) -> None:
        """So many steps more are known, which do not reach beyond the end of a block."""
        self._passed += count
        if self._passed % EVERY == 0:
            for part in self.adaptations:
                if part is not None:
                    part.update()

    def choose(
        self,
        choices: list[Choice],
        cells: Ints,
        begun: Doubles,
        starts: Ints,
        memory: tuple[Memory, Ints] | None = None,
    ) -> None:
        """Choose codes of all slices by error plus bits, each in the context of all before.

        For the steps of a run that start at these rows, the last number being the last step's end;
        cells (n,) and begun (n, width), which `start` gives, are those of all of the run.  Where
        slices learn, sums have to be wanted.  Compiled loops remember all of the run if there is a
        memory for it, at its places (n,).
        """
        pairs = list(zip(self.slices, choices, self.adaptations, strict=True))
        if self._native is not None:
            compiled = [part.compiled(choice, adapted) for part, choice, adapted in pairs]
            run = cells, begun, starts
            walk = self._native, compiled, self.prior.channels, *run, EXPONENTIALS, RAREST
            kept = None if memory is None else (memory[0].gates, memory[0].costs, memory[1])
            native.walk(*walk, (self._passed, EVERY), kept)
            self._passed += len(starts) - 1
            return
        for begin, end in pairwise(starts):
            rows = slice(begin, end)
            hidden = self.hidden(cells[rows], begun[rows], one_step=True)
            seen = np.empty((len(hidden), self.prior.channels), np.int8)
            for part, choice, adapted in pairs:
                part.choose(choice, hidden, seen, begin, adapted)
            self.put(cells[rows], seen)
            self.pass_steps()

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


def _gather(rows: NDArray[Any], cells: Ints, taps: Ints) -> NDArray[Any]:
    """Rows of the neighbours of each cell side by side, (n, taps * channels)."""
    near = rows.take(cells[:, None] + taps, axis=0, mode="wrap")
    gathered: NDArray[Any] = near.reshape(len(cells), -1)
    return gathered
