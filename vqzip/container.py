"""The .vqz file format: bytes in, bytes out; FORMAT.md is its specification.

Knows nothing of pixels or models, and needs the standard library only.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from vqzip.errors import VqzError

MAGIC = b"\x89VQZ"
VERSION = 1
FINGERPRINT_BYTES = 8
MAX_LEVEL = 128
MAX_NUMBER = 2**31 - 1
"""Largest width, height and chunk length."""

DEFAULT_MAX_PIXELS = 2**28
"""Pictures with more pixels are refused unless the caller allows them."""

CODE_STREAM = "C"
ALPHA = "A"
ICC, EXIF, XMP = "i", "e", "x"
KNOWN_CHUNKS = frozenset({CODE_STREAM, ALPHA, ICC, EXIF, XMP})

_GRAYSCALE = 0x01  # bit of the flags
_CRC_BYTES = 4


@dataclass(frozen=True)
class Header:
    """What a decoder must know before it can make sense of the chunks.

    Attributes:
        width: Pixels, 1..2^31-1.
        height: Pixels, 1..2^31-1.
        grayscale: The picture had one channel.
        fingerprint: The 8 bytes that name the model.
        level: Rate, in sixteenths of the model's trained levels, 0..128.

    Raises VqzError for values outside these ranges.
    """

    width: int
    height: int
    grayscale: bool
    fingerprint: bytes
    level: int

    def __post_init__(self) -> None:
        for size in (self.width, self.height):
            if not 1 <= size <= MAX_NUMBER:
                raise VqzError(f"invalid picture size {self.width} x {self.height}")
        if len(self.fingerprint) != FINGERPRINT_BYTES:
            raise VqzError(f"invalid model fingerprint of {len(self.fingerprint)} bytes")
        if not 0 <= self.level <= MAX_LEVEL:
            raise VqzError(f"invalid level {self.level}")


@dataclass(frozen=True)
class Chunk:
    """A typed piece of content; `type` is one ASCII letter, uppercase if critical.

    Raises VqzError for any other type.
    """

    type: str
    payload: bytes

    def __post_init__(self) -> None:
        if not (len(self.type) == 1 and self.type.isascii() and self.type.isalpha()):
            raise VqzError(f"invalid chunk type {self.type!r}")


@dataclass(frozen=True)
class Container:
    """A whole file: one header and at most one chunk of each type, among them the code stream.

    Raises VqzError if a type occurs twice or the code stream is missing.
    """

    header: Header
    chunks: tuple[Chunk, ...]

    def __post_init__(self) -> None:
        types = [chunk.type for chunk in self.chunks]
        if CODE_STREAM not in types:
            raise VqzError("invalid file: no code stream")
        if len(set(types)) < len(types):
            raise VqzError("invalid file: a chunk occurs twice")

    @property
    def code_stream(self) -> bytes:
        """Payload of chunk C."""
        return next(chunk.payload for chunk in self.chunks if chunk.type == CODE_STREAM)

    @property
    def alpha(self) -> bytes | None:
        """Payload of chunk A, None if the picture is opaque."""
        return next((chunk.payload for chunk in self.chunks if chunk.type == ALPHA), None)

    def pack(self) -> bytes:
        """The file's bytes; `unpack` gives an equal container back."""
        header = self.header
        parts = [
            MAGIC,
            bytes([VERSION, _GRAYSCALE if header.grayscale else 0]),
            _varint(header.width),
            _varint(header.height),
            header.fingerprint,
            bytes([header.level]),
        ]
        for chunk in self.chunks:
            parts += [chunk.type.encode(), _varint(len(chunk.payload)), chunk.payload]
        body = b"".join(parts)
        return body + zlib.crc32(body).to_bytes(_CRC_BYTES, "little")


