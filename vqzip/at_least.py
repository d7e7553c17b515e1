"""A quality is one at least: a better one is taken where it takes no more bytes.

Most of a smooth picture's bits are the colours of what is flat in it.  How many these are depends
on which codewords they lie between, which changes from level to level, so that files of a better
level are smaller now and then, by up to a fifth of a few hundred bytes.  To know, one has to look:
the next levels are encoded, too, where that may be.  With it, hardly any quality gives a smaller
file than a lower one; pictures with more in them have none that does, and are encoded once.
"""

from __future__ import annotations

from collections.abc import Callable

from vqzip.quality import HIGHEST_QUALITY, level_of_quality

SMOOTH = 0.2
"""Bits per pixel of a picture that is looked at more closely."""

LARGEST = 2**20
"""Pixels of such a picture at most: for larger ones, time counts more."""

LOOKS = 4
"""How many qualities above the best one known are looked at."""

CLEARLY = 1.02
"""By what factor a file has to be larger than the best one for those after it to be, too."""

CHANCE = 16
"""And by how many bytes: a filter that gains next to nothing may be in some and not in others."""


def encode_at_least(encode: Callable[[int], bytes], quality: int, pixels: int) -> tuple[int, bytes]:
    """The smallest of the code streams of a quality and of those above it, as far as it looks.

    Returns its level (0..128) and the stream; of streams of the same size the best one.

    Args:
        encode: Makes the code stream of a level.
        quality: 1 to 100.
        pixels: Of the picture.
    """
    best = level_of_quality(quality)
    stream, last = encode(best), quality + LOOKS
    if pixels > LARGEST:
        return best, stream
    while quality < min(last, HIGHEST_QUALITY) and 8 * len(stream) < SMOOTH * pixels:
        quality += 1
        level = level_of_quality(quality)
        other = encode(level)
        if len(other) <= len(stream):
            best, stream, last = level, other, quality + LOOKS
        elif len(other) > CLEARLY * len(stream) + CHANCE:
            break
    return best, stream
