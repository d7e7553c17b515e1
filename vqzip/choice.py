"""Which codes the encoder takes: those of least distortion plus bits.

Entropy-constrained vector quantization (Chou, Lookabaugh & Gray 1989) with the prior's own
frequencies, in the context of the codes that were chosen before: encoding goes through a map as
decoding does, and asks here for codes.  Decoders know nothing of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from vqzip import codemap
from vqzip.codemap import CHUNK, CodeMap
from vqzip.coder import SUMS, Coded, Counter, Encoder, Sink, Writer
from vqzip.container import MAX_LEVEL
from vqzip.entropy import Codes, error_terms
from vqzip.integer import CODEWORD_ONE, Bytes, Doubles, Floats
from vqzip.layout import Ints
from vqzip.slices import Choice
from vqzip.threads import share

if TYPE_CHECKING:
    from vqzip.wiener import Coefficients

HANDED = 1024
"""Positions that are gone through before their codes are passed on, the sink working meanwhile."""

FORESIGHT = 0.8
"""Share of what codes cost later that is counted."""

NEARER, NEARER_AT_HIGHEST = 0.3, 0.5
"""Share of the way to where the picture seems to be best, which all channels go at once: at the
lowest level and at the highest."""

NEARER_BY_EMPHASIS = -0.4
"""Exponent of what an error counts in the share: where it counts much, most codes are zeros."""

SHARES = 0.2, 0.6
"""The least share there is, and the largest."""

FARTHEST = 0.5
"""How far a latent is moved at most, in code units."""

FLATTEST, STEEPEST = 0.1, 2.0
"""Curvature of the picture's error, in weights that codes are chosen by."""

LEAST_WEIGHT = 1e-6
"""Of distortion: where it counts nothing, latents are moved as far as they may be."""


@dataclass(frozen=True)
class Found:
    """What codes of both maps leave of a picture, seen from what it decodes to."""

    error: float
    """In bits: weighed squared errors, and what structure is lacking if that counts."""
    slope: Floats
    """(positions of the bottom map, channels): bits for a code unit more."""
    filter: Coefficients | None
    """The picture's filter, which is in the error; None if it has none."""


Look = Callable[[list[Codes]], Found]
"""What codes of the bottom map leave."""

Started = dict[int, Doubles]
"""What positions of a run start from (`coding.start`), by the run's first step."""


@dataclass(frozen=True)
class Search:
    """How codes are chosen."""

    by_bits: bool = True
    """Whether bits count; if not, codes are the nearest."""
    fidelity: float = 1.0
    """Above 1, more bits than the level would take are spent on codes that are closer."""
    passes: int = 0
    """How often a map is chosen again, knowing what its codes cost those after them and, of the
    bottom map, what they leave of the picture."""
    filters: bool = True
    """Whether the picture is decoded to find a filter for it, if the model has filters; codes of
    the bottom map are then chosen once more, if they are not anyway (`glance.py`)."""

    @classmethod
    def at_effort(cls, effort: int, fidelity: float = 1.0) -> Search:
        """What an effort, 0 to 9, comes to."""
        return cls(effort > 0, fidelity, max(effort - 1, 0), effort > 0)


@dataclass(frozen=True)
class Latents:
    """A map's latents, and what the choice of their codes depends on."""

    code_map: CodeMap
    points: Floats
    """(positions, channels) in code units; those after the last channel that is coded may be
    missing."""
    shape: tuple[int, int]
    level: int
    condition: Bytes | None
    emphasis: Floats
    """(positions, 1): how much distortion counts."""

    def weight(self, search: Search) -> Floats:
        """Bits for a squared code unit of each channel, emphasis apart."""
        weight: Floats = self.code_map.distortion_weight(self.level) * np.float32(search.fidelity)
        return weight

    def moved(self, shift: Floats) -> Latents:
        """The same with other points, (positions, channels) away from these."""
        return replace(self, points=self.points - shift.clip(-FARTHEST, FARTHEST))

    def distortion(self, codes: list[Codes], search: Search) -> float:
        """What codes leave of the latents, in bits."""
        channels, total = self.points.shape[1], 0.0
        weight = self.weight(search)[:channels]
        for start in range(0, len(self.points), CHUNK):
            some = slice(start, start + CHUNK)
            vectors = self.code_map.vectors([c[some] for c in codes], self.level)[:, :channels]
            off = self.points[some] - vectors / np.float32(CODEWORD_ONE)
            total += float((np.square(off) @ weight) @ self.emphasis[some, 0])
        return total


