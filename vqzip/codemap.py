"""One code map to the stream and back: the prior drives the coder along the wavefront.

Codes of a map are a list with one array (positions, G) for each slice, positions in plain raster
order; a slice with one codeword (K = 1) is not coded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vqzip import native
from vqzip.adaptation import Adaptation
from vqzip.coder import SUMS, Coded, Counter, Sink, Sums, Writer
from vqzip.coding import Coding
from vqzip.entropy import CodebookTable, Codes, look_up
from vqzip.integer import (
    Bytes,
    Doubles,
    Floats,
    IntegerPixelCNN,
)
from vqzip.layout import Ints, Layout
from vqzip.threads import share

CHUNK = 8192  # positions that are gone through at once while encoding
KEPT = 2**16  # cells there is room for while coding, if that is a step

Known = Callable[[Ints], NDArray[np.int8]]
"""What the prior's network sees of some places, (n, channels)."""


@dataclass(frozen=True)
class CodeMap:
    """What coding one of the two maps needs."""

    prior: IntegerPixelCNN
    tables: list[list[CodebookTable]]  # [level][slice]
    weight: NDArray[np.float32]  # (levels, channels) bits for a squared code unit, encoder only
    tile: int  # side of a tile in codes
    steps: int  # positions of the quality scale from one trained level to the next
    adaptive: bool = False  # whether frequencies learn from a map's codes

    def books(self, level: int) -> list[CodebookTable]:
        """Codebooks of the trained level that is nearest to a position on the quality scale."""
        return self.tables[self.trained_level(level)]

    def trained_level(self, level: int) -> int:
        """Index of the trained level nearest to a position on the quality scale."""
        return (2 * level + self.steps) // (2 * self.steps)

    def vectors(self, codes: list[Codes], level: int) -> NDArray[np.int16]:
        """Codes to code vectors (positions, channels) in sixty-fourths."""
        books = self.books(level)
        return np.concatenate([b.vectors(c) for b, c in zip(books, codes, strict=True)], axis=1)

    def distortion_weight(self, level: int) -> Floats:
        """Bits for a squared code unit (channels,) at a position on the quality scale."""
        at, known = level / self.steps, np.arange(len(self.weight))
        rows = [np.interp(at, known, w) for w in self.weight.T]
        return np.array(rows, np.float32)

    def coding(
        self, shape: tuple[int, int], level: int, condition: Bytes | None, learning: bool = True
    ) -> Coding:
        """A state of coding a map of so many rows and columns, in which nothing is known.

        If it is not `learning`, frequencies are those of the prior whatever the model.
        """
        whole = Layout(*shape, self.tile)
        layout = replace(whole, window=max(KEPT // whole.lines, 1))
        learned = [
            Adaptation(book) if self.adaptive and learning and book.size > 1 else None
            for book in self.books(level)
        ]
        return Coding(self.prior, layout, level, condition, self.coded(level), learned)

    def coded(self, level: int) -> int:
        """How many channels there are before those that are zero everywhere."""
        used = [book.size > 1 or book.codewords.any() for book in self.books(level)]
        last = max((i for i, found in enumerate(used) if found), default=-1)
        return int(self.prior.starts[last + 1])

    def inputs(self, level: int) -> list[NDArray[np.int8]]:
        """What the prior sees of each slice's codewords, (G, K, d)."""
        seen = []
        for start, book in zip(self.prior.starts, self.books(level), strict=False):
            by_channel = book.codewords.transpose(1, 0, 2)
            flat = self.prior.inputs(by_channel.reshape(book.size, -1), level, start)
            seen.append(flat.reshape(by_channel.shape).transpose(1, 0, 2).copy())
        return seen

    def seen(self, codes: list[Codes], level: int) -> Known:
        """What the prior sees of codes."""
        inputs = self.inputs(level)

        def known(places: Ints) -> NDArray[np.int8]:
            found = [look_up(table, c[places]) for table, c in zip(inputs, codes, strict=True)]
            return np.concatenate(found, axis=1)

        return known


class CodeSource(Protocol):
    """What tells codes by their weights alone: a `Decoder` reads them, a `Sampler` draws them."""

    def get(self, weights: Doubles) -> NDArray[np.int32]:
        """The next codes (n,), given weights (n, K)."""


def _weights(
    coding: Coding, i: int, book: CodebookTable, hidden: Doubles, seen: NDArray[Any]
) -> tuple[Doubles, Doubles | None]:
    """Weights (n * G, K) of a slice, and what is to be learned from with its codes, if it is."""
    weights = np.empty((len(hidden) * book.groups, book.size))
    adapted = coding.adaptations[i]
    base = None if adapted is None else np.empty((len(hidden), book.groups * book.dim, 2))

    def weigh(rows: slice) -> None:
        part = slice(rows.start * book.groups, rows.stop * book.groups)
        learned = adapted, None if base is None else base[rows]
        coding.slices[i].weigh(book, hidden[rows], seen[rows], weights[part], *learned)

    native.spread(weigh, len(hidden))
    return weights, base


def _sums(
    coding: Coding,
    i: int,
    book: CodebookTable,
    hidden: Doubles,
    seen: NDArray[Any],
    codes: NDArray[np.int32],
) -> Sums:
    """Sums (n * G, 3) for codes (n, G) of a slice, which learns from them if it does."""
    sums = np.empty((codes.size, SUMS))
    adapted = coding.adaptations[i]

    def find(rows: slice) -> None:
        part = slice(rows.start * book.groups, rows.stop * book.groups)
        given = book, hidden[rows], seen[rows], codes[rows], sums[part]
        coding.slices[i].find_sums(*given, adapted)

    if adapted is None:
        native.spread(find, len(hidden))
    else:
        find(slice(0, len(hidden)))
    return sums


def filled(coding: Coding, known: Known, chunk: int) -> Iterator[tuple[Ints, Ints, Ints]]:
    """The coding order in runs of whole wavefront steps of about so many positions.

    Cells, places, and where each step starts among them.  In `coding`, all codes are known so far:
    `known` gives what the network sees of places.
    """
    cells, places, starts = coding.layout.order

    def put(first: int, rows: slice) -> None:
        run = slice(first + rows.start, first + rows.stop)
        coding.put(cells[run], known(places[run]))

    for begin, end in coding.layout.runs(chunk):
        first, last = starts[begin], starts[end]
        coding.open(begin, end)
        share(partial(put, first), last - first)
        yield cells[first:last], places[first:last], starts[begin : end + 1] - first


def encode(
    code_map: CodeMap,
    codes: list[Codes],
    shape: tuple[int, int],
    level: int,
    condition: Bytes | None,
    encoder: Sink,
) -> None:
    """Append a map's codes to the stream."""
    writer = Writer(encoder)
    for coded in _coded(code_map, codes, shape, level, condition):
        writer.put(coded)
    writer.finish()


def cross_entropy(
    code_map: CodeMap,
    codes: list[Codes],
    shape: tuple[int, int],
    level: int,
    condition: Bytes | None,
) -> float:
    """Bits of a map's codes under the prior."""
    counter = Counter()
    encode(code_map, codes, shape, level, condition, counter)
    return counter.bits


def _coded(
    code_map: CodeMap,
    codes: list[Codes],
    shape: tuple[int, int],
    level: int,
    condition: Bytes | None,
) -> Iterator[Coded]:
    """Codes by step, then by slice."""
    books = {i: book for i, book in enumerate(code_map.books(level)) if book.size > 1}
    coding = code_map.coding(shape, level, condition)
    for cells, places, starts in filled(coding, code_map.seen(codes, level), CHUNK):
        hidden, seen = coding.hidden(cells, coding.start(places)), coding.inputs[cells]
        for block in coding.blocks(len(starts) - 1):
            first, last = starts[block.start], starts[block.stop]
            rows = slice(first, last)
            chosen = {i: codes[i][places[rows]].astype(np.int32) for i in books}
            given = hidden[rows], seen[rows]
            sums = {i: _sums(coding, i, books[i], *given, chosen[i]) for i in books}
            for a, b in pairwise(starts[block.start : block.stop + 1] - first):
                for i, book in books.items():
                    some = slice(a * book.groups, b * book.groups)
                    yield chosen[i].reshape(-1)[some], sums[i][some], book.size


def decode(
    code_map: CodeMap,
    shape: tuple[int, int],
    level: int,
    condition: Bytes | None,
    source: CodeSource,
) -> list[Codes]:
    """A map's codes from a source, each in the context of those before."""
    books, tables = code_map.books(level), code_map.inputs(level)
    coding = code_map.coding(shape, level, condition)
    cells, places, starts = coding.layout.order
    codes = [np.zeros((len(cells), book.groups), np.uint16) for book in books]
    for first, last in coding.layout.runs(CHUNK):
        coding.open(first, last)
        offset = starts[first]
        begun = coding.start(places[offset : starts[last]])
        for begin, end in pairwise(starts[first : last + 1]):
            here = cells[begin:end]
            hidden = coding.hidden(here, begun[begin - offset : end - offset], one_step=True)
            seen = np.empty((len(here), code_map.prior.channels), np.int8)
            for i, (book, table) in enumerate(zip(books, tables, strict=True)):
                found: NDArray[np.int32] = np.zeros((len(here), book.groups), np.int32)
                if book.size > 1:
                    weights, base = _weights(coding, i, book, hidden, seen)
                    found = source.get(weights).reshape(len(here), book.groups)
                    adapted = coding.adaptations[i]
                    if adapted is not None and base is not None:
                        adapted.learn(base, weights, found)
                coding.slices[i].see(table, found, seen)
                codes[i][begin:end] = found
            coding.put(here, seen)
            coding.pass_steps()
    return [in_place(c, places) for c in codes]


def in_place(codes: Codes, places: Ints) -> Codes:
    """Codes in coding order to plain order."""
    plain = np.empty_like(codes)
    plain[places] = codes
    return plain
