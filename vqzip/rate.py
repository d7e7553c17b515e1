"""Rate control: the level at which a file has a given size, or its picture a given PSNR.

Sizes are those of whole files and pixels are really decoded, so that every look costs an encode.
Both grow with the level nearly as straight lines, if sizes are logarithms: a few looks are enough.
Where one level more is too much, as where codebooks change, codes are chosen more closely instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from vqzip.at_least import encode_at_least
from vqzip.container import MAX_LEVEL
from vqzip.errors import VqzError
from vqzip.quality import DEFAULT_QUALITY, level_of_quality

if TYPE_CHECKING:
    from vqzip.api import Info
    from vqzip.codec import CodecModel, Codes
    from vqzip.image import Picture, Pixels

TOLERANCE = 0.03
"""A file is smaller than its target by at most this, if the model can make one."""

# What levels are expected to do; if pictures differ, or models, that costs an encode more.
LOWEST_BPP, HIGHEST_BPP = 0.075, 1.5
LOWEST_PSNR, PSNR_SLOPE = 25.0, 0.1
SIZE_SLOPE = math.log(HIGHEST_BPP / LOWEST_BPP) / MAX_LEVEL

_WORD = 4  # bytes; the size of a file cannot be chosen more finely
_FINE_STEPS, _FINE_OCTAVE = 16, 8  # of the fidelity: from 1 to 4, eight for a factor of two
_GUESSES = 6  # after these, the search halves what is left


@dataclass(frozen=True)
class Rate:
    """What a file is to meet, one thing at most; without any, the default quality.

    Attributes:
        quality: 1 (smallest) to 100 (best).
        target_bpp: At most so many bits per pixel, of the whole file, and hardly fewer.
        max_bytes: At most so many bytes, of the whole file, and hardly fewer.
        target_psnr: At least so many dB over all decoded 8-bit values, in the smallest file.

    Raises VqzError if two are given or one is out of range.
    """

    quality: int | None = None
    target_bpp: float | None = None
    max_bytes: int | None = None
    target_psnr: float | None = None

    def __post_init__(self) -> None:
        if sum(value is not None for value in vars(self).values()) > 1:
            raise VqzError("quality, target bpp, max bytes and target psnr exclude each other")
        if self.quality is not None:
            level_of_quality(self.quality)
        _check("target bpp", self.target_bpp, float)
        _check("max bytes", self.max_bytes, int)
        _check("target psnr", self.target_psnr, float)

    def limit(self, pixels: int) -> int | None:
        """Largest size in bytes of a file of so many pixels, if there is one."""
        if self.target_bpp is not None:
            # Not 6 bytes for 0.7 bpp of 80 pixels, for want of a last bit.
            return math.floor(min(self.target_bpp * pixels / 8 + 1e-6, 2**62))
        return self.max_bytes

    def shortfall(self, about: Info) -> str | None:
        """What to tell the user if even the best quality takes less than the target allows."""
        limit = self.limit(about.width * about.height)
        if limit is None or about.level < MAX_LEVEL or about.bytes >= _least(limit):
            return None
        return f"the best quality takes only {about.bytes:,} of {limit:,} bytes"


def _check(name: str, value: float | None, kind: type[float]) -> None:
    if value is None:
        return
    number = isinstance(value, int | kind) and not isinstance(value, bool)
    if not number or not 0 < value < math.inf:
        what = "whole number" if kind is int else "number"
        raise VqzError(f"{name} must be a {what} above 0, not {value!r}")


def encode_at_rate(
    codec: CodecModel,
    picture: Picture,
    rate: Rate,
    effort: int,
    wrap: Callable[[int, bytes], bytes],
) -> bytes:
    """The file of a picture that meets `rate`.

    Args:
        codec: The model.
        picture: Its pixels are used.
        rate: What the file is to meet.
        effort: 0 (fastest) to 9 (smallest).
        wrap: Makes a file of a level (0..128) and the code stream of that level.

    Raises:
        VqzError: Not even the lowest or the highest level meets it.
    """
    from vqzip.codec import pack
    from vqzip.encoding import encode
    from vqzip.latents import Search

    height, width, _ = picture.pixels.shape

    def stream(level: int, fidelity: float = 1.0) -> bytes:
        return encode(codec, picture.pixels, level, Search.at_effort(effort, fidelity))

    limit, pixels = rate.limit(height * width), height * width
    if limit is not None:
        return fit(lambda level, fidelity: wrap(level, stream(level, fidelity)), limit, pixels)
    if rate.target_psnr is not None:
        level, codes = _reach(codec, picture, rate.target_psnr, effort)
        return wrap(level, pack(codec, codes, level))
    quality = DEFAULT_QUALITY if rate.quality is None else rate.quality
    return wrap(*encode_at_least(stream, quality, pixels))


def fit(make: Callable[[int, float], bytes], limit: int, pixels: int) -> bytes:
    """The largest file found that is not larger than `limit` bytes.

    It lacks at most `TOLERANCE` of that, unless the highest level takes less or the picture is so
    small that no choice of codes comes closer.

    Args:
        make: Makes a file at a level, 0..128, and a fidelity, 1..4, and grows with either.
        limit: Bytes.
        pixels: Of the picture, to guess what level that may be.

    Raises:
        VqzError: The lowest level takes more.
    """
    files: list[bytes] = []

    def size(level: int, fidelity: float = 1.0) -> float:
        files.append(make(level, fidelity))
        return math.log(len(files[-1]))

    goal, least = math.log(max(1, limit)), math.log(_least(limit))
    first = (goal + math.log(8 / pixels / LOWEST_BPP)) / SIZE_SLOPE
    size_of_level = cache(size)
    below, _ = bracket(size_of_level, goal, MAX_LEVEL, first, SIZE_SLOPE, least)
    if below < 0:
        smallest = min(map(len, files))
        bpp = 8 * smallest / pixels
        raise VqzError(
            f"does not fit into {limit:,} bytes: the smallest file has {smallest:,} ({bpp:.3f} bpp)"
        )
    if below < MAX_LEVEL and size_of_level(below) < least:

        @cache
        def size_of_step(step: int) -> float:
            return size(below, 2 ** (step / _FINE_OCTAVE)) if step else size_of_level(below)

        bracket(size_of_step, goal, _FINE_STEPS, 0, SIZE_SLOPE / 4, least)
    return max((file for file in files if len(file) <= limit), key=len)


def reach(psnr: Callable[[int], float], target: float) -> int:
    """The lowest level, 0..128, whose PSNR in dB is not below `target`.

    Raises VqzError if that of the highest level is.
    """
    known = cache(psnr)
    # What is as good as the target is beyond the number just below it.
    goal = math.nextafter(target, -math.inf)
    first = (target - LOWEST_PSNR) / PSNR_SLOPE
    _, level = bracket(known, goal, MAX_LEVEL, first, PSNR_SLOPE)
    if level > MAX_LEVEL:
        best = known(MAX_LEVEL)
        raise VqzError(f"cannot have {target:g} dB: the best quality has {best:.2f} dB")
    return level


def bracket(
    value: Callable[[int], float],
    goal: float,
    last: int,
    first: float,
    slope: float,
    enough: float | None = None,
) -> tuple[int, int]:
    """Two neighbours of 0..last between which a growing function passes `goal`.

    Returns the one whose value is not above the goal, -1 if there is none, and the one whose value
    is, last + 1 if there is none. If the function does not grow everywhere, there may be several
    such pairs, and this is one of them.

    Args:
        value: The function; not called twice with the same position.
        goal: Of any unit.
        last: The highest position.
        first: Where to look first.
        slope: What the function is expected to grow by from one position to the next.
        enough: Not above the goal: a value from here to the goal ends the search, and with it the
            position above need not be the next one.
    """
    below, above = -1, last + 1
    seen: dict[int, float] = {}
    guess = first
    while above - below > 1:
        here = round(min(max(guess, below + 1), above - 1))
        seen[here] = value(here)
        if seen[here] > goal:
            above = here
        else:
            below = here
            if enough is not None and seen[here] >= enough:
                break
        if len(seen) < _GUESSES:
            aim = goal if enough is None else (goal + enough) / 2
            guess = _crossing(seen, below, above, aim, slope)
        else:
            guess = (below + above) / 2
    return below, above


def _crossing(seen: dict[int, float], below: int, above: int, goal: float, slope: float) -> float:
    """Where a line through what was seen around the crossing, or nearest to it, passes the goal."""
    if below in seen and above in seen:
        a, b = below, above
    else:
        a, b = sorted(seen, key=lambda x: abs(x - (below + above) / 2))[:2] * (1 + (len(seen) == 1))
    if a != b and (measured := (seen[b] - seen[a]) / (b - a)) > 0:
        slope = measured
    return a + (goal - seen[a]) / slope


def _least(limit: int) -> int:
    """The smallest size in bytes that is as good as `limit`."""
    return max(1, min(math.ceil((1 - TOLERANCE) * limit), limit - _WORD + 1))


def _reach(codec: CodecModel, picture: Picture, target: float, effort: int) -> tuple[int, Codes]:
    """The lowest level whose decoded picture has a PSNR, and its codes."""
    from vqzip.codec import synthesise
    from vqzip.encoding import analyse
    from vqzip.latents import Search

    height, width, _ = picture.pixels.shape
    search = Search.at_effort(effort)
    kept: dict[int, Codes] = {}

    def psnr(level: int) -> float:
        codes = analyse(codec, picture.pixels, level, search)
        decoded = synthesise(codec, codes, width, height, level)
        result = psnr_of(picture.pixels, decoded, picture.grayscale)
        if result >= target:  # and the level lower than any that was kept before
            kept.clear()
            kept[level] = codes
        return result

    level = reach(psnr, target)
    return level, kept[level]


def psnr_of(a: Pixels, b: Pixels, grayscale: bool) -> float:
    """PSNR in dB of pixels (H, W, 3) as they come out, in one channel if `grayscale`.

    That of equal pictures is 300 dB.
    """
    import numpy as np

    from vqzip.image import to_image

    x, y = (np.asarray(to_image(pixels, grayscale)) for pixels in (a, b))
    # By rows, for memory not to be that of the squares of a whole picture.
    error = sum(int(np.square(p.astype(np.int64) - q).sum()) for p, q in zip(x, y, strict=True))
    return 10 * math.log10(255**2 * x.size / error) if error else 300.0
