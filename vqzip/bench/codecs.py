"""The codecs that are compared: each turns a Pillow image into the bytes of a file, and back."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, __version__, features

import vqzip
from vqzip.bench.extras import extra
from vqzip.errors import VqzError
from vqzip.quality import HIGHEST_QUALITY, LOWEST_QUALITY

if TYPE_CHECKING:
    from vqzip.codec import CodecModel


@dataclass(frozen=True)
class Codec:
    """A codec with one setting that decides about the rate.

    Attributes:
        name: As on the command line and in rows.
        label: For people.
        about: What the setting is, and all else that is not the default.
        settings: Measured unless others are asked for, from the smallest file to the largest.
        limits: Lowest and highest setting there are.
        version: Names the libraries that do the work; raises VqzError if they are not there.
        encode: The file of an image of mode RGB or L at a setting; raises whatever a library does.
        decode: The image in such a file, its pixels decoded.
        whole: Settings are whole numbers.
    """

    name: str
    label: str
    about: str
    settings: tuple[float, ...]
    limits: tuple[float, float]
    version: Callable[[], str]
    encode: Callable[[Image.Image, float], bytes]
    decode: Callable[[bytes], Image.Image]
    whole: bool = True


def all_codecs(model: str | None = None) -> dict[str, Codec]:
    """Every codec by its name; `model` is the folder of vqz's, None for the one it comes with."""
    codecs = _vqz(model), _jpeg(), _webp(), _avif(), _jxl(), _jp2()
    return {codec.name: codec for codec in codecs}


def _vqz(folder: str | None) -> Codec:
    """As users call it, with the model loaded once."""

    @functools.cache
    def model() -> CodecModel:
        from vqzip.store import load_model

        return load_model(folder)

    return Codec(
        "vqz",
        "vqzip",
        "quality",
        settings=(5, 15, 25, 35, 45, 50, 60, 70, 80, 90, 100),
        limits=(LOWEST_QUALITY, HIGHEST_QUALITY),
        version=lambda: f"vqzip {vqzip.__version__}, model {model().fingerprint.hex()}",
        encode=lambda image, setting: vqzip.compress(image, int(setting), model()),
        decode=lambda data: vqzip.decompress(data, model()),
    )


def _jpeg() -> Codec:
    return Codec(
        "jpeg",
        "JPEG",
        "quality; 4:2:0, optimized Huffman tables",
        settings=(5, 10, 20, 30, 50, 70, 85, 93),
        limits=(1, 95),
        version=lambda: _pillow_version("JPEG", "libjpeg_turbo", "libjpeg-turbo"),
        encode=lambda image, setting: _save(image, "JPEG", quality=int(setting), optimize=True),
        decode=lambda data: _open(data, "JPEG"),
    )


def _webp() -> Codec:
    return Codec(
        "webp",
        "WebP",
        "quality; method 6",
        settings=(1, 10, 25, 40, 60, 75, 85, 92),
        limits=(0, 100),
        version=lambda: _pillow_version("WEBP", "webp", "libwebp"),
        encode=lambda image, setting: _save(image, "WEBP", quality=int(setting), method=6),
        decode=lambda data: _open(data, "WEBP"),
    )


def _avif() -> Codec:
    def encode(image: Image.Image, setting: float) -> bytes:
        return _save(image, "AVIF", quality=int(setting), speed=4, subsampling="4:4:4")

    return Codec(
        "avif",
        "AVIF",
        "quality; 4:4:4, speed 4",
        settings=(10, 20, 30, 40, 50, 60, 70, 80, 88),
        limits=(0, 100),
        version=lambda: _pillow_version("AVIF", "avif", "libavif"),
        encode=encode,
        decode=lambda data: _open(data, "AVIF"),
    )


def _jxl() -> Codec:
    def version() -> str:
        library = extra("imagecodecs")
        return f"imagecodecs {library.__version__}, {library.jpegxl_version()}"

    def encode(image: Image.Image, setting: float) -> bytes:
        library = extra("imagecodecs")
        return bytes(library.jpegxl_encode(np.asarray(image), distance=setting, effort=7))

    return Codec(
        "jxl",
        "JPEG XL",
        "distance; effort 7",
        settings=(12, 8, 6, 4, 2.5, 1.5, 1, 0.6),
        limits=(0.01, 25),
        version=version,
        encode=encode,
        decode=lambda data: Image.fromarray(extra("imagecodecs").jpegxl_decode(data)),
        whole=False,
    )


def _jp2() -> Codec:
    def encode(image: Image.Image, setting: float) -> bytes:
        rates = {"quality_mode": "rates", "quality_layers": [setting]}
        return _save(image, "JPEG2000", irreversible=True, mct=image.mode == "RGB", **rates)

    return Codec(
        "jp2",
        "JPEG 2000",
        "compression ratio; 9/7 wavelet",
        settings=(200, 100, 60, 40, 25, 16, 12, 9),
        limits=(1, 10000),
        version=lambda: _pillow_version("JPEG2000", "jpg_2000", "OpenJPEG"),
        encode=encode,
        decode=lambda data: _open(data, "JPEG2000"),
        whole=False,
    )


def _pillow_version(format_name: str, feature: str, library: str) -> str:
    Image.init()
    if format_name not in Image.SAVE:  # the oldest versions don't know AVIF at all
        raise VqzError(f"Pillow {__version__} cannot write it")
    version = features.version(feature)
    if version is None and feature != "libjpeg_turbo":
        raise VqzError(f"this Pillow {__version__} was built without {library}")
    return f"Pillow {__version__}, {library} {version}" if version else f"Pillow {__version__}"


def _save(image: Image.Image, format_name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def _open(data: bytes, format_name: str) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=[format_name])
    image.load()
    return image
