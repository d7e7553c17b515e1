"""Codebooks as the coder sees them: features to integer weights to bytes, and back.

The range coder is constriction's.  It gets a weight for each codeword, an integer up to 2^28, and
makes frequencies of them that sum to 2^24 in one way, with no rounding left to the machine: in its
arithmetic, float64, sums of the weights are exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, TypeVar

import constriction
import numpy as np
from numpy.typing import NDArray

from vqzip import native
from vqzip.errors import VqzError
from vqzip.integer import (
    BIAS_SHIFT,
    CODEWORD_ONE,
    EXACT_FLOAT64,
    HEAD_MAX,
    LOGIT_SHIFT,
    MAX_PRECISION,
    MEAN_MAX,
    TAIL_SHIFT,
    Doubles,
    Floats,
)

Codes = NDArray[np.uint16]
Sizes = NDArray[np.int64]
SUMS = 3
Sums = Doubles
"""For codes (n, SUMS): of the weights of codewords before theirs, their own, and those of all."""
Intervals = tuple[Doubles, Doubles]
"""Where those of codes (n,) start and end: cumulative frequencies, of 2^24."""
_Number = TypeVar("_Number", bound=np.generic)

TOTAL = 2**24
EXP2_STEP = 256  # entries of the exponential table to a factor of two
EXP2_BITS = 28  # a codeword this many bits below the most likely one has a weight of zero
BLOCK = 2**16  # weights that are worked on at once, to stay in the processor's cache
RAREST = -24.0 * EXP2_STEP  # logarithm of the least frequency, as logits are written
ERROR_STEP = 2.0**-16  # of the terms of errors
COUNTED = 32  # batches of codes whose information is counted at once

EXP2: Doubles = np.append(
    np.round(2.0 ** (EXP2_BITS - np.arange(EXP2_BITS * EXP2_STEP + 1) / EXP2_STEP)), 0.0
)
"""2^(28 - i / 256) rounded, and zero for all that is farther.  A test pins its checksum."""

MAX_TAIL = HEAD_MAX * 2**TAIL_SHIFT


def _phi(points: NDArray[np.generic]) -> Doubles:
    """(c, -c^2, |c|, min(|c|, 1)) of points (G, K, d) for each channel, (G, 4 * d, K)."""
    c = points.astype(np.float64)
    size = np.abs(c)
    phi = np.stack([c, -c * c, size, np.minimum(size, CODEWORD_ONE)], axis=-1)
    features: Doubles = phi.reshape(*c.shape[:2], -1).transpose(0, 2, 1).copy()
    return features


class CodebookTable:
    """The codebooks of one slice at one level, in integers: G groups of K codewords, d channels."""

    def __init__(
        self,
        codewords: NDArray[np.generic],
        labels: NDArray[np.generic],
        bias: NDArray[np.generic],
    ) -> None:
        """Codewords and labels (G, K, d) in sixty-fourths, bias (G, K) in 2^-12 bits."""
        self.codewords: NDArray[np.int16] = codewords.astype(np.int16)
        self.groups, self.size, self.dim = self.codewords.shape
        phi = _phi(labels)
        start: Doubles = bias.astype(np.float64)[:, None] * 2.0**BIAS_SHIFT
        largest = np.array([2 * MAX_PRECISION * MEAN_MAX, MAX_PRECISION, MAX_TAIL, MAX_TAIL])
        reach = np.einsum("gfk,f->gk", np.abs(phi), np.tile(largest, self.dim))
        if (reach + np.abs(start[:, 0])).max() >= EXACT_FLOAT64:
            raise VqzError("model: a codebook's logits are not exact")
        # Steps of the exponential table to the unit: powers of two lose nothing.
        self.phi = np.concatenate([phi, start], axis=1) * (EXP2_STEP * 2.0**-LOGIT_SHIFT)
        c = self.codewords.astype(np.float64)
        squares = np.stack([c, -c * c], axis=-1).reshape(self.groups, self.size, -1)
        by_term = np.ascontiguousarray(squares.transpose(0, 2, 1))
        self._squares = by_term * (EXP2_STEP / CODEWORD_ONE**2)
        self.rows = max(1, BLOCK // (self.groups * self.size))
        """Positions that are worked on at once."""
        self._native: native.Book | None = None

    def logits(self, features: Doubles) -> Doubles:
        """Features (n, channels, 4) to logits (n, G, K), in 1/256 bits with 20 fraction bits."""
        n = len(features)
        grouped = np.empty((self.groups, n, 4 * self.dim + 1))
        grouped[:, :, :-1] = features.reshape(n, self.groups, -1).transpose(1, 0, 2)
        grouped[:, :, -1] = 1
        return self._product(grouped, self.phi)

    def closeness(self, error: tuple[Doubles, Doubles]) -> Doubles:
        """Minus the squared error of each codeword (n, G, K) up to a constant, as logits are."""
        terms = np.stack(error, axis=-1)  # (n, channels, 2)
        grouped = terms.reshape(len(terms), self.groups, -1).transpose(1, 0, 2)
        return self._product(np.ascontiguousarray(grouped), self._squares)

    def best(self, error: tuple[Doubles, Doubles], features: Doubles | None) -> Codes:
        """Codes (n, G) of least squared error, plus bits if there are features."""
        slopes, squares = error
        codes = np.zeros((len(slopes), self.groups), np.uint16)
        for start in range(0, len(slopes), self.rows):
            block = slice(start, start + self.rows)
            score = self.closeness((slopes[block], squares[block]))
            if features is not None:
                likely = self.logits(features[block])
                rows = likely.reshape(-1, self.size)
                rows -= largest(rows)
                score += np.maximum(likely, RAREST, out=likely)
            codes[block] = score.argmax(2)
        return codes

    def native(self) -> native.Book:
        """For the compiled loops."""
        if self._native is None:
            shape = self.groups, self.size, self.dim
            self._native = native.book(self.phi, self._squares, shape)
        return self._native

    def _product(self, grouped: Doubles, phi: Doubles) -> Doubles:
        product = np.empty((grouped.shape[1], self.groups, self.size))
        np.matmul(grouped, phi, out=product.transpose(1, 0, 2))
        return product

    def weights(self, features: Doubles, out: Doubles | None = None) -> Doubles:
        """Features (n, channels, 4) to weights (n * G, K), integers from 0 to 2^28.

        The most likely codeword of a row has 2^28.
        """
        n = len(features)
        weights = np.empty((n * self.groups, self.size)) if out is None else out
        for start in range(0, n, self.rows):
            rows = self.logits(features[start : start + self.rows]).reshape(-1, self.size)
            np.subtract(largest(rows), rows, out=rows)
            first = start * self.groups
            target = weights[first : first + len(rows)]
            EXP2.take(rows.astype(np.int64), mode="clip", out=target)
        return weights

    def find_sums(self, features: Doubles, codes: NDArray[Any], sums: Sums) -> None:
        """Set sums (n * G, 3) for codes (n, G), given features (n, channels, 4)."""
        for start in range(0, len(features), self.rows):
            block = slice(start, start + self.rows)
            rows = slice(start * self.groups, (start + self.rows) * self.groups)
            sums[rows] = sums_of(codes[block].reshape(-1), self.weights(features[block]))

    def vectors(self, codes: Codes) -> NDArray[np.int16]:
        """Codes (n, G) to vectors (n, channels) in sixty-fourths."""
        return look_up(self.codewords, codes)


def error_terms(points: Floats, weight: Floats) -> tuple[Doubles, Doubles]:
    """What `weight (z - c)^2` is linear in, (n, channels) each.

    Points (n, channels) in code units, weight (n, channels) in bits for a squared unit.  They are
    rounded, so that sums are exact and no two machines choose differently.
    """
    slopes = 2 * CODEWORD_ONE * weight * points
    terms = (x.astype(np.float64) / ERROR_STEP for x in (slopes, weight))
    slope, square = (np.rint(x, out=x) * ERROR_STEP for x in terms)
    return slope, square


def largest(rows: Doubles) -> Doubles:
    """The largest number of each row (n, K), (n, 1).  NumPy finds its place sooner than itself."""
    found: Doubles = rows.take(_row_starts(rows) + rows.argmax(1))
    return found[:, None]


def _row_starts(rows: NDArray[Any]) -> NDArray[np.int64]:
    return _multiples(*rows.shape)


@lru_cache(maxsize=1024)
def _multiples(count: int, of: int) -> NDArray[np.int64]:
    return np.arange(0, count * of, of)


def _least_information(chosen: Doubles) -> float:
    """Bits that codes with these weights have at least, the largest being 2^28 for each.

    Small frequencies may be rounded up to twice what the weight says, hence the limit to 20 bits
    and the factor.
    """
    likely = np.log2(np.maximum(chosen, 2.0 ** (EXP2_BITS - 20)))
    return 0.9 * (EXP2_BITS * len(chosen) - float(np.add.reduce(likely)))


def look_up(table: NDArray[_Number], codes: NDArray[np.integer[Any]]) -> NDArray[_Number]:
    """Rows of a table (G, K, d) for codes (n, G), side by side, (n, G * d)."""
    groups, size, dim = table.shape
    rows = codes + np.arange(0, groups * size, size)
    return table.reshape(-1, dim).take(rows, axis=0).reshape(len(codes), groups * dim)


def frequencies(weights: Doubles) -> Doubles:
    """What the coder makes of weights (n, K): frequencies of at least one that sum to 2^24.

    Cumulative frequencies are `k + floor(sum of the first k weights * ((2^24 - K) / sum of all))`.
    """
    size = weights.shape[1]
    ends = np.cumsum(weights, axis=1)
    ends *= (TOTAL - size) / ends[:, -1:]
    np.floor(ends, out=ends)
    ends[:, -1] = TOTAL - size
    return np.diff(ends, axis=1, prepend=0.0) + 1.0


def sums_of(codes: NDArray[Any], weights: Doubles) -> Sums:
    """Of codes (n,) with weights (n, K)."""
    ends = np.cumsum(weights, axis=1)
    places = _row_starts(weights) + codes
    own = weights.take(places)
    return np.stack([ends.take(places) - own, own, ends[:, -1]], axis=1)


def intervals_of(codes: NDArray[Any], sums: Sums, size: int | Sizes) -> Intervals:
    """The intervals of codes (n,) of `size` codewords (n,): those that `frequencies` gives them."""
    before, own, whole = sums.T
    scale = (TOTAL - size) / whole
    ends = codes + 1 + np.floor((before + own) * scale)
    ends[codes == size - 1] = TOTAL
    return codes + np.floor(before * scale), ends


_FAMILY = constriction.stream.model.Categorical(perfect=False)


class Encoder:
    """Codes to bytes."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def put(self, codes: NDArray[np.integer[Any]], weights: Doubles) -> None:
        """Append codes (n,) with weights (n, K)."""
        self._coder.encode(codes.astype(np.int32), _FAMILY, weights)

    def put_intervals(self, intervals: Intervals) -> None:
        """Append codes by their intervals, to the same bytes."""
        for codes, weights in _narrowed(*intervals):
            self._coder.encode(codes, _FAMILY, weights)

    def finish(self) -> bytes:
        """The stream: 32-bit words, little-endian."""
        words: bytes = self._coder.get_compressed().astype("<u4").tobytes()
        return words