def unpack(data: bytes, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> Container:
    """Read a whole file, for any bytes at all.

    Chunks of unknown ancillary type are kept in `Container.chunks`, for the caller to skip.

    Args:
        data: The file.
        max_pixels: Largest width * height to accept; None accepts every size.

    Raises:
        VqzError: Not a vqz file, of another version, truncated, corrupt, invalid or too large.
    """
    return _parse(_checked_body(data), max_pixels)


def read_header(data: bytes, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> Header:
    """Read the header alone; the checksum of the whole file is checked all the same.

    Arguments and errors are those of `unpack`, but the chunks are not looked at.
    """
    return _parse_header(_Cursor(_checked_body(data)), max_pixels)


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise VqzError for a picture with more pixels than that."""
    if width * height > max_pixels:
        raise VqzError(f"picture of {width} x {height} pixels is over the limit of {max_pixels}")


class _TruncatedError(VqzError):
    def __init__(self) -> None:
        super().__init__("truncated file")


def _checked_body(data: bytes) -> bytes:
    """Everything before the CRC, after which nothing in it can be accidental."""
    if not data:
        raise VqzError("empty file")
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise VqzError("not a vqz file")
    if len(data) <= len(MAGIC):
        raise _TruncatedError
    version = data[len(MAGIC)]
    if version != VERSION:
        raise VqzError(f"unsupported file version {version}, this vqzip reads version {VERSION}")
    body = data[:-_CRC_BYTES]
    if zlib.crc32(body) == int.from_bytes(data[-_CRC_BYTES:], "little"):
        return body
    # Parsed only to tell the two apart: a truncated file ends before its own structure does.
    try:
        _parse(body, max_pixels=None)
    except _TruncatedError:
        raise
    except VqzError:
        pass
    raise VqzError("corrupt file (wrong checksum)")


def _parse(body: bytes, max_pixels: int | None) -> Container:
    cursor = _Cursor(body)
    header = _parse_header(cursor, max_pixels)
    return Container(header, tuple(_parse_chunks(cursor)))


def _parse_header(cursor: _Cursor, max_pixels: int | None) -> Header:
    cursor.take(len(MAGIC) + 1)
    flags = cursor.byte()
    if flags & ~_GRAYSCALE:
        raise VqzError(f"made by a newer version of vqzip (flags 0x{flags:02x})")
    width, height = cursor.varint(), cursor.varint()
    if max_pixels is not None:
        check_size(width, height, max_pixels)
    return Header(
        width=width,
        height=height,
        grayscale=bool(flags & _GRAYSCALE),
        fingerprint=cursor.take(FINGERPRINT_BYTES),
        level=cursor.byte(),
    )


def _parse_chunks(cursor: _Cursor) -> Iterator[Chunk]:
    seen: set[str] = set()
    while not cursor.at_end:
        type_ = chr(cursor.byte())
        # Checked before the next one is read, so that a file of empty chunks takes no memory.
        if type_ in seen:
            raise VqzError(f"invalid file: chunk {type_!r} occurs twice")
        seen.add(type_)
        chunk = Chunk(type_, cursor.take(cursor.varint()))
        if type_.isupper() and type_ not in KNOWN_CHUNKS:
            raise VqzError(f"made by a newer version of vqzip (chunk {type_!r})")
        yield chunk


class _Cursor:
    """Reads from the front of a file's body; raises _TruncatedError at its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def at_end(self) -> bool:
        return self._position == len(self._data)

    def take(self, count: int) -> bytes:
        start, end = self._position, self._position + count
        if end > len(self._data):
            raise _TruncatedError
        self._position = end
        return self._data[start:end]

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self) -> int:
        value = 0
        for shift in range(0, 35, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                padded = byte == 0 and shift > 0
                if padded or value > MAX_NUMBER:
                    break
                return value
        raise VqzError("invalid file: malformed number")


def _varint(value: int) -> bytes:
    """`value` in LEB128: seven bits a byte, lowest first, the high bit set on all but the last."""
    if not 0 <= value <= MAX_NUMBER:
        raise VqzError(f"{value} is too large for the file format")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
