"""Pictures of any kind to what is coded of them, and back to a Pillow image or a picture file."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from vqzip.alpha import fill_hidden
from vqzip.colour import Colours, to_eight_bit, to_srgb
from vqzip.container import DEFAULT_MAX_PIXELS
from vqzip.errors import VqzError, naming
from vqzip.metadata import (
    JPEG_XMP_PREFIX,
    MAX_BYTES,
    NAMES,
    Metadata,
    about_the_picture,
    metadata_of,
    srgb_profile,
)

Pixels: TypeAlias = NDArray[np.uint8]
Source: TypeAlias = Image.Image | str | os.PathLike[str] | BinaryIO

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
_HOLD_ALPHA = {"PNG", "WEBP", "AVIF", "TIFF", "JPEG2000", "GIF", "TGA", "ICO"}
_NEVER_GRAY = {"WEBP", "AVIF"}
STRIP = 256  # rows of an image that become an array at once
_JPEG_SEGMENT = 65533
# Of the formats that hold metadata, the most bytes of each kind.
_LONGEST = {
    "JPEG": {
        "icc_profile": MAX_BYTES,
        "exif": _JPEG_SEGMENT,
        "xmp": _JPEG_SEGMENT - len(JPEG_XMP_PREFIX),
    },
    **dict.fromkeys(("PNG", "WEBP", "AVIF", "TIFF"), dict.fromkeys(NAMES, MAX_BYTES)),
}


@dataclass(frozen=True)
class Picture:
    """What is coded of a picture.

    Attributes:
        pixels: uint8, (height, width, 3), RGB, upright.
        grayscale: All three channels are the same, as the source had one.
        notices: What of the source was dropped or converted, a few words each.
        alpha: uint8, (height, width), 0 for transparent; None if all is opaque.
        metadata: ICC profile, EXIF and XMP.
    """

    pixels: Pixels
    grayscale: bool
    notices: tuple[str, ...] = ()
    alpha: Pixels | None = None
    metadata: Metadata = field(default_factory=Metadata)


def load(source: Source, *, strip: bool = False, frame: int | None = None) -> Picture:
    """Read a picture.

    Args:
        source: A Pillow image (left unchanged), a path or an open binary file.
        strip: Drop metadata; colours of an ICC profile other than sRGB's are converted to sRGB.
        frame: Which one of an animation, or which page of a document, from 0.

    Raises:
        VqzError: Not a picture, broken, animated, too large or unreadable; names the file.
    """
    if isinstance(source, Image.Image):
        with _pillow_errors(getattr(source, "filename", None) or None):
            return _picture(source, strip, frame)
    name = os.fspath(source) if isinstance(source, str | os.PathLike) else None
    with _pillow_errors(name):
        with _no_pillow_limit():
            image = Image.open(source)
        with image:
            return _picture(image, strip, frame)


def to_image(
    pixels: Pixels,
    grayscale: bool,
    alpha: Pixels | None = None,
    metadata: Metadata | None = None,
) -> Image.Image:
    """Pillow image of (H, W, 3) uint8 pixels, and alpha (H, W) if any.

    Its mode is RGB, or L with the rounded mean of the three, or either with an A; metadata is in
    its `info`.
    """
    if grayscale:
        total = pixels.sum(axis=2, dtype=np.uint16)
        pixels = ((total + 1) // 3).astype(np.uint8)
    image = Image.fromarray(pixels)
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
    if metadata:
        image.info.update(metadata.info())
    return image


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


def fitted(image: Image.Image, format_name: str) -> tuple[Image.Image, tuple[str, ...]]:
    """An image as a file format can hold it, and what it cannot hold, a few words each."""
    losses = []
    if image.mode in ("LA", "RGBA") and format_name not in _HOLD_ALPHA:
        opaque = Image.new(image.mode[:-1], image.size, "white")
        opaque.paste(image.convert(opaque.mode), mask=image.getchannel("A"))
        opaque.info = dict(image.info)
        image = opaque
        losses.append(f"transparency replaced by white, {format_name} has none")
    longest = dict(_LONGEST.get(format_name, {}))
    if image.mode in ("L", "LA") and format_name in _NEVER_GRAY:
        longest["icc_profile"] = 0
    for key, name in NAMES.items():
        value = image.info.get(key)
        if not value or len(value) <= longest.get(key, 0):
            continue
        managed = to_srgb(image, value) if key == "icc_profile" else None
        info = {other: kept for other, kept in image.info.items() if other != key}
        image = managed or image.copy()
        image.info = info
        if managed and value != srgb_profile():
            losses.append("colours converted to sRGB")
        elif not managed:
            losses.append(f"{name} dropped")
    return image, tuple(losses)


def to_bytes(image: Image.Image, format_name: str) -> bytes:
    """A picture file, with the metadata of the image.

    Args:
        image: Of mode L, LA, RGB or RGBA; what the format cannot hold is dropped as by `fitted`.
        format_name: Pillow's, such as "PNG" or what `format_of` gave.

    Raises:
        VqzError: The format cannot hold the picture.
    """
    buffer = io.BytesIO()
    image, _ = fitted(image, format_name)
    try:
        options = {**_SAVE_OPTIONS.get(format_name, {}), **_metadata_options(image, format_name)}
        image.save(buffer, format_name, **options)
    except MemoryError:
        raise
    except Exception as error:
        raise VqzError(f"cannot be written as {format_name}: {error}") from error
    return buffer.getvalue()


def _metadata_options(image: Image.Image, format_name: str) -> dict[str, Any]:
    """How Pillow is told to write the metadata that an image has."""
    if format_name not in _LONGEST:
        return {}
    options = {key: image.info[key] for key in NAMES if key in image.info}
    if format_name == "TIFF":
        tags = Image.Exif()
        tags.load(options.pop("exif", b""))
        tags = about_the_picture(tags)
        if xmp := options.pop("xmp", None):
            tags[700] = xmp
        options["exif"] = tags.tobytes()  # Pillow does not find the folders in `tags`
    elif xmp := options.get("xmp"):
        # JPEG's own option is new in Pillow 11, PNG has none.
        if format_name == "JPEG":
            segment = JPEG_XMP_PREFIX + options.pop("xmp")
            options["extra"] = b"\xff\xe1" + (2 + len(segment)).to_bytes(2, "big") + segment
        elif format_name == "PNG":
            options["pnginfo"] = PngImagePlugin.PngInfo()
            options["pnginfo"].add_itxt("XML:com.adobe.xmp", options.pop("xmp"))
    return options


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


_limit_lock = threading.Lock()


@contextmanager
def _no_pillow_limit() -> Iterator[None]:
    """Lift Pillow's limit of pixels, which is global; ours is the one that counts."""
    with _limit_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _picture(image: Image.Image, strip: bool, frame: int | None) -> Picture:
    frames: int = getattr(image, "n_frames", 1)
    # The other frames of an MPO, the JPEG of many phones, are previews and depth maps.
    if frame is None and frames > 1 and image.format != "MPO":
        raise VqzError(f"has {frames} frames, choose one from 0 to {frames - 1} with --frame")
    if frame is None:
        picture = _still(image, strip)
        dropped = f"extra frames dropped ({frames - 1})"
        return picture if frames == 1 else replace(picture, notices=(*picture.notices, dropped))
    if not 0 <= frame < frames:
        raise VqzError(f"frame must be from 0 to {frames - 1}, not {frame}")
    before = image.tell()
    image.seek(frame)
    try:
        return _still(image, strip)
    finally:
        image.seek(before)