class _Run:
    """A run of steps whose codes are to be chosen: what tells errors, and room for the codes."""

    def __init__(self, latents: Latents, search: Search, places: Ints, wanted: bool) -> None:
        """At these places; sums for a sink, or to learn from, are `wanted`, or not."""
        code_map, level, n = latents.code_map, latents.level, len(places)
        parts = [slice(*ends) for ends in pairwise(code_map.prior.starts)]
        self.choices = []
        for book, table, part in zip(
            code_map.books(level), code_map.inputs(level), parts, strict=True
        ):
            error = np.empty((n, part.stop - part.start)), np.empty((n, part.stop - part.start))
            codes = np.zeros((n, book.groups), np.int32)
            sums = np.empty((n, book.groups, SUMS)) if wanted else None
            self.choices.append(Choice(book, table, error, codes, sums))
        weight = latents.weight(search)

        def work(rows: slice) -> None:
            points, emphasis = latents.points[places[rows]], latents.emphasis[places[rows]]
            for choice, part in zip(self.choices, parts, strict=True):
                if choice.book.size > 1:
                    found = error_terms(points[:, part], weight[part] * emphasis)
                    for whole, terms in zip(choice.error, found, strict=True):
                        whole[rows] = terms

        share(work, n)

    def in_order(self, starts: Ints) -> Iterator[Coded]:
        """Codes of some steps in the order of the stream."""
        coded = [choice for choice in self.choices if choice.book.size > 1]
        for rows in (slice(*ends) for ends in pairwise(starts)):
            for choice in coded:
                assert choice.sums is not None
                sums = choice.sums[rows].reshape(-1, SUMS)
                yield choice.codes[rows].reshape(-1), sums, choice.book.size


def choose(latents: Latents, search: Search, encoder: Encoder | None = None) -> list[Codes]:
    """Codes by distortion plus bits, appended to a stream if there is one."""
    if search.by_bits and not search.passes:
        return _walk(latents, search, encoder)
    codes = _best(latents, search, None)[0] if search.by_bits else _nearest(latents)
    _append(latents, codes, encoder)
    return codes


def choose_looking(
    latents: Latents, search: Search, look: Look, encoder: Encoder | None = None
) -> tuple[list[Codes], Found]:
    """The same of the bottom map, with a look at what codes decode to before the last choice."""
    if search.passes:
        codes, found = _best(latents, search, look)
        assert found is not None
        _append(latents, codes, encoder)
        return codes, found
    started: Started = {}
    first = _walk(latents, search, None, started, learning=False)
    found = look(first)
    moved = latents.moved(_nearer(latents) * _away(latents, first, found, search))
    return _walk(moved, search, encoder, started), found


def _append(latents: Latents, codes: list[Codes], encoder: Encoder | None) -> None:
    """Codes that are chosen, to a stream if there is one."""
    if encoder is not None:
        given = latents.shape, latents.level, latents.condition
        codemap.encode(latents.code_map, codes, *given, encoder)


def _walk(
    latents: Latents,
    search: Search,
    sink: Sink | None,
    started: Started | None = None,
    learning: bool = True,
) -> list[Codes]:
    """Codes that are the best one after the other; a sink gets them and their weights.

    Frequencies learn if those of the model do, and if it is `learning`.
    """
    code_map, writer = latents.code_map, None if sink is None else Writer(sink)
    coding = code_map.coding(latents.shape, latents.level, latents.condition, learning)
    wanted = writer is not None or (code_map.adaptive and learning)
    cells, places, starts = coding.layout.order
    codes = [np.empty((len(cells), b.groups), np.uint16) for b in code_map.books(latents.level)]
    for first, last in coding.layout.runs(CHUNK):
        coding.open(first, last)
        rows = slice(starts[first], starts[last])
        run = _Run(latents, search, places[rows], wanted)
        start = None if started is None else started.get(first)
        if start is None:
            start = coding.start(places[rows])
        if started is not None and len(cells) <= CHUNK:
            started[first] = start
        for some in coding.layout.runs(HANDED, first, last):
            steps = starts[some[0] : some[1] + 1] - starts[first]
            coding.choose(run.choices, cells[rows], start, steps)
            if writer is not None:
                writer.put_all(run.in_order(steps))
        for whole, choice in zip(codes, run.choices, strict=True):
            whole[rows] = choice.codes
    if writer is not None:
        writer.finish()
    return [codemap.in_place(c, places) for c in codes]


