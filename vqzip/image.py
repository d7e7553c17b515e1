"""Pictures of any kind to 8-bit RGB pixels, and back to a Pillow image or a picture file."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from vqzip.errors import VqzError, naming

Pixels: TypeAlias = NDArray[np.uint8]
Source: TypeAlias = Image.Image | str | os.PathLike[str] | BinaryIO

_METADATA = {
    "ICC profile": ("icc_profile",),
    "EXIF": ("exif", "Raw profile type exif"),
    "XMP": ("xmp", "XML:com.adobe.xmp"),
}
_GRAYSCALE_MODES = ("1", "L", "LA")
_UPRIGHT = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# A picture that was decoded once should not lose more; Pillow's own defaults are for size.
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
}


@dataclass(frozen=True)
class Picture:
    """Pixels ready for the codec.

    Attributes:
        pixels: uint8, (height, width, 3), RGB, upright.
        grayscale: All three channels are the same, as the source had one.
        notices: What of the source was dropped or converted, a few words each.
    """

    pixels: Pixels
    grayscale: bool
    notices: tuple[str, ...] = ()


def load(source: Source) -> Picture:
    """Read a picture: a Pillow image (left unchanged), a path or an open binary file.

    Raises:
        VqzError: Not a picture, broken, animated, too large or unreadable; names the file.
    """
    if isinstance(source, Image.Image):
        with _pillow_errors(getattr(source, "filename", None) or None):
            return _picture(source)
    name = os.fspath(source) if isinstance(source, str | os.PathLike) else None
    with _pillow_errors(name), Image.open(source) as image:
        return _picture(image)


def to_image(pixels: Pixels, grayscale: bool) -> Image.Image:
    """Pillow image of (H, W, 3) uint8 pixels: mode RGB, or L with the rounded mean of the three."""
    if not grayscale:
        return Image.fromarray(pixels)
    total = pixels.sum(axis=2, dtype=np.uint16)
    return Image.fromarray(((total + 1) // 3).astype(np.uint8))


def format_of(path: str) -> str:
    """Pillow's name of the format that the suffix of `path` stands for.

    Raises VqzError for a suffix that Pillow cannot write.
    """
    Image.init()
    suffix = PurePath(path).suffix.lower()
    name = Image.registered_extensions().get(suffix)
    if name is None or name not in Image.SAVE:
        raise VqzError(f"unknown picture format {suffix!r}", path)
    return name


def to_bytes(image: Image.Image, format_name: str) -> bytes:
    """A picture file; `format_name` is Pillow's, such as "PNG" or what `format_of` gave.

    Raises VqzError if the format cannot hold the picture.
    """
    buffer = io.BytesIO()
    try:
        image.save(buffer, format_name, **_SAVE_OPTIONS.get(format_name, {}))
    except MemoryError:
        raise
    except Exception as error:
        raise VqzError(f"cannot be written as {format_name}: {error}") from error
    return buffer.getvalue()


@contextmanager
def _pillow_errors(name: str | None) -> Iterator[None]:
    with naming(name):
        try:
            yield
        except (VqzError, MemoryError):
            raise
        except UnidentifiedImageError as error:
            raise VqzError("not a picture of a known format") from error
        except Image.DecompressionBombError as error:
            raise VqzError(f"too many pixels: {error}") from error
        # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more.
        except Exception as error:
            if isinstance(error, OSError) and error.strerror:
                raise VqzError(f"cannot read: {error.strerror}") from error
            raise VqzError(f"broken picture: {str(error) or type(error).__name__}") from error


def _picture(image: Image.Image) -> Picture:
    frames: int = getattr(image, "n_frames", 1)
    # The other frames of an MPO, the JPEG of many phones, are previews and depth maps.
    if frames > 1 and image.format != "MPO":
        raise VqzError(f"has {frames} frames, only single pictures can be compressed")
    if 0 in image.size:
        raise VqzError("picture without pixels")
    # Pillow reduces 16-bit colour to 8 as it decodes; only the raw mode of the tiles tells.
    deep = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    image.load()
    notices = _losses(image, frames, deep)
    pixels = _eight_bit(_upright(image))
    grayscale = pixels.ndim == 2
    if grayscale:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    return Picture(pixels, grayscale, notices)


def _losses(image: Image.Image, frames: int, deep: bool) -> tuple[str, ...]:
    """What of a picture will be dropped or converted."""
    losses = [f"{key} dropped" for key, keys in _METADATA.items() if image.info.keys() & keys]
    if frames > 1:
        losses.append(f"extra frames dropped ({frames - 1})")
    if deep or image.mode.startswith("I"):
        losses.append("16-bit depth reduced to 8 bit")
    if image.mode in ("P", "PA"):
        losses.append("palette converted to RGB")
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        losses.append(f"{image.mode} converted to RGB")
    if _is_transparent(image):
        losses.append("alpha dropped")
    return tuple(losses)


def _is_transparent(image: Image.Image) -> bool:
    """Whether alpha says anything; that of most screenshots is opaque everywhere."""
    if not image.has_transparency_data:
        return False
    if image.mode.startswith("I"):  # Pillow has no conversion to RGBA for these
        return True
    return image.convert("RGBA").getchannel("A").getextrema() != (255, 255)


def _upright(image: Image.Image) -> Image.Image:
    # Not ImageOps.exif_transpose, which also rewrites the EXIF and fails if that is broken.
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - of any kind, and no reason to refuse the picture
        return image
    method = _UPRIGHT.get(orientation)
    return image if method is None else image.transpose(method)


def _eight_bit(image: Image.Image) -> Pixels:
    """Pixels (H, W) of a picture with one channel, (H, W, 3) of any other."""
    if image.mode == "F":
        raise VqzError("floating-point pixels are not supported")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int32)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise VqzError("32-bit pixels are not supported")
        return ((values + 128) // 257).astype(np.uint8)  # 65535 = 255 * 257
    return np.array(image.convert("L" if image.mode in _GRAYSCALE_MODES else "RGB"))
