"""Pictures of any mode to 8-bit colours and alpha, and what ICC profiles make of them."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from vqzip.errors import VqzError
from vqzip.metadata import srgb_profile

_GRAYSCALE_MODES = ("1", "L", "LA", "La")
_OTHER_MODES = ("CMYK", "YCbCr", "LAB", "HSV")
_SPACES = {"L": "GRAY", "RGB": "RGB"}
# What pixels of more than 8 bits usually range up to; the first that holds all of them counts.
_TOPS = {"I": (65535,), "F": (1, 255, 65535)}


@dataclass(frozen=True)
class Colours:
    """A picture in a mode that can be coded.

    Attributes:
        image: Of mode RGB or L.
        alpha: Of mode L, or None if all is opaque.
        profile: ICC profile of the image, None being sRGB or unknown.
        losses: What was converted or dropped, a few words each.
    """

    image: Image.Image
    alpha: Image.Image | None
    profile: bytes | None
    losses: tuple[str, ...]


def to_eight_bit(image: Image.Image, profile: bytes | None, *, strip: bool) -> Colours:
    """Bring a picture into a mode that can be coded.

    Args:
        image: Of any mode, loaded.
        profile: Its ICC profile, if any.
        strip: Convert the colours to sRGB, to do without a profile.

    Raises:
        VqzError: Some pixels are not numbers.
    """
    losses = []
    if image.mode[0] in _TOPS:
        colours, alpha, loss = _scaled(image)
        losses.append(loss)
    else:
        colours, alpha = _separated(image)
    if image.mode in ("P", "PA"):
        losses.append("palette converted to RGB")
    if image.mode in _OTHER_MODES:
        managed = to_srgb(image, profile) if profile and _space(profile) == image.mode else None
        losses.append(f"{image.mode} converted to {'sRGB' if managed else 'RGB'}")
        if managed:
            colours, profile = managed, srgb_profile()
        elif profile and image.mode in ("CMYK", "LAB"):  # whatever it is for, it is not for RGB
            losses.append("ICC profile dropped")
            profile = None
    if profile:
        colours, profile, more = _settled(colours, profile, strip)
        losses += more
    return Colours(colours, alpha, profile, tuple(losses))


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image | None:
    """Convert the colours of a picture from those of an ICC profile.

    Args:
        image: Of mode L, LA, RGB, RGBA or CMYK.
        profile: Its ICC profile.

    Returns:
        A picture of the same mode (RGB for CMYK), or None if the profile is of no use for it.
    """
    if image.mode in ("LA", "RGBA"):
        opaque = to_srgb(image.convert(image.mode[:-1]), profile)
        if opaque:
            opaque.putalpha(image.getchannel("A"))
        return opaque
    try:
        converted = ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.ImageCmsProfile(io.BytesIO(srgb_profile())),
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (
        ImageCms.PyCMSError,
        OSError,
        ValueError,
        ImportError,
    ):  # or Pillow is without LittleCMS
        return None
    return converted.convert("L") if converted and image.mode == "L" else converted


def _settled(
    image: Image.Image, profile: bytes, strip: bool
) -> tuple[Image.Image, bytes | None, list[str]]:
    """A picture with the profile to keep with it, and what that took."""
    space = _space(profile)
    if not space:
        return image, None, ["broken ICC profile dropped"]
    srgb = space == "RGB" and _is_srgb(profile)
    if space != _SPACES[image.mode]:
        # No program makes use of such a profile; gray without one is that of sRGB.
        return image, None, [] if srgb else [f"ICC profile for {space} pixels dropped"]
    if srgb:
        return image, None if strip else srgb_profile(), []
    if not strip:
        return image, profile, []
    converted = to_srgb(image, profile)
    if converted is None:
        return image, profile, ["ICC profile kept, as its colours cannot be converted to sRGB"]
    return converted, None, ["colours converted to sRGB"]


def _space(profile: bytes) -> str:
    """The colour space an ICC profile is for, "" if it is not a profile."""
    if len(profile) < 132 or profile[36:40] != b"acsp":
        return ""
    return profile[16:20].decode("latin-1").strip()


def _is_srgb(profile: bytes) -> bool:
    """Whether no colour moves by more than rounding; there are many sRGB profiles."""
    grays = np.arange(256).repeat(3).reshape(-1, 3)
    lattice = np.stack(np.meshgrid(*3 * [np.arange(0, 256, 17)]), axis=-1).reshape(-1, 3)
    samples = np.concatenate([grays, lattice]).astype(np.uint8)[None]
    converted = to_srgb(Image.fromarray(samples), profile)
    if converted is None:
        return False
    return bool(np.abs(np.asarray(converted, np.int16) - samples).max() <= 1)


def _separated(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colours, of mode RGB or L, and alpha if it says anything; that of screenshots does not."""
    mode = "L" if image.mode in _GRAYSCALE_MODES else "RGB"
    if not image.has_transparency_data:
        return image if image.mode == mode else image.convert(mode), None  # that would be a copy
    image = image.convert("LA" if mode == "L" else "RGBA")
    alpha = image.getchannel("A")
    return image.convert(mode), None if alpha.getextrema() == (255, 255) else alpha


def _scaled(image: Image.Image) -> tuple[Image.Image, Image.Image | None, str]:
    """Pixels of a mode of more than 8 bits as gray, their alpha, and what that loses."""
    kind = image.mode[0]
    pixels = np.asarray(image)
    low, high = float(pixels.min()), float(pixels.max())
    if not np.isfinite([low, high]).all():
        raise VqzError("some pixels are not finite numbers")
    alpha = None
    key = image.info.get("transparency")
    if isinstance(key, int) and (pixels == key).any():
        alpha = Image.fromarray(np.where(pixels == key, 0, 255).astype(np.uint8))
    top = next((top for top in _TOPS[kind] if low >= 0 and high <= top), None)
    loss = "16-bit depth reduced to 8 bit"
    if top is not None:
        low, high = 0.0, float(top)
    if kind == "F" or top is None:
        what = "floating-point" if kind == "F" else "32-bit"
        loss = f"{what} pixels from {low:g} to {high:g} scaled to 8 bit"
    precise = np.float64 if kind == "F" else np.float32
    scaled = (pixels.astype(precise) - low) / (high - low or 1.0)
    return Image.fromarray(np.rint(255 * scaled).astype(np.uint8)), alpha, loss
