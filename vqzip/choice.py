"""Which codes the encoder takes: those of least distortion plus bits.

Entropy-constrained vector quantization (Chou, Lookabaugh & Gray 1989) with the prior's own
frequencies, in the context of the codes that were chosen before: encoding goes through a map as
decoding does, and asks here for codes.  Decoders know nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqzip import codemap
from vqzip.codemap import CodeMap, Writer, walk
from vqzip.coding import Coding
from vqzip.entropy import Codes, Encoder, error_terms
from vqzip.integer import Bytes, Doubles, Floats
from vqzip.layout import Ints
from vqzip.native import spread
from vqzip.threads import share

FORESIGHT = 0.8
"""Share of what codes cost later that is counted."""

FARTHEST = 0.5
"""How far a latent is moved for that at most, in code units."""

LEAST_WEIGHT = 1e-6
"""Of distortion: where it counts nothing, latents are moved as far as they may be."""


@dataclass(frozen=True)
class Search:
    """How codes are chosen."""

    by_bits: bool = True
    """Whether bits count; if not, codes are the nearest."""
    fidelity: float = 1.0
    """Above 1, more bits than the level would take are spent on codes that are closer."""
    passes: int = 0
    """How often a map is chosen before, to learn what its codes cost those after them."""

    @classmethod
    def at_effort(cls, effort: int, fidelity: float = 1.0) -> Search:
        """What an effort, 0 to 9, comes to."""
        return cls(effort > 0, fidelity, max(effort - 1, 0))


class _Chooser:
    """Gives the codes of least distortion plus bits, as a `codemap.Source`."""

    def __init__(
        self,
        code_map: CodeMap,
        latent: Floats,
        level: int,
        emphasis: Floats,
        search: Search,
        writer: Writer | None = None,
    ) -> None:
        """`writer` gets the codes in the order of the stream."""
        self._books = code_map.books(level)
        self._parts = [slice(*ends) for ends in pairwise(code_map.prior.starts)]
        self._weight = code_map.distortion_weight(level) * np.float32(search.fidelity)
        self._latent, self._emphasis, self._writer = latent, emphasis, writer

    def begin(self, coding: Coding, places: Ints) -> None:
        """Find what tells errors at the places of a run."""
        self._coding = coding
        sizes = [part.stop - part.start for part in self._parts]
        self._errors = [(np.empty((len(places), n)), np.empty((len(places), n))) for n in sizes]

        def work(rows: slice) -> None:
            points, emphasis = self._latent[places[rows]], self._emphasis[places[rows]]
            for book, part, error in zip(self._books, self._parts, self._errors, strict=True):
                if book.size > 1:
                    found = error_terms(points[:, part], self._weight[part] * emphasis)
                    for whole, terms in zip(error, found, strict=True):
                        whole[rows] = terms

        share(work, len(places))

    def take(self, i: int, hidden: Doubles, seen: NDArray[Any], rows: slice) -> NDArray[np.int32]:
        """Codes (n, G) of slice `i` for some rows of the run."""
        book, first = self._books[i], rows.start
        codes = np.empty((len(hidden), book.groups), np.int32)
        weights = None if self._writer is None else np.empty((codes.size, book.size))

        def choose(some: slice) -> None:
            slopes, squares = (e[first + some.start : first + some.stop] for e in self._errors[i])
            wanted = None
            if weights is not None:
                wanted = weights[some.start * book.groups : some.stop * book.groups]
            layers = self._coding.slices[i]
            layers.choose(book, hidden[some], seen[some], (slopes, squares), codes[some], wanted)

        spread(choose, len(hidden))
        if self._writer is not None and weights is not None:
            self._writer.put(codes.reshape(-1), weights)
        return codes


def choose(
    code_map: CodeMap,
    latent: Floats,
    shape: tuple[int, int],
    level: int,
    condition: Bytes | None,
    emphasis: Floats,
    search: Search,
    encoder: Encoder | None = None,
) -> list[Codes]:
    """Codes of latents (positions, channels) by distortion plus bits, appended to a stream if any.

    Of the latents' channels, those after the last that is coded may be missing.
    `emphasis` (positions, 1) is how much distortion counts.
    """
    if search.passes:
        latent = _foreseeing(code_map, latent, shape, level, condition, emphasis, search)
    if not search.by_bits:
        codes = _nearest(code_map, latent, level)
        if encoder is not None:
            codemap.encode(code_map, codes, shape, level, condition, encoder)
        return codes
    writer = None if encoder is None else Writer(encoder)
    chooser = _Chooser(code_map, latent, level, emphasis, search, writer)
    codes = walk(code_map, shape, level, condition, chooser)
    if writer is not None:
        writer.finish()
    return codes


def _foreseeing(
    code_map: CodeMap,
    latent: Floats,
    shape: tuple[int, int],
    level: int,
    condition: Bytes | None,
    emphasis: Floats,
    search: Search,
) -> Floats:
    """Latents that take codes by what these cost later, too: moved against the gradient of that.

    `w (z - c)^2 + g c` is `w (z - g / 2 w - c)^2`, up to what is the same for all codes.  The
    gradient is a mean over the choices so far and one before that knew nothing, for the choice
    to come to rest.
    """
    from vqzip.foresight import Foresight

    ahead, plain = Foresight(code_map, level), replace(search, passes=0)
    channels = latent.shape[1]
    weight = code_map.distortion_weight(level)[:channels] * np.float32(search.fidelity)
    half = FORESIGHT / 2 / np.maximum(weight, LEAST_WEIGHT)
    shift, moved = np.zeros_like(latent), latent
    for known in range(1, search.passes + 1):
        codes = choose(code_map, moved, shape, level, condition, emphasis, plain)
        costs = ahead.costs(codes, shape, condition)[:, :channels] * (half / emphasis)
        shift += (costs - shift) / (known + 1)
        moved = latent - shift.clip(-FARTHEST, FARTHEST)
    return moved


def _nearest(code_map: CodeMap, latent: Floats, level: int) -> list[Codes]:
    """Codes of least error.  Emphasis, the same for all channels, does not change which one is."""
    parts = [slice(*ends) for ends in pairwise(code_map.prior.starts)]
    weight = code_map.distortion_weight(level)
    codes = [np.zeros((len(latent), book.groups), np.uint16) for book in code_map.books(level)]
    for book, part, chosen in zip(code_map.books(level), parts, codes, strict=True):
        if book.size > 1:
            points = latent[:, part]
            error = error_terms(points, np.broadcast_to(weight[part], points.shape))
            chosen[:] = book.best(error, None)
    return codes
