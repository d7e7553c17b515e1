"""The code stream spelled out: a range decoder, and the order in which codes come out of it.

Together with `reference_prior.py` a whole decoder from stream to codes, from the tensors and the
configuration of a model's folder.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import reference_prior
from reference_adaptation import EVERY, Group
from reference_prior import Ints, Tensors


class RangeDecoder:
    """Decodes what `constriction.stream.queue.RangeEncoder` encodes: 32-bit words, 64-bit state."""

    def __init__(self, stream: bytes) -> None:
        self.words = iter(np.frombuffer(stream, "<u4").tolist())
        self.lower, self.range = 0, 2**64 - 1
        self.point = self._next_word() << 32 | self._next_word()

    def _next_word(self) -> int:
        return next(self.words, 0)

    def get(self, counts: Sequence[int]) -> int:
        """The next code, its frequency being its count plus one out of 2^24."""
        scale = self.range >> 24
        quantile = (self.point - self.lower) % 2**64 // scale
        if quantile >= 2**24:
            raise ValueError("not a stream of codes with these counts")
        ends = list(accumulate(count + 1 for count in counts))
        code = bisect_right(ends, quantile)
        frequency = counts[code] + 1
        self.lower = (self.lower + scale * (ends[code] - frequency)) % 2**64
        self.range = scale * frequency
        if self.range < 2**32:
            self.lower = self.lower << 32 & 2**64 - 1
            self.range <<= 32
            self.point = (self.point << 32 & 2**64 - 1) | self._next_word()
        return code


@dataclass(frozen=True)
class Book:
    """The codebooks of one slice: G groups of K codewords of dimension d."""

    codewords: Ints  # (G, K, d), sixty-fourths
    labels: Ints  # (G, K, d), what the prior knows the codewords by
    bias: Ints  # (G, K)

    @classmethod
    def read(cls, tensors: Tensors, key: str) -> "Book":
        """The tensors whose names begin with `key`."""
        names = ("codewords", "labels", "bias")
        return cls(*(tensors[f"{key}.{name}"].astype(np.int64) for name in names))


def wavefront(shape: tuple[int, int], tile: int) -> Iterator[list[tuple[int, int]]]:
    """Positions (y, x) of each step: the same `x + 2 y` in all tiles; by tile, then by row."""
    height, width = shape
    corners = [(y, x) for y in range(0, height, tile) for x in range(0, width, tile)]
    for step in range(3 * tile - 2):
        positions = []
        for top, left in corners:
            for down in range(tile):
                y, x = top + down, left + step - 2 * down
                if left <= x < min(left + tile, width) and y < height:
                    positions.append((y, x))
        if positions:
            yield positions


def _decode_map(
    decoder: RangeDecoder, prior: reference_prior.Map, books: list[Book], adaptive: bool
) -> tuple[list[Ints], Ints]:
    """Codes (height, width, groups) of each slice, and vectors (height, width, channels)."""
    shape = prior.inputs.shape[:2]
    codes = [np.zeros((*shape, len(book.codewords)), np.int64) for book in books]
    vectors = np.zeros_like(prior.inputs)
    learning = [[Group(labels) for labels in book.labels] for book in books]
    for step, positions in enumerate(wavefront(shape, prior.tile)):
        hidden = [prior.hidden(y, x) for y, x in positions]
        for i, book in enumerate(books):
            groups, size, _ = book.codewords.shape
            for (y, x), h in zip(positions, hidden, strict=True):
                if size > 1:
                    features = prior.features(y, x, h, i).reshape(groups, -1, 4)
                    for g, group in enumerate(learning[i]):
                        bias, own = book.bias[g] + group.more, group.with_gains(features[g])
                        weights = reference_prior.weights(book.labels[g], bias, own)
                        code = decoder.get(reference_prior.counts(weights))
                        codes[i][y, x, g] = code
                        if adaptive:
                            group.learn(features[g], weights, code)
                vector = book.codewords[np.arange(groups), codes[i][y, x]].reshape(-1)
                vectors[y, x, prior.channels[i]] = vector
                prior.put(y, x, i, vector)
        if adaptive and step % EVERY == EVERY - 1:
            for group in (group for groups in learning for group in groups):
                group.update()
    return codes, vectors


def _plain_counts(weights: Sequence[int]) -> list[int]:
    """What the coder makes of weights."""
    size, total = len(weights), sum(weights)
    ends = [int(end * ((2**24 - size) / total)) for end in accumulate(weights)]
    ends[-1] = 2**24 - size
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def _filter(decoder: RangeDecoder, tensors: Tensors) -> list[int] | None:
    """The coefficients of the filter that the stream ends with, None for no filter."""
    if "wiener.weights" not in tensors or not decoder.get(_plain_counts([1, 1])):
        return None
    rows = tensors["wiener.weights"].tolist()
    return [decoder.get(_plain_counts(row)) - len(row) // 2 for row in rows]


def decode(
    tensors: Tensors, config: Mapping[str, Any], stream: bytes, width: int, height: int, level: int
) -> tuple[list[Ints], list[Ints], list[int] | None]:
    """Codes of both maps, (height, width, groups) for each slice, and the filter's coefficients."""
    steps = config["steps"]
    trained = (level + steps // 2) // steps

    def books(which: str) -> list[Book]:
        keys = [f"{which}.codebook.{trained}.{i}" for i in range(len(config[which]["slices"]))]
        return [Book.read(tensors, key) for key in keys]

    decoder = RangeDecoder(stream)
    shape = -(-height // 16), -(-width // 16)
    slices, tile = config["top"]["slices"], config["tile"] // 2
    top = reference_prior.Map(tensors, "top", slices, shape, tile, level)
    adaptive = config.get("adaptive", False)
    top_codes, vectors = _decode_map(decoder, top, books("top"), adaptive)

    condition = reference_prior.lift(tensors, reference_prior.inputs_of(vectors, top.inverse_unit))
    shape = 2 * shape[0], 2 * shape[1]
    slices, tile = config["bottom"]["slices"], config["tile"]
    bottom = reference_prior.Map(tensors, "bottom", slices, shape, tile, level, condition)
    bottom_codes, _ = _decode_map(decoder, bottom, books("bottom"), adaptive)
    return top_codes, bottom_codes, _filter(decoder, tensors)
