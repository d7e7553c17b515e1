"""Frequencies that learn from a file's own codes, while these are coded.

The prior has learned what photos have in common.  What is special to one picture, encoder and
decoder can tell from the codes that both of them know already: adaptive coding, as in Rissanen &
Langdon 1981, "Universal modeling and coding".  Of each slice there are two things to learn.  A
codeword that has come more often than it was expected to gets more likely, by the ratio of both.
And mean and precision of each channel have gains, which go along the gradient of the bits of the
codes so far; a step is the longer the less codes have told before, by the sum of the gradient's
squares.

All is in integers but for two divisions, and what is learned from depends on no order:
`FORMAT.md` states the same.  A state is of one slice of one map of one file.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vqzip import native, structures
from vqzip.coder import TOTAL
from vqzip.entropy import CodebookTable
from vqzip.integer import (
    BIAS_SHIFT,
    LOGIT_SHIFT,
    MAX_PRECISION,
    MEAN_MAX,
    Doubles,
    shift_right,
)

EVERY = 4
"""Steps from one change of the frequencies to the next."""

AS_EXPECTED = 5
"""Codes that have come as often as they were expected to, of each codeword, before the first."""

GAIN_SHIFT = 12
GAIN_LEAST, GAIN_MOST = 2**11, 2**13
STEEPEST = 2**14  # slope that a position counts with at most, in 2^-8 bits
INERTIA = 2.0**23  # squares of slopes there are at first
STRIDE = 3 * 2.0**19  # gain to a slope, divided by the sum of squares
LONGEST = 410  # change of a gain at once, at most

LOGARITHMS: Doubles = np.round(2.0**12 * np.log2(1 + np.arange(1024) / 1024))
"""log2(1 + i / 1024) in 2^-12, rounded.  A test pins its checksum."""

_LOGIT = 2.0 ** (BIAS_SHIFT - LOGIT_SHIFT + 8)  # 2^-12 bits as logits are written, in 1/256 bits


class Adaptation:
    """What the codes of a slice so far tell of those to come.

    Attributes:
        start: What logits of codewords start from (G, at least K).
        gains: Of mean and precision of each channel (channels, 2), in 2^-12.
    """

    def __init__(self, book: CodebookTable) -> None:
        """Nothing is known yet."""
        self._book, self._size = book, book.size
        threads, channels = native.threads(), book.groups * book.dim
        padded = native.padded(book.size)
        self._labels = np.zeros((book.groups, book.dim, 2, padded))
        self._labels[:, :, 0, : book.size] = book.labels
        self._labels[:, :, 1, : book.size] = np.floor(np.square(book.labels) / 16)
        self._first = np.zeros((book.groups, padded))
        self._first[:, : book.size] = book.phi[:, -1]
        self.start = self._first.copy()
        self.gains = np.full((channels, 2), 2.0**GAIN_SHIFT)
        # Each thread counts for itself.
        self._seen, self._expected = np.zeros((2, threads, book.groups, padded))
        self._slopes, self._squares = np.zeros((2, threads, channels, 2))
        self._native: structures.Adaptation | None = None

    def adapted(self, features: Doubles) -> Doubles:
        """Features (n, channels, 4) as they are with the gains."""
        found: Doubles = features.copy()
        mean, precision = np.moveaxis(natural(features) * (self.gains * 2.0**-GAIN_SHIFT), -1, 0)
        mean = np.clip(np.floor(mean + 0.5), -MEAN_MAX, MEAN_MAX)
        found[..., 1] = np.minimum(np.floor(precision), MAX_PRECISION)
        found[..., 0] = 2 * found[..., 1] * mean
        return found

    def starts(self) -> Doubles:
        """What logits start from (G, K)."""
        starts: Doubles = self.start[:, : self._size]
        return starts

    def learn(self, base: Doubles, weights: Doubles, codes: NDArray[np.int32]) -> None:
        """Count codes (n, G), which had these weights (n * G, K), which may be used up.

        Base (n, channels, 2) is what `natural` gives for the features without gains.
        """
        if self._native is not None:
            native.learn(self._native, self._book.native(), base, weights, codes)
            return
        book, rows = self._book, self._book.rows
        weights = weights.reshape(len(codes), book.groups, -1)
        labels, groups = self._labels[..., : self._size], np.arange(book.groups)
        for start in range(0, len(codes), rows):
            some = slice(start, start + rows)
            own, likely = codes[some], weights[some]
            ratio = (TOTAL - book.size) / likely.sum(2)
            told = np.floor(likely * ratio[:, :, None])
            self._expected[0, :, : self._size] += told.sum(0)
            np.add.at(self._seen[0], (groups, own), 1)
            whole, by_group = told.sum(2)[:, :, None], told.transpose(1, 0, 2)
            off = [
                whole * power[groups, :, own]
                - np.matmul(by_group, power.transpose(0, 2, 1)).transpose(1, 0, 2)
                for power in (labels[:, :, 0], labels[:, :, 1])
            ]  # (n, G, d) each
            linear, square = (part.reshape(len(own), -1) for part in off)
            slopes = self._slopes_of(base[some], linear, -square)
            self._slopes[0] += slopes.sum(0)
            self._squares[0] += np.square(slopes).sum(0)

    @staticmethod
    def _slopes_of(base: Doubles, off: Doubles, square: Doubles) -> Doubles:
        """Bits that gains more would save, in 2^-8 (n, channels, 2), for what labels are off.

        For the precision that is how far squares of distances from the mean are.
        """
        mean, precision = base[..., 0], base[..., 1]
        spread = square + 32 * mean * shift_right(off, 8)
        first = shift_right(2 * mean * precision, 8) * shift_right(off, 20) * 2.0**-16
        second = precision * shift_right(spread, 16) * 2.0**-24
        slopes = np.floor(np.stack([first, second], axis=-1) + 0.5)
        return np.clip(slopes, -STEEPEST, STEEPEST, out=slopes)

    def update(self) -> None:
        """Change what follows by what has been learned."""
        if self._native is not None:
            native.update(self._native, self._book.native())
            return
        seen, expected = self._seen.sum(0), self._expected.sum(0)
        more = logarithm((seen + AS_EXPECTED) * TOTAL) - logarithm(expected + AS_EXPECTED * TOTAL)
        starts = self._first + more * _LOGIT
        self.start[:, : self._size] = starts[:, : self._size]
        slope, square = self._slopes.sum(0), self._squares.sum(0)
        step = np.floor(slope * STRIDE / (square + INERTIA) + 0.5)
        gains = self.gains + np.clip(step, -LONGEST, LONGEST)
        np.clip(gains, GAIN_LEAST, GAIN_MOST, out=self.gains)
        self._slopes[:] = 0

    def native(self) -> structures.Adaptation:
        """For the compiled loops, which there are."""
        if self._native is None:
            tables = self._labels, self._first, LOGARITHMS
            counts = self._seen, self._expected, self._slopes, self._squares
            learned = self.start, self.gains
            sizes = len(self._seen)
            self._native = structures.Adaptation(*tables, *learned, *counts, sizes)
        return self._native


def natural(features: Doubles) -> Doubles:
    """Mean and precision (..., 2), of which the first two features (..., 2 or more) are made."""
    precision = features[..., 1]
    mean = np.divide(
        features[..., 0], 2 * precision, out=np.zeros(precision.shape), where=precision > 0
    )
    return np.stack([mean, precision], axis=-1)


def logarithm(x: Doubles) -> Doubles:
    """log2 of integers from 1 to 2^53 in 2^-12, by the ten bits after the first."""
    fraction, exponent = np.frexp(x)  # from 1/2 to 1
    places = ((2 * fraction - 1) * len(LOGARITHMS)).astype(np.int64)
    found: Doubles = (exponent - 1) * 2.0**12 + LOGARITHMS[places]
    return found
