"""The user's quality scale, 1 to 100, and the model's scale of levels, 0 to 128."""

from __future__ import annotations

from bisect import bisect_left

from vqzip.container import MAX_LEVEL
from vqzip.errors import VqzError

LOWEST_QUALITY, HIGHEST_QUALITY, DEFAULT_QUALITY = 1, 100, 50
LOWEST_EFFORT, HIGHEST_EFFORT, DEFAULT_EFFORT = 0, 9, 1

TRAINED_EVERY = 16
"""Levels from one that has codebooks to the next."""

WORTH, REACH = 4, 7
"""How far above it its codebooks are worth using, and how far they are used.

Close to the end of their range they are too coarse: where the next ones begin, files are hardly
larger, and some smaller, and pictures better by up to 0.9 dB.
"""

LEVELS = [x for x in range(MAX_LEVEL + 1) if not WORTH < x % TRAINED_EVERY <= REACH]
"""Those that qualities are spread over."""

_STEP = (len(LEVELS) - 1) / (HIGHEST_QUALITY - LOWEST_QUALITY)


def check_effort(effort: int) -> None:
    """Raise VqzError for anything but an int from 0 to 9."""
    if not isinstance(effort, int) or isinstance(effort, bool):
        raise VqzError(f"effort must be a whole number, not {effort!r}")
    if not LOWEST_EFFORT <= effort <= HIGHEST_EFFORT:
        raise VqzError(f"effort must be from {LOWEST_EFFORT} to {HIGHEST_EFFORT}, not {effort}")


def level_of_quality(quality: int) -> int:
    """Level (0..128) of a quality (1..100); no two qualities share one.

    Raises VqzError for anything but an int from 1 to 100.
    """
    if not isinstance(quality, int) or isinstance(quality, bool):
        raise VqzError(f"quality must be a whole number, not {quality!r}")
    if not LOWEST_QUALITY <= quality <= HIGHEST_QUALITY:
        raise VqzError(f"quality must be from {LOWEST_QUALITY} to {HIGHEST_QUALITY}, not {quality}")
    return LEVELS[round((quality - LOWEST_QUALITY) * _STEP)]


def quality_of_level(level: int) -> int:
    """Quality (1..100) that comes closest to a level (0..128), the inverse of level_of_quality."""
    return LOWEST_QUALITY + round(bisect_left(LEVELS, level) / _STEP)
