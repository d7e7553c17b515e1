"""The user's quality scale, 1 to 100, and the model's scale of levels, 0 to 128."""

from __future__ import annotations

from vqzip.container import MAX_LEVEL
from vqzip.errors import VqzError

LOWEST_QUALITY, HIGHEST_QUALITY, DEFAULT_QUALITY = 1, 100, 50


def level_of_quality(quality: int) -> int:
    """Level (0..128) of a quality (1..100); no two qualities share one.

    Raises VqzError for anything but an int from 1 to 100.
    """
    if not isinstance(quality, int) or isinstance(quality, bool):
        raise VqzError(f"quality must be a whole number, not {quality!r}")
    if not LOWEST_QUALITY <= quality <= HIGHEST_QUALITY:
        raise VqzError(f"quality must be from {LOWEST_QUALITY} to {HIGHEST_QUALITY}, not {quality}")
    return round((quality - LOWEST_QUALITY) * MAX_LEVEL / (HIGHEST_QUALITY - LOWEST_QUALITY))


def quality_of_level(level: int) -> int:
    """Quality (1..100) that comes closest to a level (0..128), the inverse of level_of_quality."""
    return LOWEST_QUALITY + round(level * (HIGHEST_QUALITY - LOWEST_QUALITY) / MAX_LEVEL)
