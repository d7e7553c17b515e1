"""The same part of a picture from every codec, from files of nearly the same size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from vqzip.bench.codecs import Codec
from vqzip.bench.rows import Row
from vqzip.errors import VqzError
from vqzip.image import load, to_image

SIZE = (480, 320)
_CLOSE_ENOUGH = 0.02
_MOST_TRIES = 8


@dataclass(frozen=True)
class Crop:
    """The middle of a picture that was decoded, at most SIZE.

    Attributes:
        image: Mode RGB.
        setting: The codec's.
        bpp: Bits per pixel of the file, of the whole picture.
    """

    image: Image.Image
    setting: float
    bpp: float


@dataclass(frozen=True)
class Scene:
    """The middle of a picture, and what each codec, by its name, makes of it."""

    picture: str
    original: Image.Image
    crops: Mapping[str, Crop]


def evenly(names: Sequence[str], count: int) -> list[str]:
    """At most `count` of the names, spread evenly."""
    count = min(count, len(names))
    return [names[(2 * i + 1) * len(names) // (2 * count)] for i in range(count)]


def scene(
    picture: str, path: Path, codecs: Iterable[Codec], rows: Iterable[Row], bpp: float
) -> Scene:
    """A picture through each codec at the setting whose file comes closest to `bpp`.

    The search begins with the settings in `rows` and stays between them; codecs without rows are
    left out.  Raises VqzError if the picture cannot be read or a codec fails.
    """
    source = load(path)
    image = to_image(source.pixels, source.grayscale)
    crops = {}
    for codec in codecs:
        rates = {r.setting: r.bpp for r in rows if (r.picture, r.codec) == (picture, codec.name)}
        if not rates:
            continue
        try:
            crops[codec.name] = crop_at(codec, image, bpp, rates)
        except Exception as error:
            raise VqzError(f"{codec.label}: {error}", picture) from error
    return Scene(picture, middle(image), crops)


def crop_at(codec: Codec, image: Image.Image, bpp: float, known: Mapping[float, float]) -> Crop:
    """What a codec makes of an image of about `bpp`; `known` has the bpp of some settings."""
    rates = dict(known)

    def distance(setting: float) -> float:
        return abs(math.log(rates[setting] / bpp))

    for _ in range(_MOST_TRIES):
        setting = _between(rates, bpp, codec.whole)
        if setting is None or setting in rates or min(map(distance, rates)) < _CLOSE_ENOUGH:
            break
        rates[setting] = _bpp(codec.encode(image, setting), image)
    setting = min(rates, key=distance)
    data = codec.encode(image, setting)
    return Crop(middle(codec.decode(data)), setting, _bpp(data, image))


def _between(rates: Mapping[float, float], bpp: float, whole: bool) -> float | None:
    """The setting for `bpp` by interpolation; None if no two settings are around it."""
    below = {setting: rate for setting, rate in rates.items() if rate <= bpp}
    above = {setting: rate for setting, rate in rates.items() if rate > bpp}
    if not below or not above:
        return None
    low, high = max(below, key=below.__getitem__), min(above, key=above.__getitem__)
    share = math.log(bpp / below[low]) / math.log(above[high] / below[low])
    setting = low + share * (high - low)
    return round(setting) if whole else float(f"{setting:.3g}")


def _bpp(data: bytes, image: Image.Image) -> float:
    return 8 * len(data) / (image.width * image.height)


def middle(image: Image.Image) -> Image.Image:
    """The middle of an image, or all of one that is not larger, of mode RGB."""
    width, height = (min(side, limit) for side, limit in zip(image.size, SIZE, strict=True))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.convert("RGB").crop((left, top, left + width, top + height))
