"""The codec: codes to a code stream and back, and to pixels.  `encoding.py` finds the codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from vqzip import bands, codemap
from vqzip.bands import Pixels, Positions, Vectors
from vqzip.codemap import CodeMap, CodeSource
from vqzip.coder import Decoder, Encoder
from vqzip.entropy import Codes as CodeArray
from vqzip.errors import VqzError
from vqzip.integer import CODEWORD_ONE, Bytes, Floats, Lift
from vqzip.threads import each, products_on_one_thread
from vqzip.vqvae import TOP_STRIDE, Transform
from vqzip.wiener import Coefficients, FilterBank

POSITIONS_PER_BYTE = 256  # of the top map, at most, and as if a stream had some bytes more
SPARE_BYTES = 64
SPARE_BITS = 64  # by which codes may have more information than their stream; in truth, none do
LIFTED = 2**12  # positions of the top map that are lifted to the bottom map at once


@dataclass(frozen=True)
class CodecModel:
    """A model that is ready to code."""

    fingerprint: bytes
    transform: Transform
    top: CodeMap
    bottom: CodeMap
    lift: Lift
    bank: FilterBank | None = None
    """None in models whose pictures have no filter."""


@dataclass(frozen=True)
class Codes:
    """Both code maps of a picture, and its filter, if it has one; shapes in positions."""

    shape: tuple[int, int]  # of the top map
    top: list[CodeArray]
    bottom: list[CodeArray]
    filter: Coefficients | None = None

    @property
    def bottom_shape(self) -> tuple[int, int]:
        """Rows and columns of the bottom map, twice those of the top map."""
        return doubled(self.shape)


def top_shape(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of the top map of a picture with so many pixels."""
    return -(-height // TOP_STRIDE), -(-width // TOP_STRIDE)


def doubled(shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the bottom map, given those of the top map."""
    return 2 * shape[0], 2 * shape[1]


def _least_bytes(shape: tuple[int, int]) -> int:
    """How long a stream is at least, for the work it makes a decoder do to be bounded by it.

    Photos need a hundred times more, black ones five times.
    """
    least = -(-shape[0] * shape[1] // POSITIONS_PER_BYTE) - SPARE_BYTES
    return max(0, -(-least // 4) * 4)


def level_of(model: CodecModel, level: int) -> Tensor:
    """A position of the quality scale as a level of the transform (1,)."""
    return torch.tensor([level / model.top.steps])


def vectors_of(code_map: CodeMap, codes: list[CodeArray], level: int) -> Vectors:
    """Code vectors in code units."""

    def of(positions: Positions) -> Floats:
        vectors = code_map.vectors([c[positions] for c in codes], level)
        scaled: Floats = vectors.astype(np.float32) * np.float32(1 / CODEWORD_ONE)
        return scaled

    return of


def condition_of(
    model: CodecModel, top: list[CodeArray], shape: tuple[int, int], level: int
) -> Bytes:
    """Top codes to the condition of the bottom prior (positions of the bottom map, channels)."""
    inputs = model.top.prior.inputs(model.top.vectors(top, level), level)
    grid = inputs.reshape(*shape, -1)
    height = max(min(LIFTED // shape[1], -(-shape[0] // 2)), 1)
    strips = [slice(start, start + height) for start in range(0, shape[0], height)]
    lifted = np.concatenate(each(lambda rows: model.lift(grid, rows), strips))
    return lifted.reshape(-1, lifted.shape[-1])


def fixed(model: CodecModel) -> CodecModel:
    """A model whose frequencies stay the prior's, where codes are not those of a picture."""
    top, bottom = (replace(code_map, adaptive=False) for code_map in (model.top, model.bottom))
    return replace(model, top=top, bottom=bottom)


def worth(model: CodecModel, level: int) -> float:
    """Bits for a squared error of 1 in a pixel, colours summed up."""
    return float(model.transform.config.worth(level_of(model, level)))


def maps_of(model: CodecModel, codes: Codes) -> tuple[tuple[CodeMap, list[CodeArray]], ...]:
    """Top and bottom: what codes a map, and its codes."""
    return (model.top, codes.top), (model.bottom, codes.bottom)


def synthesise(model: CodecModel, codes: Codes, width: int, height: int, level: int) -> Pixels:
    """Codes to pixels (height, width, 3)."""
    top, bottom = (vectors_of(m, c, level) for m, c in maps_of(model, codes))
    size, at = (height, width), level_of(model, level)
    return bands.synthesise(model.transform, top, bottom, size, at, ending_of(model, codes, level))


def ending_of(model: CodecModel, codes: Codes, level: int) -> Callable[[Tensor], Tensor] | None:
    """The filter of a picture, if it has one."""
    if model.bank is None or codes.filter is None:
        return None
    return partial(model.bank.filtered, coefficients=codes.filter, level=level)


def finish_stream(model: CodecModel, encoder: Encoder, codes: Codes) -> bytes:
    """The stream, both maps being in it."""
    if model.bank is not None:
        model.bank.put(codes.filter, encoder)
    # Words beyond the end are zeros, so that more of them change nothing.
    return encoder.finish().ljust(_least_bytes(codes.shape), b"\0")


def pack(model: CodecModel, codes: Codes, level: int) -> bytes:
    """Codes to a code stream."""
    encoder, condition = Encoder(), condition_of(model, codes.top, codes.shape, level)
    codemap.encode(model.top, codes.top, codes.shape, level, None, encoder)
    codemap.encode(model.bottom, codes.bottom, codes.bottom_shape, level, condition, encoder)
    return finish_stream(model, encoder, codes)


def cross_entropy(model: CodecModel, codes: Codes, level: int) -> tuple[float, float]:
    """Bits of both maps' codes under their priors, which the code stream comes close to."""
    condition = condition_of(model, codes.top, codes.shape, level)
    shape = codes.bottom_shape
    return (
        codemap.cross_entropy(model.top, codes.top, codes.shape, level, None),
        codemap.cross_entropy(model.bottom, codes.bottom, shape, level, condition),
    )


def read_top(
    model: CodecModel, shape: tuple[int, int], level: int, source: CodeSource
) -> list[CodeArray]:
    """The top map, as a source of codes has it."""
    return codemap.decode(model.top, shape, level, None, source)


def read_bottom(
    model: CodecModel, top: list[CodeArray], shape: tuple[int, int], level: int, source: CodeSource
) -> Codes:
    """Both maps, given the top map and its shape: the source goes on with the bottom map."""
    condition = condition_of(model, top, shape, level)
    bottom = codemap.decode(model.bottom, doubled(shape), level, condition, source)
    return Codes(shape, top, bottom)


def _decoder(stream: bytes, width: int, height: int) -> Decoder:
    """A source of codes for both maps; raises VqzError if the stream is too short for them."""
    if len(stream) < _least_bytes(top_shape(width, height)):
        raise VqzError(f"corrupt code stream: too short for {width} x {height} pixels")
    # Without a limit, a few bytes would decode to all of a picture: beyond the end there are zeros.
    return Decoder(stream, most_bits=8 * len(stream) + SPARE_BITS)


def unpack_top(
    model: CodecModel, stream: bytes, width: int, height: int, level: int
) -> tuple[tuple[int, int], list[CodeArray]]:
    """The top map of a code stream, its shape and its codes.

    Raises VqzError as `unpack` does, but reads the first part of the stream only.
    """
    decoder, shape = _decoder(stream, width, height), top_shape(width, height)
    top = read_top(model, shape, level, decoder)
    decoder.count()
    return shape, top


def unpack(model: CodecModel, stream: bytes, width: int, height: int, level: int) -> Codes:
    """A code stream to codes.

    Raises VqzError when the stream cannot be one of this picture: if it is too short for it, before
    anything is allocated.
    """
    decoder, shape = _decoder(stream, width, height), top_shape(width, height)
    top = read_top(model, shape, level, decoder)
    codes = read_bottom(model, top, shape, level, decoder)
    if model.bank is not None:
        codes = replace(codes, filter=model.bank.get(decoder))
    decoder.count()
    if len(stream) > _least_bytes(shape):
        decoder.finish()
    return codes


@products_on_one_thread()
def decode(model: CodecModel, stream: bytes, width: int, height: int, level: int) -> Pixels:
    """A code stream to pixels (height, width, 3)."""
    return synthesise(model, unpack(model, stream, width, height, level), width, height, level)


def preview(model: CodecModel, stream: bytes, width: int, height: int, level: int) -> Pixels:
    """The picture (height, width, 3) as the top map alone tells it: coarse, and soon decoded.

    Raises VqzError as `unpack` does, but reads the first part of the stream only.
    """
    _, codes = unpack_top(model, stream, width, height, level)
    top, channels = vectors_of(model.top, codes, level), model.bottom.prior.channels

    def nothing(positions: Positions) -> Floats:
        assert isinstance(positions, slice)
        return np.zeros((positions.stop - positions.start, channels), np.float32)

    return bands.synthesise(model.transform, top, nothing, (height, width), level_of(model, level))
