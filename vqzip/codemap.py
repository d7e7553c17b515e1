"""One code map to the stream and back: the prior drives the coder along the wavefront.

Codes of a map are a list with one array (positions, G) for each slice, positions in plain raster
order; a slice with one codeword (K = 1) is not coded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vqzip.entropy import CodebookTable, Decoder, Encoder
from vqzip.integer import (
    CODEWORD_ONE,
    LOGIT_SHIFT,
    Coding,
    Doubles,
    Floats,
    IntegerPixelCNN,
    Ints,
    Layout,
)

RAREST = -24 * 2.0**LOGIT_SHIFT  # logarithm of the least frequency, as logits are written
CHUNK = 8192  # positions whose frequencies are held in memory at once while encoding


@dataclass(frozen=True)
class CodeMap:
    """What coding one of the two maps needs."""

    prior: IntegerPixelCNN
    tables: list[list[CodebookTable]]  # [level][slice]
    weight: NDArray[np.float32]  # (levels, channels) bits for a squared code unit, encoder only
    tile: int  # side of a tile in codes
    steps: int  # positions of the quality scale from one trained level to the next

    def books(self, level: int) -> list[CodebookTable]:
        """Codebooks of the trained level that is nearest to a position on the quality scale."""
        return self.tables[self.trained_level(level)]

    def trained_level(self, level: int) -> int:
        """Index of the trained level nearest to a position on the quality scale."""
        return (2 * level + self.steps) // (2 * self.steps)

    def vectors(self, codes: list[Ints], level: int) -> Ints:
        """Codes to code vectors (positions, channels) in sixty-fourths."""
        books = self.books(level)
        return np.concatenate([b.vectors(c) for b, c in zip(books, codes, strict=True)], axis=1)


def error_features(latent: Floats, weight: NDArray[np.float32]) -> Doubles:
    """F of `-weight (z - c)^2`, (n, channels, 4), in the units of the prior's F."""
    z = latent.astype(np.float64) * CODEWORD_ONE
    w = np.broadcast_to(weight.astype(np.float64) * 2.0**16, z.shape)
    nothing = np.zeros_like(z)
    return np.stack([2 * w * z, w, nothing, nothing], axis=2)


def choose(
    code_map: CodeMap,
    latent: Floats,
    shape: tuple[int, int],
    level: int,
    condition: Floats | None,
    sweeps: int = 1,
) -> list[Ints]:
    """Codes of latents (positions, channels) by distortion plus bits.

    First the nearest; then, `sweeps` times, with the frequencies that the prior gives in the
    context of the choice before.
    """
    prior, books = code_map.prior, code_map.books(level)
    fraction = level / code_map.steps
    weight = np.stack(
        [np.interp(fraction, np.arange(len(code_map.weight)), w) for w in code_map.weight.T]
    ).astype(np.float32)
    error = error_features(latent, weight)
    codes: list[Ints] = []
    for i, book in enumerate(books):
        part = error[:, prior.starts[i] : prior.starts[i + 1]]
        pieces = np.array_split(part, max(1, -(-len(part) // CHUNK)))
        codes.append(np.concatenate([book.closeness(p).argmax(2) for p in pieces]))
    for _ in range(sweeps):
        coding, order = _fill(code_map, codes, shape, level, condition)
        improved = [np.empty_like(c) for c in codes]
        for cells, places in _chunks(*order):
            hidden = coding.hidden(cells, places)
            for i, book in enumerate(books):
                part = error[places, prior.starts[i] : prior.starts[i + 1]]
                logits = book.logits(coding.features(cells, hidden, i))
                likely = np.maximum(logits - logits.max(2, keepdims=True), RAREST)
                improved[i][places] = (likely + book.closeness(part)).argmax(2)
        codes = improved
    return codes


def _chunks(cells: Ints, places: Ints, starts: Ints) -> Iterator[tuple[Ints, Ints]]:
    """The coding order in runs of whole wavefront steps of about CHUNK positions."""
    for begin, end in _runs(starts):
        yield cells[starts[begin] : starts[end]], places[starts[begin] : starts[end]]


def _runs(starts: Ints) -> Iterator[tuple[int, int]]:
    begin = 0
    for end in range(1, len(starts)):
        if end == len(starts) - 1 or starts[end + 1] - starts[begin] > CHUNK:
            yield begin, end
            begin = end


def _fill(
    code_map: CodeMap,
    codes: list[Ints],
    shape: tuple[int, int],
    level: int,
    condition: Floats | None,
) -> tuple[Coding, tuple[Ints, Ints, Ints]]:
    """A coding state in which all codes are known."""
    layout = Layout(*shape, code_map.tile)
    coding = Coding(code_map.prior, layout, level, condition)
    cells, places, starts = layout.order
    for i, (book, c) in enumerate(zip(code_map.books(level), codes, strict=True)):
        coding.put(cells, i, book.vectors(c)[places])
    return coding, (cells, places, starts)


def encode(
    code_map: CodeMap,
    codes: list[Ints],
    shape: tuple[int, int],
    level: int,
    condition: Floats | None,
    encoder: Encoder,
) -> float:
    """Append a map's codes to the stream; returns their cross-entropy under the prior in bits."""
    books = code_map.books(level)
    coding, (cells, places, starts) = _fill(code_map, codes, shape, level, condition)
    bits = 0.0
    for begin, end in _runs(starts):
        first, last = starts[begin], starts[end]
        hidden = coding.hidden(cells[first:last], places[first:last])
        coded = []
        for i, book in enumerate(books):
            if book.size == 1:
                continue
            counts = book.counts(coding.features(cells[first:last], hidden, i))
            symbols = codes[i][places[first:last]].reshape(-1)
            chosen = counts[np.arange(len(symbols)), symbols] + 1
            bits -= float(np.log2(chosen / 2**24).sum())
            coded.append((book.groups, symbols, counts))
        for step in range(begin, end):
            a, b = starts[step] - first, starts[step + 1] - first
            for groups, symbols, counts in coded:
                encoder.put(symbols[a * groups : b * groups], counts[a * groups : b * groups])
    return bits


def decode(
    code_map: CodeMap,
    shape: tuple[int, int],
    level: int,
    condition: Floats | None,
    decoder: Decoder,
) -> list[Ints]:
    """Read a map's codes from the stream."""
    books = code_map.books(level)
    layout = Layout(*shape, code_map.tile)
    coding = Coding(code_map.prior, layout, level, condition)
    cells, places, starts = layout.order
    codes = [np.zeros((len(cells), book.groups), np.int64) for book in books]
    for begin, end in pairwise(starts):
        here, there = cells[begin:end], places[begin:end]
        hidden = coding.hidden(here, there)
        for i, book in enumerate(books):
            found = codes[i][there]
            if book.size > 1:
                counts = book.counts(coding.features(here, hidden, i))
                found = decoder.get(counts).reshape(-1, book.groups)
                codes[i][there] = found
            coding.put(here, i, book.vectors(found))
    return codes