def _still(image: Image.Image, strip: bool) -> Picture:
    width, height = image.size
    pixels = width * height
    if not pixels:
        raise VqzError("picture without pixels")
    if pixels > DEFAULT_MAX_PIXELS:
        raise VqzError(
            f"picture of {width} x {height} pixels is over the limit of {DEFAULT_MAX_PIXELS}"
        )
    # Pillow reduces 16-bit colour to 8 as it decodes; only the raw mode of the tiles tells.
    deep = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    # Some of its decoders look at the limit again.
    with _no_pillow_limit() if pixels > (Image.MAX_IMAGE_PIXELS or pixels) else nullcontext():
        image.load()
    metadata, losses = metadata_of(image)
    colours = to_eight_bit(_upright(image), metadata.icc_profile, strip=strip)
    if strip:
        metadata, losses = Metadata(), []
    if deep and not image.mode.startswith("I"):
        losses.append("16-bit depth reduced to 8 bit")
    return Picture(
        pixels=_pixels(colours),
        grayscale=colours.image.mode == "L",
        notices=(*losses, *colours.losses),
        alpha=None if colours.alpha is None else np.array(colours.alpha),
        metadata=replace(metadata.upright(), icc_profile=colours.profile),
    )


def _upright(image: Image.Image) -> Image.Image:
    # Not ImageOps.exif_transpose, which also rewrites the EXIF and fails if that is broken.
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - of any kind, and no reason to refuse the picture
        return image
    method = _UPRIGHT.get(orientation)
    return image if method is None else image.transpose(method)


def _pixels(colours: Colours) -> Pixels:
    """Pixels (H, W, 3)."""
    image = colours.image
    if colours.alpha is not None:
        image = fill_hidden(image, colours.alpha)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    # Of a whole image, Pillow and NumPy make three copies on the way.
    for top in range(0, image.height, STRIP):
        strip = np.asarray(image.crop((0, top, image.width, min(top + STRIP, image.height))))
        pixels[top : top + STRIP] = strip[:, :, None] if image.mode == "L" else strip
    return pixels