def _narrowed(starts: Doubles, ends: Doubles) -> Iterator[tuple[NDArray[np.int32], Doubles]]:
    """Codes of three codewords, and their weights, that have these intervals, in batches.

    There is one codeword more below, one above, or one each.  The coder gives each a frequency of
    one and, as the weights sum up to the rest, its weight on top.
    """
    first, last = starts == 0, ends == TOTAL
    codes = (1 - first + last).astype(np.int32)
    below = np.where(first, ends - 1, starts - 1 - last)
    above = TOTAL - 1 - np.where(last, starts, ends + first)
    weights = np.stack([below, TOTAL - 3 - below - above, above], axis=1)
    alone = weights.min(1) < 0  # of two codewords, the other one has a frequency of one
    if not alone.any():
        yield codes, weights
        return
    for i in range(len(codes)):
        row = slice(i, i + 1)
        if alone[i]:
            part = np.where(first, ends, starts)[row] - 1
            yield last[row].astype(np.int32), np.stack([part, TOTAL - 2 - part], axis=1)
        else:
            yield codes[row], weights[row]


class Counter:
    """Counts the bits of codes where an `Encoder` would append them."""

    def __init__(self) -> None:
        self.bits = 0.0

    def put(self, codes: NDArray[np.integer[Any]], weights: Doubles) -> None:
        """Add the information of codes (n,) with weights (n, K)."""
        self.put_intervals(intervals_of(codes, sums_of(codes, weights), weights.shape[1]))

    def put_intervals(self, intervals: Intervals) -> None:
        """The same by their intervals."""
        starts, ends = intervals
        self.bits -= float(np.log2((ends - starts) / TOTAL).sum())


