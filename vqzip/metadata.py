"""ICC profile, EXIF and XMP: out of a Pillow image, into chunks, and back."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vqzip.container import EXIF, ICC, XMP, Chunk
from vqzip.errors import VqzError

if TYPE_CHECKING:
    from PIL import Image

MAX_BYTES = 2**24 - 1
"""Longest profile, EXIF or XMP."""

NAMES = {"icc_profile": "ICC profile", "exif": "EXIF", "xmp": "XMP"}
"""What users call the fields of `Metadata`."""

_CHUNKS = {"icc_profile": ICC, "exif": EXIF, "xmp": XMP}
_SRGB = Chunk(ICC, b"")
_SIZE_BYTES = 3
_EXIF_PREFIX = b"Exif\0\0"
JPEG_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
_ORIENTATION = 0x0112
_UPRIGHT = 1
_LONG = 4  # the type of 32-bit integers
# The tags of a TIFF that are about the picture; the others are about the file.
_TIFF_EXIF = {
    *(270, 271, 272),  # description, make, model
    *(282, 283, 296),  # resolution
    *(305, 306, 315, 316),  # software, date, artist, host
    *(18246, 33432),  # rating, copyright
    *(40091, 40092, 40093, 40094, 40095),  # title, comment, author, keywords, subject
}
_TIFF_EXIF_FOLDERS = (0x8769, 0x8825)  # EXIF proper, GPS


@dataclass(frozen=True)
class Metadata:
    """What a picture says besides its pixels; each None if it does not.

    Attributes:
        icc_profile: What the colours mean, None being sRGB.
        exif: As in a file: a TIFF of its own, from the byte order on.
        xmp: XML.
    """

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None

    def info(self) -> dict[str, bytes]:
        """The items that Pillow keeps in the `info` of an image."""
        items = {"icc_profile": self.icc_profile, "exif": self.exif, "xmp": self.xmp}
        if self.exif:
            items["exif"] = _EXIF_PREFIX + self.exif
        return {key: value for key, value in items.items() if value}

    def upright(self) -> Metadata:
        """The same, but for saying that the picture is upright, whatever it said."""
        exif = self.exif and _upright_exif(self.exif)
        xmp = self.xmp and re.sub(rb'(tiff:Orientation(?:="|>))[2-8]', rb"\g<1>1", self.xmp)
        return Metadata(self.icc_profile, exif, xmp)


@cache
def srgb_profile() -> bytes:
    """The profile of sRGB that stands for all that say the same (LittleCMS's, free to use)."""
    return Path(__file__).with_name("srgb.icc").read_bytes()


def metadata_of(image: Image.Image) -> tuple[Metadata, list[str]]:
    """The metadata of a Pillow image that is loaded, and which of it cannot be kept."""
    items, losses = {}, []
    for key, read in {"icc_profile": _icc_profile, "exif": _exif, "xmp": _xmp}.items():
        try:
            value = read(image)
        except Exception:  # noqa: BLE001 - of any kind, and no reason to refuse the picture
            losses.append(f"broken {NAMES[key]} dropped")
            continue
        if len(value) > MAX_BYTES:
            losses.append(f"{NAMES[key]} of {len(value):,} bytes dropped")
        elif value:
            items[key] = value
    return Metadata(**items), losses


def to_chunks(metadata: Metadata) -> list[Chunk]:
    """Chunks that hold the metadata, each item of at most `MAX_BYTES`."""
    return [
        _SRGB if value == srgb_profile() else Chunk(type_, _packed(value))
        for key, type_ in _CHUNKS.items()
        if (value := getattr(metadata, key))
    ]


def from_chunks(chunks: Iterable[Chunk]) -> Metadata:
    """The metadata in a file's chunks, whatever else these hold.

    Raises VqzError if it is corrupt.
    """
    keys = {type_: key for key, type_ in _CHUNKS.items()}
    return Metadata(
        **{
            keys[chunk.type]: srgb_profile()
            if chunk == _SRGB
            else _unpacked(chunk.payload, NAMES[keys[chunk.type]])
            for chunk in chunks
            if chunk.type in keys
        }
    )


def _packed(data: bytes) -> bytes:
    """The size, then the data or, if that is shorter, the deflated data."""
    if len(data) > MAX_BYTES:
        raise VqzError(f"metadata of {len(data)} bytes is over the limit of {MAX_BYTES}")
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    deflated = deflater.compress(data) + deflater.flush()
    return len(data).to_bytes(_SIZE_BYTES, "little") + min(data, deflated, key=len)


def _unpacked(payload: bytes, name: str) -> bytes:
    size, body = int.from_bytes(payload[:_SIZE_BYTES], "little"), payload[_SIZE_BYTES:]
    if size and len(body) == size:
        return body
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(body, size + 1)  # not more, whatever the stream holds
    except zlib.error as error:
        raise VqzError(f"corrupt {name}: {error}") from error
    if not size or len(data) != size or not inflater.eof or inflater.unused_data:
        raise VqzError(f"corrupt {name}: its size is wrong")
    return data


def _icc_profile(image: Image.Image) -> bytes:
    return _bytes(image.info.get("icc_profile") or b"")


def _exif(image: Image.Image) -> bytes:
    """EXIF without any prefix; raises errors of all kinds if it is broken."""
    data: bytes = image.info.get("exif") or b""
    if not data and "Raw profile type exif" in image.info:  # ImageMagick's way, in PNG
        text = image.info["Raw profile type exif"]
        data = bytes.fromhex("".join(text.split("\n")[3:]))
    if not data and hasattr(image, "tag_v2"):
        tags = about_the_picture(image.getexif())
        data = tags.tobytes() if len(tags) else b""
    data = data.removeprefix(_EXIF_PREFIX)
    if data and data[:4] not in (b"II*\0", b"MM\0*"):
        raise ValueError("not a TIFF")
    return data


def about_the_picture(tags: Image.Exif) -> Image.Exif:
    """The tags of a TIFF that are not about how that file is laid out."""
    from PIL import Image as PillowImage

    kept = PillowImage.Exif()
    for tag in _TIFF_EXIF & set(tags):
        kept[tag] = tags[tag]
    for tag in _TIFF_EXIF_FOLDERS:
        if folder := tags.get_ifd(tag):
            kept[tag] = dict(folder)
    return kept


def _xmp(image: Image.Image) -> bytes:
    data = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    # Where Pillow leaves it before version 11, in JPEG and in TIFF.
    for name, segment in getattr(image, "applist", ()):
        if not data and name == "APP1" and segment.startswith(JPEG_XMP_PREFIX):
            data = segment.removeprefix(JPEG_XMP_PREFIX)
    data = data or getattr(image, "tag_v2", {}).get(700) or b""
    return data.encode() if isinstance(data, str) else _bytes(data)


def _bytes(data: Any) -> bytes:
    """Bytes that are as many already: in a broken TIFF, anything may be a number or a tuple."""
    return bytes(memoryview(data))


def _upright_exif(exif: bytes) -> bytes:
    """The same but for the orientation, changed in place: offsets in EXIF do not like to move."""
    order: Literal["little", "big"] = "little" if exif.startswith(b"II") else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(exif[at : at + size], order)

    patched = bytearray(exif)
    first = number(4, 4) + 2
    end = first + 12 * number(first - 2, 2)
    for entry in range(first, min(end, len(exif) - 11), 12):
        if number(entry, 2) != _ORIENTATION:
            continue
        size = 4 if number(entry + 2, 2) == _LONG else 2
        if number(entry + 8, size) != _UPRIGHT:
            patched[entry + 8 : entry + 8 + size] = _UPRIGHT.to_bytes(size, order)
            # The thumbnail, in the next folder, is not upright: unlink it.
            patched[end : end + 4] = bytes(len(patched[end : end + 4]))
    return bytes(patched)
