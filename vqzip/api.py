"""The Python interface: what `import vqzip` offers.

Torch, NumPy and Pillow are imported when first needed, so that importing vqzip costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from vqzip import container, files
from vqzip.container import ALPHA, CODE_STREAM, DEFAULT_MAX_PIXELS, Chunk, Container, Header
from vqzip.errors import VqzError, naming
from vqzip.quality import (
    DEFAULT_EFFORT,
    DEFAULT_QUALITY,
    check_effort,
    level_of_quality,
    quality_of_level,
)
from vqzip.rate import Rate, encode_at_rate

if TYPE_CHECKING:
    from PIL import Image

    from vqzip.codec import CodecModel
    from vqzip.image import Picture, Pixels, Source
    from vqzip.sampling import Drawn

    ModelLike: TypeAlias = CodecModel | str | os.PathLike[str] | None
    Data: TypeAlias = bytes | bytearray | memoryview | str | os.PathLike[str]


@dataclass(frozen=True)
class Info:
    """What a vqz file says about itself.

    Attributes:
        version: Version of the file format.
        width: Pixels.
        height: Pixels.
        grayscale: The picture has one channel, besides alpha.
        alpha: Some of the picture is transparent.
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
    alpha: bool
    level: int
    quality: int
    fingerprint: str
    bytes: int
    bpp: float
    chunks: Mapping[str, int]


def compress(
    image: Source,
    quality: int | None = None,
    model: ModelLike = None,
    *,
    target_bpp: float | None = None,
    max_bytes: int | None = None,
    target_psnr: float | None = None,
    effort: int = DEFAULT_EFFORT,
    strip: bool = False,
    frame: int | None = None,
) -> bytes:
    """Compress a picture to the bytes of a vqz file.

    Alpha is kept without loss, and so are ICC profile, EXIF and XMP, from which the EXIF
    orientation has moved into the pixels. Colours under fully transparent pixels are not kept.

    At most one of `quality` and the targets can be given; without any, the quality is 50. A file
    with a target costs several encodes, mostly 3 or 4.

    Args:
        image: A Pillow image, a path or an open binary file.
        quality: 1 (smallest) to 100 (best). Of a smooth picture, which takes less than 0.2 bits
            per pixel, the file is that of a better quality if one of the next few takes no more.
        model: A model's folder, a loaded model, or None for the one that comes with vqzip.
        target_bpp: Bits per pixel of the whole file: at most this, and at most 3 % less unless
            the best quality takes less or the picture is tiny.
        max_bytes: Likewise, bytes of the whole file.
        target_psnr: The smallest quality whose decoded picture has at least this PSNR in dB, over
            all 8-bit values.
        effort: 0 (fastest) to 9 (smallest).
        strip: Drop metadata; colours of an ICC profile other than sRGB's are converted to sRGB.
        frame: Which one of an animation, or which page of a document, from 0. Without it,
            pictures of several frames are refused.

    Raises:
        VqzError: The picture or the model cannot be used, quality or effort are out of range, or no
            file meets the target.
    """
    from vqzip.image import load

    rate = Rate(quality, target_bpp, max_bytes, target_psnr)
    return compress_picture(load(image, strip=strip, frame=frame), rate, model, effort)


def compress_picture(
    picture: Picture, rate: Rate, model: ModelLike = None, effort: int = DEFAULT_EFFORT
) -> bytes:
    """`compress` for a picture that is already loaded."""
    check_effort(effort)
    codec = _load(model)
    height, width, _ = picture.pixels.shape
    others = other_chunks(picture)

    def wrap(level: int, stream: bytes) -> bytes:
        header = Header(width, height, picture.grayscale, codec.fingerprint, level)
        return Container(header, (Chunk(CODE_STREAM, stream), *others)).pack()

    return encode_at_rate(codec, picture, rate, effort, wrap)


def other_chunks(picture: Picture) -> tuple[Chunk, ...]:
    """All of a file's chunks but the code stream: alpha and metadata, at no quality but one."""
    from vqzip import alpha, metadata

    chunks = metadata.to_chunks(picture.metadata)
    if picture.alpha is not None:
        chunks.insert(0, Chunk(ALPHA, alpha.encode(picture.alpha)))
    return tuple(chunks)


