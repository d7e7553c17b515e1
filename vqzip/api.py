"""The Python interface: what `import vqzip` offers.

Torch, NumPy and Pillow are imported when first needed, so that importing vqzip costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from vqzip import container, files
from vqzip.container import CODE_STREAM, DEFAULT_MAX_PIXELS, Chunk, Container, Header
from vqzip.errors import VqzError, naming
from vqzip.quality import DEFAULT_QUALITY, level_of_quality, quality_of_level

if TYPE_CHECKING:
    from PIL import Image

    from vqzip.codec import CodecModel
    from vqzip.image import Picture, Source

    ModelLike: TypeAlias = CodecModel | str | os.PathLike[str] | None
    Data: TypeAlias = bytes | bytearray | memoryview | str | os.PathLike[str]


@dataclass(frozen=True)
class Info:
    """What a vqz file says about itself.

    Attributes:
        version: Version of the file format.
        width: Pixels.
        height: Pixels.
        grayscale: The picture has one channel.
        level: Rate, from the model's lowest trained level to its highest, 0..128.
        quality: The quality, 1..100, that comes closest to the level.
        fingerprint: The model that is needed, 16 hexadecimal digits.
        bytes: Size of the whole file.
        bpp: Bits per pixel, of the whole file.
        chunks: Payload bytes of each chunk, by type, in the order of the file.
    """

    version: int
    width: int
    height: int
    grayscale: bool
    level: int
    quality: int
    fingerprint: str
    bytes: int
    bpp: float
    chunks: Mapping[str, int]


def compress(image: Source, quality: int = DEFAULT_QUALITY, model: ModelLike = None) -> bytes:
    """Compress a picture to the bytes of a vqz file.

    Args:
        image: A Pillow image, a path or an open binary file.
        quality: 1 (smallest) to 100 (best).
        model: A model's folder, a loaded model, or None for the one that comes with vqzip.

    Raises:
        VqzError: The picture or the model cannot be used, or the quality is out of range.
    """
    from vqzip.image import load

    return compress_picture(load(image), quality, model)


def compress_picture(picture: Picture, quality: int, model: ModelLike = None) -> bytes:
    """`compress` for a picture that is already loaded."""
    from vqzip.codec import encode

    level = level_of_quality(quality)
    codec = _load(model)
    height, width, _ = picture.pixels.shape
    header = Header(width, height, picture.grayscale, codec.fingerprint, level)
    stream = encode(codec, picture.pixels, level)
    return Container(header, (Chunk(CODE_STREAM, stream),)).pack()


def decompress(
    data: Data, model: ModelLike = None, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Image.Image:
    """Decompress a vqz file to a Pillow image of mode RGB or L.

    Args:
        data: The file's bytes, or its path.
        model: As for `compress`; None finds the model the file was made with.
        max_pixels: Larger pictures are refused before anything is allocated for them.

    Raises:
        VqzError: The file is broken or too large, or its model is not there.
    """
    content, name = _content(data)
    with naming(name):
        file = container.unpack(content, max_pixels)
        codec = _model_of(file.header, model)

        from vqzip.codec import decode
        from vqzip.image import to_image

        header = file.header
        pixels = decode(codec, file.code_stream, header.width, header.height, header.level)
        return to_image(pixels, header.grayscale)


def info(data: Data) -> Info:
    """Describe a vqz file without decoding it; takes its bytes, or its path.

    Raises:
        VqzError: The file is broken.
    """
    content, name = _content(data)
    with naming(name):
        file = container.unpack(content, max_pixels=None)
    header = file.header
    return Info(
        version=container.VERSION,
        width=header.width,
        height=header.height,
        grayscale=header.grayscale,
        level=header.level,
        quality=quality_of_level(header.level),
        fingerprint=header.fingerprint.hex(),
        bytes=len(content),
        bpp=8 * len(content) / (header.width * header.height),
        chunks={chunk.type: len(chunk.payload) for chunk in file.chunks},
    )


def _content(data: Data) -> tuple[bytes, str | None]:
    """The bytes and the name of the file they come from, if any."""
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data), None
    name = os.fspath(data)
    return files.read(name), name


def _load(model: ModelLike) -> CodecModel:
    from vqzip.store import load_model

    if model is None or isinstance(model, str | os.PathLike):
        return load_model(model)
    return model


def _model_of(header: Header, model: ModelLike) -> CodecModel:
    """The model a file needs: the one given if it is that, else the one installed."""
    from vqzip.store import find_model

    needed = header.fingerprint.hex()
    if model is None:
        model = find_model(header.fingerprint)
        if model is None:
            raise VqzError(f"needs model {needed}, which is not installed; pass --model DIR")
    codec = _load(model)
    if codec.fingerprint != header.fingerprint:
        raise VqzError(f"needs model {needed}, but the model given is {codec.fingerprint.hex()}")
    return codec