def _best(latents: Latents, search: Search, look: Look | None) -> tuple[list[Codes], Found | None]:
    """The best codes of several passes, which learn from those before what codes cost later.

    Latents are moved against the gradient of that: `w (z - c)^2 + g c` is `w (z - g / 2 w - c)^2`,
    up to what is the same for all codes.  And they are moved to where the decoded picture says that
    codes should have been.  Both are means over the choices so far and one before that knew
    nothing, for the choice to come to rest.
    """
    from vqzip.foresight import Foresight

    ahead, points = Foresight(latents.code_map, latents.level), latents.points
    channels = points.shape[1]
    half = FORESIGHT / 2 / _least_weight(latents, search)
    shift, moved = np.zeros_like(points), latents
    best, least = None, math.inf
    for known in range(search.passes + 1):
        counter = Counter()
        codes = _walk(moved, search, counter)
        found = None if look is None else look(codes)
        left = latents.distortion(codes, search) if found is None else found.error * search.fidelity
        cost = counter.bits + left
        if best is None or cost < least:
            best, least = (codes, found), cost
        if known < search.passes:
            costs = ahead.costs(codes, latents.shape, latents.condition)[:, :channels]
            step = costs * (half / latents.emphasis)
            if found is not None:
                step += _away(latents, codes, found, search)
            shift += (step - shift) / (known + 2)
            moved = latents.moved(shift)
    assert best is not None
    return best


def _nearer(latents: Latents) -> Floats:
    """Share of the way to where the picture seems to be best (positions, 1)."""
    share = np.interp(latents.level, (0, MAX_LEVEL), (NEARER, NEARER_AT_HIGHEST))
    nearer = np.clip(share * latents.emphasis**NEARER_BY_EMPHASIS, *SHARES)
    shares: Floats = nearer.astype(np.float32)
    return shares


def _least_weight(latents: Latents, search: Search) -> Floats:
    """Weights of errors of the channels that there are, none of them zero."""
    weight: Floats = latents.weight(search)[: latents.points.shape[1]]
    return np.maximum(weight, LEAST_WEIGHT)


def _away(latents: Latents, codes: list[Codes], found: Found, search: Search) -> Floats:
    """How far latents are from where the picture is best, (positions, channels).

    The curvature of its error is what the distance of code vectors from the latents explains of its
    slope, channel by channel: not far from the weights of errors.
    """
    weight = _least_weight(latents, search)
    slope = found.slope[:, : len(weight)] * np.float32(search.fidelity) / latents.emphasis
    vectors = latents.code_map.vectors(codes, latents.level)[:, : len(weight)]
    off = vectors * np.float32(1 / CODEWORD_ONE) - latents.points
    explained = np.einsum("pc,pc->c", slope, off, dtype=np.float64)
    squares = np.einsum("pc,pc->c", off, off, dtype=np.float64)
    curvature = explained / (2 * squares + LEAST_WEIGHT)
    curvature = np.clip(curvature, FLATTEST * weight, STEEPEST * weight).astype(np.float32)
    away: Floats = slope / (2 * curvature) - off
    return away


def _nearest(latents: Latents) -> list[Codes]:
    """Codes of least error.  Emphasis, the same for all channels, does not change which one is."""
    code_map, points = latents.code_map, latents.points
    books = code_map.books(latents.level)
    parts = [slice(*ends) for ends in pairwise(code_map.prior.starts)]
    weight = code_map.distortion_weight(latents.level)
    codes = [np.zeros((len(points), book.groups), np.uint16) for book in books]
    for book, part, chosen in zip(books, parts, codes, strict=True):
        if book.size > 1:
            own = points[:, part]
            error = error_terms(own, np.broadcast_to(weight[part], own.shape))
            chosen[:] = book.best(error, None)
    return codes
