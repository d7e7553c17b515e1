"""What codes are chosen for: a map's latents, and how hard to look for the best codes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vqzip.codemap import CHUNK, CodeMap
from vqzip.entropy import Codes
from vqzip.integer import CODEWORD_ONE, Bytes, Floats

FARTHEST = 0.35
"""How far a latent is moved at most, in code units."""

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
    """How often a map is chosen again, knowing what its codes cost those after them and, of the
    bottom map, what they leave of the picture."""
    filters: bool = True
    """Whether the picture is decoded to find a filter for it, if the model has filters; codes of
    the bottom map are then chosen once more (`glance.py`)."""

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

    def least_weight(self, search: Search) -> Floats:
        """The same of the channels that there are, none of them zero."""
        return np.maximum(self.weight(search)[: self.points.shape[1]], LEAST_WEIGHT)

    def vectors(self, codes: list[Codes]) -> NDArray[np.int16]:
        """Code vectors (positions, channels) in sixty-fourths, of channels that points have."""
        return self.code_map.vectors(codes, self.level)[:, : self.points.shape[1]]

    def moved(self, shift: Floats) -> Latents:
        """The same with other points, (positions, channels) away from these."""
        return replace(self, points=self.points - shift.clip(-FARTHEST, FARTHEST))

    def distortion(self, codes: list[Codes], search: Search) -> float:
        """What codes leave of the latents, in bits."""
        weight, total = self.weight(search)[: self.points.shape[1]], 0.0
        for start in range(0, len(self.points), CHUNK):
            some = slice(start, start + CHUNK)
            vectors = self.vectors([c[some] for c in codes])
            off = self.points[some] - vectors / np.float32(CODEWORD_ONE)
            total += float((np.square(off) @ weight) @ self.emphasis[some, 0])
        return total