class Decoder:
    """Bytes to codes; errors say what it is that is corrupt."""

    def __init__(
        self, stream: bytes, what: str = "code stream", most_bits: float = math.inf
    ) -> None:
        """`most_bits` is the most information that the codes may have, altogether."""
        self._what, self._bits_left = what, most_bits
        self._chosen: list[Doubles] = []  # weights of codes whose information is not counted yet
        if len(stream) % 4:
            raise VqzError(f"corrupt {what}: its length is not a multiple of four")
        self._coder = constriction.stream.queue.RangeDecoder(
            np.frombuffer(stream, "<u4").astype(np.uint32)
        )

    def get(self, weights: Doubles) -> NDArray[np.int32]:
        """The next codes (n,), given weights (n, K).

        Raises VqzError when the stream cannot be that of these codes.
        """
        try:
            codes: NDArray[np.int32] = self._coder.decode(_FAMILY, weights)
        except (AssertionError, ValueError) as error:
            raise VqzError(f"corrupt {self._what}: {error}") from error
        if self._bits_left < math.inf:
            self._chosen.append(weights.take(_row_starts(weights) + codes))
            if len(self._chosen) == COUNTED:
                self.count()
        return codes

    def count(self) -> None:
        """Refuse codes that have more information than the stream can hold."""
        if self._chosen:
            self._bits_left -= _least_information(np.concatenate(self._chosen))
            self._chosen.clear()
        if self._bits_left < 0:
            raise VqzError(f"corrupt {self._what}: it ends before its codes do")

    def finish(self) -> None:
        """Refuse words beyond the last code, if there are more than the coder looks ahead."""
        if not self._coder.maybe_exhausted():
            raise VqzError("corrupt code stream: it goes on after the last code")