def decompress(
    data: Data,
    model: ModelLike = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    *,
    preview: bool = False,
) -> Image.Image:
    """Decompress a vqz file to a Pillow image of mode RGB, RGBA, L or LA.

    Its `info` has the metadata, as Pillow does: `icc_profile`, `exif`, `xmp`.

    Args:
        data: The file's bytes, or its path.
        model: As for `compress`; None finds the model the file was made with.
        max_pixels: Larger pictures are refused before anything is allocated for them.
        preview: Decode the top map alone: a coarse picture of the same size, in a fraction of the
            time.

    Raises:
        VqzError: The file is broken or too large, or its model is not there.
    """
    content, name = _content(data)
    with naming(name):
        file = container.unpack(content, max_pixels)
        codec = _model_of(file.header, model)

        from vqzip.codec import decode
        from vqzip.codec import preview as decode_top

        header = file.header
        decode_pixels = decode_top if preview else decode
        pixels = decode_pixels(codec, file.code_stream, header.width, header.height, header.level)
        return _to_image(pixels, header, file.chunks)


def sample(
    width: int,
    height: int,
    quality: int = DEFAULT_QUALITY,
    model: ModelLike = None,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Image.Image:
    """A picture that never was: its codes are drawn at random from the model's prior.

    The codes of a seed are the same on every machine.

    Args:
        width: Pixels.
        height: Pixels.
        quality: 1 to 100; the prior's notion of pictures depends on it.
        model: A model's folder, a loaded model, or None for the one that comes with vqzip.
        seed: A whole number from 0.
        temperature: Above 0. Codes are drawn by their probability to the power of 1 / temperature.
        max_pixels: Larger pictures are refused.

    Raises:
        VqzError: One of these is out of range, or the model cannot be used.
    """
    return image_of(draw(width, height, quality, model, seed, temperature, max_pixels))


def complete(
    data: Data,
    model: ModelLike = None,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Image.Image:
    """A picture with the top map of a vqz file and a bottom map that is drawn at random.

    Alpha and metadata are those of the file.

    Args:
        data: The file's bytes, or its path.
        model: As for `decompress`.
        seed: A whole number from 0.
        temperature: As for `sample`.
        max_pixels: Larger pictures are refused.

    Raises:
        VqzError: The file is broken or too large, its model is not there, or seed or temperature
            are out of range.
    """
    return image_of(draw_completion(data, model, seed, temperature, max_pixels))


def draw(
    width: int,
    height: int,
    quality: int,
    model: ModelLike,
    seed: int,
    temperature: float,
    max_pixels: int,
) -> Drawn:
    """`sample`, in codes."""
    container.check_size(width, height, max_pixels)
    level = level_of_quality(quality)

    from vqzip.sampling import Sampler, sample

    return sample(_load(model), width, height, level, Sampler(seed, temperature))


def draw_completion(
    data: Data, model: ModelLike, seed: int, temperature: float, max_pixels: int
) -> Drawn:
    """`complete`, in codes."""
    content, name = _content(data)
    with naming(name):
        file = container.unpack(content, max_pixels)

        from vqzip.sampling import Sampler, complete

        sampler = Sampler(seed, temperature)
        return complete(_model_of(file.header, model), file, sampler)


def image_of(drawn: Drawn) -> Image.Image:
    """A drawn picture as a Pillow image; raises VqzError if alpha or metadata are corrupt."""
    return _to_image(drawn.pixels(), drawn.header, drawn.others)


def _to_image(pixels: Pixels, header: Header, chunks: Iterable[Chunk]) -> Image.Image:
    """Pixels with the alpha and the metadata that the chunks hold; raises VqzError."""
    from vqzip import alpha, metadata
    from vqzip.image import to_image

    payloads = {chunk.type: chunk.payload for chunk in chunks}
    plane = None
    if ALPHA in payloads:
        plane = alpha.decode(payloads[ALPHA], header.width, header.height)
    return to_image(pixels, header.grayscale, plane, metadata.from_chunks(chunks))


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
        alpha=file.alpha is not None,
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
