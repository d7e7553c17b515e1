"""Which codes the encoder takes: those of least distortion plus bits.

Entropy-constrained vector quantization (Chou, Lookabaugh & Gray 1989) with the prior's own
frequencies, in the context of the codes that were chosen before: encoding goes through a map as
decoding does, and asks here for codes.  Decoders know nothing of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from vqzip import codemap
from vqzip.aim import Aim, Found, room_for
from vqzip.codemap import CHUNK
from vqzip.coder import SUMS, Coded, Counter, Encoder, Sink, Writer
from vqzip.coding import Memory
from vqzip.entropy import Codes, error_terms
from vqzip.integer import Doubles
from vqzip.latents import Latents, Search
from vqzip.layout import Ints
from vqzip.slices import Choice
from vqzip.threads import share

HANDED = 1024
"""Positions that are gone through before their codes are passed on, the sink working meanwhile."""

Look = Callable[[list[Codes]], Found]
"""What codes of the bottom map leave."""

Started = dict[int, Doubles]
"""What positions of a run start from (`coding.start`), by the run's first step."""


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
    codes = _best(Aim(latents, search), None)[0] if search.by_bits else _nearest(latents)
    _append(latents, codes, encoder)
    return codes


def choose_looking(
    latents: Latents,
    search: Search,
    glance: Look | None,
    look: Look | None,
    encoder: Encoder | None = None,
) -> tuple[list[Codes], Found]:
    """The same of the bottom map, with looks at what codes decode to before the last choice.

    A glance is for the first codes; if there are passes, there is a look for those after them.
    """
    started: Started = {}
    aim = Aim(latents, search)
    if glance is not None:
        found = _glanced(aim, glance, started)
        if look is None:
            return _walk(aim.moved(), search, encoder, started), found
    codes, seen = _best(aim, look)
    assert seen is not None
    _append(latents, codes, encoder)
    return codes, seen


def _glanced(aim: Aim, glance: Look, started: Started) -> Found:
    """What first codes leave, from which, and from what they cost, the aim has learned."""
    memory = room_for(aim.latents)
    codes = _walk(aim.latents, aim.search, None, started, False, memory)
    found = glance(codes)
    aim.learn(codes, found, memory, soon=True)
    return found


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
    memory: Memory | None = None,
) -> list[Codes]:
    """Codes that are the best one after the other; a sink gets them and their weights.

    Frequencies learn if those of the model do, and if it is `learning`.  A memory is of all of the
    map's positions.
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
        kept = None if memory is None else (memory, places[rows])
        start = None if started is None else started.get(first)
        if start is None:
            start = coding.start(places[rows])
        if started is not None and len(cells) <= CHUNK:
            started[first] = start
        for some in coding.layout.runs(HANDED, first, last):
            steps = starts[some[0] : some[1] + 1] - starts[first]
            coding.choose(run.choices, cells[rows], start, steps, kept)
            if writer is not None:
                writer.put_all(run.in_order(steps))
        for whole, choice in zip(codes, run.choices, strict=True):
            whole[rows] = choice.codes
    if writer is not None:
        writer.finish()
    return [codemap.in_place(c, places) for c in codes]


def _best(aim: Aim, look: Look | None) -> tuple[list[Codes], Found | None]:
    """The best codes of several passes, each of which aims by those before."""
    latents, search = aim.latents, aim.search
    memory, best, least = room_for(latents), None, math.inf
    for left in reversed(range(search.passes + 1)):
        counter = Counter()
        codes = _walk(aim.moved(), search, counter, memory=memory if left else None)
        found = None if look is None else look(codes)
        error = (
            latents.distortion(codes, search) if found is None else found.error * search.fidelity
        )
        cost = counter.bits + error
        if best is None or cost < least:
            best, least = (codes, found), cost
        if left:
            aim.learn(codes, found, memory)
    assert best is not None
    return best


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
