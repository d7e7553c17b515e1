"""Where the next choice of codes aims: what those before it cost others, and leave of the picture.

A latent is moved to where codes should have been, as far as one choice tells: it was made without
knowing what else would be chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vqzip import native
from vqzip.codemap import CHUNK
from vqzip.coding import Memory
from vqzip.container import MAX_LEVEL
from vqzip.entropy import Codes
from vqzip.integer import CODEWORD_ONE, Floats
from vqzip.latents import LEAST_WEIGHT, Latents, Search
from vqzip.threads import each

if TYPE_CHECKING:
    from vqzip.wiener import Coefficients

FORESIGHT = 0.8
"""Share of what codes cost later that is counted, half of it by a first choice alone."""

NEARER, NEARER_AT_HIGHEST = 0.3, 0.5
"""Share of the way to where the picture seems to be best, which all channels go at once: at the
lowest level and at the highest."""

NEARER_BY_EMPHASIS = -0.4
"""Exponent of what an error counts in the share: where it counts much, most codes are zeros."""

SHARES = 0.2, 0.6
"""The least share there is, and the largest."""

FLATTEST, STEEPEST = 0.1, 2.0
"""Curvature of the picture's error, in weights that codes are chosen by."""

REMEMBERED = 2**16
"""Positions of a map whose choice can be remembered, in up to 2.4 kB each."""

PIECE = CHUNK // 4
"""Positions whose sums are found at once: sums of floats depend on that, and files would."""


@dataclass(frozen=True)
class Found:
    """What codes of both maps leave of a picture, seen from what it decodes to."""

    error: float
    """In bits: weighed squared errors, and what structure is lacking if that counts."""
    slope: Floats
    """(positions of the bottom map, channels): bits for a code unit more."""
    filter: Coefficients | None
    """The picture's filter, which is in the error; None if it has none."""


class Aim:
    """Latents that are moved to where codes should have been, by the choices so far.

    Against the gradient of what codes cost later: `w (z - c)^2 + g c` is `w (z - g / 2 w - c)^2`,
    up to what is the same for all codes.  And to where the decoded picture says, by what one choice
    tells at first.  Both are means over the choices and one before that knew nothing, for the
    choice to come to rest.
    """

    def __init__(self, latents: Latents, search: Search) -> None:
        self.latents, self.search = latents, search
        self._shift, self._choices = np.zeros_like(latents.points), 0

    def moved(self) -> Latents:
        """The latents to choose codes of next."""
        return self.latents.moved(self._shift)

    def learn(
        self, codes: list[Codes], found: Found | None, memory: Memory | None, soon: bool = False
    ) -> None:
        """From codes, what they leave of the picture, if it was looked at, and what is remembered.

        If it is to be `soon`, what they cost later counts only if that is remembered.
        """
        latents, vectors = self.latents, self.latents.vectors(codes)
        share = 1 / (self._choices + 2)
        self._shift *= 1 - share
        if memory is not None or not soon:
            costs = cheaper(latents, codes, vectors, memory, self.search)
            self._shift += share * FORESIGHT * costs
        if found is not None:
            towards = share if self._choices else nearer(latents)
            self._shift += towards * away(latents, vectors, found, self.search)
        self._choices += 1


def nearer(latents: Latents) -> Floats:
    """Share of the way to where the picture seems to be best (positions, 1)."""
    share = np.interp(latents.level, (0, MAX_LEVEL), (NEARER, NEARER_AT_HIGHEST))
    nearer = np.clip(share * latents.emphasis**NEARER_BY_EMPHASIS, *SHARES)
    shares: Floats = nearer.astype(np.float32)
    return shares


def away(latents: Latents, vectors: NDArray[np.int16], found: Found, search: Search) -> Floats:
    """How far latents are from where the picture is best, (positions, channels).

    Given what code vectors (positions, channels) in sixty-fourths leave.  The curvature of the
    picture's error is what their distance from the latents explains of its slope, channel by
    channel: not far from the weights of errors.
    """
    count, channels = vectors.shape
    off, slope = np.empty((2, count, channels), np.float32)
    pieces = [slice(start, start + PIECE) for start in range(0, count, PIECE)]

    def measure(rows: slice) -> Floats:
        np.multiply(vectors[rows], np.float32(1 / CODEWORD_ONE), out=off[rows])
        off[rows] -= latents.points[rows]
        by = np.float32(search.fidelity) / latents.emphasis[rows]
        np.multiply(found.slope[rows, :channels], by, out=slope[rows])
        sums: Floats = np.stack([np.einsum("pc,pc->c", x[rows], off[rows]) for x in (slope, off)])
        return sums

    explained, squares = np.sum(each(measure, pieces), axis=0)
    weight = latents.least_weight(search)
    curvature = explained / (2 * squares + LEAST_WEIGHT)
    half = np.float32(0.5) / np.clip(curvature, FLATTEST * weight, STEEPEST * weight)

    def move(rows: slice) -> None:
        slope[rows] *= half
        slope[rows] -= off[rows]

    each(move, pieces)
    return slope


def room_for(latents: Latents) -> Memory | None:
    """For what is remembered of a choice, if anything is: compiled loops do, of maps not too large.

    All layers have to be of one width.
    """
    prior, (positions, channels) = latents.code_map.prior, latents.points.shape
    widths = {layer.matrix.shape[1] for layer in prior.spatial}
    alike = widths == {prior.embedding.shape[1]}
    if native.library() is None or not alike or not channels or positions > REMEMBERED:
        return None
    return Memory.of(prior, positions, channels)


def cheaper(
    latents: Latents,
    codes: list[Codes],
    vectors: NDArray[np.int16],
    memory: Memory | None,
    search: Search,
) -> Floats:
    """How far latents are from where codes after them cost least, (positions, channels).

    Given codes, their vectors (positions, channels) in sixty-fourths, and what is remembered of how
    they were chosen, if anything is.
    """
    code_map, channels = latents.code_map, vectors.shape[1]
    if memory is None:
        from vqzip.foresight import Foresight

        ahead = Foresight(code_map, latents.level)
        costs = ahead.costs(codes, latents.shape, latents.condition)[:, :channels]
    else:
        from vqzip.backward import backward

        prior = backward(code_map.prior, latents.level, channels)
        costs = prior.costs(vectors, memory, latents.shape, code_map.tile)
    costs *= np.float32(0.5) / latents.least_weight(search)
    costs /= latents.emphasis
    return costs
