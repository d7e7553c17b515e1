"""The codec: pixels to a code stream and back.  The only place that joins the parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from vqzip import bands, codemap
from vqzip.bands import Pixels, Positions, Vectors
from vqzip.choice import Found, Latents, Look, Search, choose, choose_looking
from vqzip.codemap import CodeMap, CodeSource
from vqzip.coder import Decoder, Encoder
from vqzip.entropy import Codes as CodeArray
from vqzip.errors import VqzError
from vqzip.glance import Glance
from vqzip.integer import CODEWORD_ONE, Bytes, Floats, Lift
from vqzip.threads import each, products_on_one_thread
from vqzip.vqvae import TOP_STRIDE, Transform
from vqzip.wiener import Coefficients, FilterBank
from vqzip.windows import LARGE, Seen, find_filter, see

POSITIONS_PER_BYTE = 256  # of the top map, at most, and as if a stream had some bytes more
SPARE_BYTES = 64
SPARE_BITS = 64  # by which codes may have more information than their stream; in truth, none do
LIFTED = 2**12  # positions of the top map that are lifted to the bottom map at once
DEFAULT = Search()
EVEN = np.ones((1, 1), np.float32)  # weights of errors that count alike


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
        return _double(self.shape)


def top_shape(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of the top map of a picture with so many pixels."""
    return -(-height // TOP_STRIDE), -(-width // TOP_STRIDE)


def _double(shape: tuple[int, int]) -> tuple[int, int]:
    return 2 * shape[0], 2 * shape[1]


def _least_bytes(shape: tuple[int, int]) -> int:
    """How long a stream is at least, for the work it makes a decoder do to be bounded by it.

    Photos need a hundred times more, black ones five times.
    """
    least = -(-shape[0] * shape[1] // POSITIONS_PER_BYTE) - SPARE_BYTES
    return max(0, -(-least // 4) * 4)


def _level(model: CodecModel, level: int) -> Tensor:
    return torch.tensor([level / model.top.steps])


def _vectors(code_map: CodeMap, codes: list[CodeArray], level: int) -> Vectors:
    """Code vectors in code units."""

    def of(positions: Positions) -> Floats:
        vectors = code_map.vectors([c[positions] for c in codes], level)
        scaled: Floats = vectors.astype(np.float32) * np.float32(1 / CODEWORD_ONE)
        return scaled

    return of


def _condition(
    model: CodecModel, top: list[CodeArray], shape: tuple[int, int], level: int
) -> Bytes:
    """Top codes to the condition of the bottom prior (positions of the bottom map, channels)."""
    inputs = model.top.prior.inputs(model.top.vectors(top, level), level)
    grid = inputs.reshape(*shape, -1)
    height = max(min(LIFTED // shape[1], -(-shape[0] // 2)), 1)
    strips = [slice(start, start + height) for start in range(0, shape[0], height)]
    lifted = np.concatenate(each(lambda rows: model.lift(grid, rows), strips))
    return lifted.reshape(-1, lifted.shape[-1])


@dataclass(frozen=True)
class Begun:
    """A picture whose top map is chosen: what the choice of the bottom map's codes depends on."""

    shape: tuple[int, int]  # of the top map
    top: list[CodeArray]
    bottom: Latents
    filtered: Callable[[Codes], Codes]
    """Codes with a filter for the picture."""
    look: Look | None = None
    """What codes of the bottom map leave of the picture, if it is to be looked at."""

    def finish(
        self, model: CodecModel, search: Search = DEFAULT, encoder: Encoder | None = None
    ) -> Codes:
        """Codes of both maps; those of the bottom map are appended to a stream if there is one."""
        latents = replace(self.bottom, code_map=model.bottom)
        if self.look is None:
            return self.filtered(Codes(self.shape, self.top, choose(latents, search, encoder)))
        codes, found = choose_looking(latents, search, self.look, encoder)
        return Codes(self.shape, self.top, codes, found.filter)


def begin(
    model: CodecModel,
    pixels: Pixels,
    level: int,
    search: Search = DEFAULT,
    encoder: Encoder | None = None,
) -> Begun:
    """Pixels (H, W, 3) to the top map, whose codes are appended to a stream if there is one."""
    analysis = bands.Analysis(model.transform, pixels, _level(model, level))
    shape = analysis.shape
    coarse, fine = analysis.error_weights() if search.by_bits else (EVEN, EVEN)
    points = analysis.top_latent(model.top.coded(level))
    top = choose(Latents(model.top, points, shape, level, None, coarse), search, encoder)
    above, coded = _vectors(model.top, top, level), model.bottom.coded(level)
    given = level, _condition(model, top, shape, level), fine
    latents = Latents(model.bottom, analysis.bottom_latent(above, coded), _double(shape), *given)
    filtered = partial(with_filter, model, pixels, level=level, search=search)
    look: Look | None = None
    if search.passes:
        look = partial(_look, model, pixels, shape, top, level, fine, filtered)
    elif model.bank is not None and search.filters and shape[0] * shape[1] <= LARGE:
        picture = pixels, _level(model, level), level, worth(model, level), fine
        glance = Glance(model.transform, model.bank, *picture, coded)

        def look(codes: list[CodeArray]) -> Found:
            return glance(above, _vectors(model.bottom, codes, level))

    return Begun(shape, top, latents, filtered, look)


def _look(
    model: CodecModel,
    pixels: Pixels,
    shape: tuple[int, int],
    top: list[CodeArray],
    level: int,
    emphasis: Floats,
    filtered: Callable[[Codes], Codes],
    bottom: list[CodeArray],
) -> Found:
    """What codes leave of a picture, the filter that they would have being in it."""
    from vqzip.hindsight import Hindsight

    codes = filtered(Codes(shape, top, bottom))
    above, below = (_vectors(m, c, level) for m, c in _maps(model, codes))
    look = Hindsight(model.transform, pixels, _level(model, level), worth(model, level), emphasis)
    return Found(*look(above, below, _ending(model, codes, level)), codes.filter)


@products_on_one_thread()
def analyse(model: CodecModel, pixels: Pixels, level: int, search: Search = DEFAULT) -> Codes:
    """Pixels (H, W, 3) to codes."""
    return begin(model, pixels, level, search).finish(model, search)


def decoded_windows(model: CodecModel, pixels: Pixels, codes: Codes, level: int) -> list[Seen]:
    """What a filter is found from: windows of a picture beside what codes decode to."""
    top, bottom = (_vectors(m, c, level) for m, c in _maps(model, codes))
    return see(pixels, model.transform, top, bottom, _level(model, level))


def worth(model: CodecModel, level: int) -> float:
    """Bits for a squared error of 1 in a pixel, colours summed up."""
    return float(model.transform.config.worth(_level(model, level)))


def with_filter(
    model: CodecModel, pixels: Pixels, codes: Codes, level: int, search: Search = DEFAULT
) -> Codes:
    """Codes with the filter that is best for pixels (H, W, 3), if the model has filters."""
    if model.bank is None or not search.filters:
        return codes
    height, width, _ = pixels.shape
    every, bits = decoded_windows(model, pixels, codes, level), worth(model, level) * height * width
    return replace(codes, filter=find_filter(model.bank, every, level, bits)[0])


def _maps(model: CodecModel, codes: Codes) -> tuple[tuple[CodeMap, list[CodeArray]], ...]:
    return (model.top, codes.top), (model.bottom, codes.bottom)


def synthesise(model: CodecModel, codes: Codes, width: int, height: int, level: int) -> Pixels:
    """Codes to pixels (height, width, 3)."""
    top, bottom = (_vectors(m, c, level) for m, c in _maps(model, codes))
    size, at = (height, width), _level(model, level)
    return bands.synthesise(model.transform, top, bottom, size, at, _ending(model, codes, level))


def _ending(model: CodecModel, codes: Codes, level: int) -> Callable[[Tensor], Tensor] | None:
    """The filter of a picture, if it has one."""
    if model.bank is None or codes.filter is None:
        return None
    return partial(model.bank.filtered, coefficients=codes.filter, level=level)


def _finish(model: CodecModel, encoder: Encoder, codes: Codes) -> bytes:
    """The stream, both maps being in it."""
    if model.bank is not None:
        model.bank.put(codes.filter, encoder)
    # Words beyond the end are zeros, so that more of them change nothing.
    return encoder.finish().ljust(_least_bytes(codes.shape), b"\0")


def pack(model: CodecModel, codes: Codes, level: int) -> bytes:
    """Codes to a code stream."""
    encoder, condition = Encoder(), _condition(model, codes.top, codes.shape, level)
    codemap.encode(model.top, codes.top, codes.shape, level, None, encoder)
    codemap.encode(model.bottom, codes.bottom, codes.bottom_shape, level, condition, encoder)
    return _finish(model, encoder, codes)


def cross_entropy(model: CodecModel, codes: Codes, level: int) -> tuple[float, float]:
    """Bits of both maps' codes under their priors, which the code stream comes close to."""
    condition = _condition(model, codes.top, codes.shape, level)
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
    condition = _condition(model, top, shape, level)
    bottom = codemap.decode(model.bottom, _double(shape), level, condition, source)
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
def encode(model: CodecModel, pixels: Pixels, level: int, search: Search = DEFAULT) -> bytes:
    """Pixels (H, W, 3) to a code stream at a position of the quality scale."""
    encoder = Encoder()
    codes = begin(model, pixels, level, search, encoder).finish(model, search, encoder)
    return _finish(model, encoder, codes)


@products_on_one_thread()
def decode(model: CodecModel, stream: bytes, width: int, height: int, level: int) -> Pixels:
    """A code stream to pixels (height, width, 3)."""
    return synthesise(model, unpack(model, stream, width, height, level), width, height, level)


def preview(model: CodecModel, stream: bytes, width: int, height: int, level: int) -> Pixels:
    """The picture (height, width, 3) as the top map alone tells it: coarse, and soon decoded.

    Raises VqzError as `unpack` does, but reads the first part of the stream only.
    """
    _, codes = unpack_top(model, stream, width, height, level)
    top, channels = _vectors(model.top, codes, level), model.bottom.prior.channels

    def nothing(positions: Positions) -> Floats:
        assert isinstance(positions, slice)
        return np.zeros((positions.stop - positions.start, channels), np.float32)

    return bands.synthesise(model.transform, top, nothing, (height, width), _level(model, level))
