"""The layers of one slice of a position, from what all slices share to weights of codewords.

`coding.py` takes a map through them; the compiled loops do the same (`slices.h`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqzip import native, structures
from vqzip.adaptation import Adaptation, natural
from vqzip.coder import SUMS, Sums, sums_of
from vqzip.entropy import EXP2, EXP2_STEP, CodebookTable, look_up
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
    Doubles,
    IntegerPixelCNN,
    clamp,
)

EXPONENTIALS = native.table(EXP2)


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
            # Bits for a step of each output: of the mean, twice, for it is two precisions wide.
            bits = self._tail * head_scale / EXP2_STEP
            bits[0::4] *= 2 * self._unit
            back = native.linear(np.float32(head * bits).T.copy(), *np.zeros((2, len(head))))
            sizes = len(self._unit), self._share.start
            self._native = structures.Slice(
                *layers, back, *limits, self._unit, self._precision, *sizes
            )

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
        self,
        book: CodebookTable,
        hidden: Doubles,
        seen: NDArray[Any],
        weights: Doubles,
        adapted: Adaptation | None = None,
        base: Doubles | None = None,
    ) -> None:
        """Set the codewords' weights (n * G, K), given what `features` is.

        Sets `base` (n, channels, 2) to means and precisions, from which `adapted` will learn.
        """
        if self._native is None:
            features = self.features(hidden, seen)
            self._weigh(book, features, adapted, weights)
            if base is not None:
                base[:] = natural(features)
        else:
            arrays = hidden, seen, weights
            learning = _compiled(adapted), base
            native.weigh(self._native, book.native(), EXPONENTIALS, *arrays, *learning)

    def _weigh(
        self,
        book: CodebookTable,
        features: Doubles,
        adapted: Adaptation | None,
        weights: Doubles | None = None,
    ) -> Doubles:
        known, starts = _learned(features, adapted)
        return book.weights(known, weights, starts)

    def choose(
        self,
        choice: Choice,
        hidden: Doubles,
        seen: NDArray[Any],
        start: int,
        adapted: Adaptation | None = None,
    ) -> None:
        """Choose codes for positions from `start` of a run on, and set what is seen of them."""
        rows = slice(start, start + len(hidden))
        book, codes = choice.book, choice.codes[rows]
        if book.size > 1:
            features = self.features(hidden, seen)
            slopes, squares = (x[rows] for x in choice.error)
            known, starts = _learned(features, adapted)
            codes[:] = book.best((slopes, squares), known, starts)
            if choice.sums is not None:
                sums = choice.sums[rows].reshape(-1, SUMS)
                self._find_sums(book, features, codes, sums, adapted)
        seen[:, self._channels] = look_up(choice.table, codes)

    def _find_sums(
        self,
        book: CodebookTable,
        features: Doubles,
        codes: NDArray[np.int32],
        sums: Doubles,
        adapted: Adaptation | None,
    ) -> None:
        for begin in range(0, len(features), book.rows):
            some = slice(begin, begin + book.rows)
            weights = self._weigh(book, features[some], adapted)
            first = begin * book.groups
            sums[first : first + len(weights)] = sums_of(codes[some].reshape(-1), weights)
            if adapted is not None:
                adapted.learn(natural(features[some]), weights, codes[some])

    def compiled(self, choice: Choice, adapted: Adaptation | None = None) -> structures.Choice:
        """The same for the compiled loops, which there are."""
        assert self._native is not None
        arrays = choice.table, *choice.error, choice.sums, choice.codes
        layers = self._native, choice.book.native()
        return structures.Choice(*layers, *arrays, _compiled(adapted), self._channels.start)

    def find_sums(
        self,
        book: CodebookTable,
        hidden: Doubles,
        seen: NDArray[Any],
        codes: NDArray[np.int32],
        sums: Doubles,
        adapted: Adaptation | None = None,
    ) -> None:
        """Set sums (n * G, 3) to those of weights (`entropy.Sums`) for codes (n, G).

        `adapted` learns from them.
        """
        if self._native is None:
            self._find_sums(book, self.features(hidden, seen), codes, sums, adapted)
        else:
            arrays = hidden, seen, codes, sums
            layers = self._native, book.native(), EXPONENTIALS
            native.find_sums(*layers, *arrays, _compiled(adapted))


def _learned(features: Doubles, adapted: Adaptation | None) -> tuple[Doubles, Doubles | None]:
    """Features and what logits start from, by what has been learned, if anything is."""
    return (features, None) if adapted is None else (adapted.adapted(features), adapted.starts())


def _compiled(adapted: Adaptation | None) -> structures.Adaptation | None:
    """What learns, if anything does, for the compiled loops."""
    return None if adapted is None else adapted.native()


@lru_cache(maxsize=8)
def slices_at(prior: IntegerPixelCNN, level: int, compiled: bool) -> list[Slice]:  # noqa: ARG001
    """All slices at a level, which hold no state, with compiled loops or without."""
    return [Slice(prior, i, level) for i in range(len(prior.slices))]
