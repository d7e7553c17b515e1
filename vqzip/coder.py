"""The range coder: codes to bytes, and back.

It is constriction's.  It gets a weight for each codeword, an integer up to 2^28, and makes
frequencies of them that sum to 2^24 in one way, with no rounding left to the machine: in its
arithmetic, float64, sums of the weights are exact.

An encoder need not know all of them, only the interval of the code that there is: where its
frequencies start and end among the cumulative ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Protocol

import constriction
import numpy as np
from numpy.typing import NDArray

from vqzip.errors import VqzError
from vqzip.integer import Doubles
from vqzip.threads import Behind

TOTAL = 2**24
WEIGHT_BITS = 28  # the largest weight of a row is 2^28, the most likely codeword's
SUMS = 3
COUNTED = 32  # batches of codes whose information is counted at once
HANDED = 2**15  # codes that are handed to a sink at once

Sums = Doubles
"""For codes (n, SUMS): of the weights of codewords before theirs, their own, and those of all."""

Sizes = NDArray[np.int64]

Coded = tuple[NDArray[Any], Sums, int]
"""Codes (n,), their sums, and how many codewords there are; none is to change any more."""

Intervals = tuple[Doubles, Doubles]
"""Where those of codes (n,) start and end: cumulative frequencies, of 2^24."""

_FAMILY = constriction.stream.model.Categorical(perfect=False)


def row_starts(rows: NDArray[Any]) -> NDArray[np.int64]:
    """Where each row of an array (n, K) starts in it."""
    return _multiples(*rows.shape)


@lru_cache(maxsize=1024)
def _multiples(count: int, of: int) -> NDArray[np.int64]:
    return np.arange(0, count * of, of)


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
    places = row_starts(weights) + codes
    own = weights.take(places)
    return np.stack([ends.take(places) - own, own, ends[:, -1]], axis=1)


def intervals_of(codes: NDArray[Any], sums: Sums, size: int | Sizes) -> Intervals:
    """The intervals of codes (n,) of `size` codewords (n,): those that `frequencies` gives them."""
    before, own, whole = sums.T
    scale = (TOTAL - size) / whole
    ends = codes + 1 + np.floor((before + own) * scale)
    ends[codes == size - 1] = TOTAL
    return codes + np.floor(before * scale), ends


class Sink(Protocol):
    """Where codes and their frequencies go: an `Encoder` writes, a `Counter` counts bits."""

    def put(self, codes: NDArray[Any], weights: Doubles) -> None:
        """Codes (n,) with weights (n, K)."""

    def put_intervals(self, intervals: Intervals) -> None:
        """Codes by their intervals."""


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
    codes = np.ones(len(starts), np.int32)
    weights = np.empty((len(starts), 3))
    below, own, above = weights.T
    np.subtract(starts, 1, out=below)
    np.subtract(TOTAL - 1, ends, out=above)
    # Few codes are at an end.
    at = np.flatnonzero(first)
    codes[at], below[at], above[at] = 0, ends[at] - 1, TOTAL - 2 - ends[at]
    at = np.flatnonzero(last)
    codes[at], below[at], above[at] = 2, starts[at] - 2, TOTAL - 1 - starts[at]
    np.subtract(TOTAL - 3, below, out=own)
    own -= above
    if not (weights < 0).any():
        yield codes, weights
        return
    alone = weights.min(1) < 0  # of two codewords, the other one has a frequency of one
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


class Writer:
    """Codes on their way to a sink that works on another thread, many at a time."""

    def __init__(self, sink: Sink) -> None:
        self._sink, self._behind = sink, Behind(self._pass_on)
        self._held: list[Coded] = []
        self._count = 0

    def put(self, coded: Coded) -> None:
        """Append codes."""
        self._held.append(coded)
        self._count += len(coded[0])
        if self._count >= HANDED:
            self._hand_over()

    def put_all(self, coded: Iterable[Coded]) -> None:
        """Append codes that are found on the other thread, too."""
        self._hand_over()
        self._behind(coded)

    def finish(self) -> None:
        """Wait until the sink has all."""
        self._hand_over()
        self._behind.wait()

    def _pass_on(self, coded: Iterable[Coded]) -> None:
        held = list(coded)
        if held:
            codes, sums, sizes = zip(*held, strict=True)
            every = np.repeat(sizes, [len(each) for each in codes])
            found = intervals_of(np.concatenate(codes), np.concatenate(sums), every)
            self._sink.put_intervals(found)

    def _hand_over(self) -> None:
        if self._held:
            self._behind(self._held)
        self._held, self._count = [], 0


def _least_information(chosen: Doubles) -> float:
    """Bits that codes with these weights have at least, the largest being 2^28 for each.

    Small frequencies may be rounded up to twice what the weight says, hence the limit to 20 bits
    and the factor.
    """
    likely = np.log2(np.maximum(chosen, 2.0 ** (WEIGHT_BITS - 20)))
    return 0.9 * (WEIGHT_BITS * len(chosen) - float(np.add.reduce(likely)))


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
            self._chosen.append(weights.take(row_starts(weights) + codes))
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
