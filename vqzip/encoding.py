"""Pixels to codes, and to a code stream: the encoder's side of the codec."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from vqzip import bands
from vqzip.aim import Found
from vqzip.bands import Pixels
from vqzip.choice import Look, choose, choose_looking
from vqzip.codec import (
    CodecModel,
    Codes,
    condition_of,
    doubled,
    ending_of,
    finish_stream,
    level_of,
    maps_of,
    vectors_of,
    worth,
)
from vqzip.coder import Encoder
from vqzip.entropy import Codes as CodeArray
from vqzip.glance import Glance
from vqzip.integer import Floats
from vqzip.latents import Latents, Search
from vqzip.threads import products_on_one_thread
from vqzip.windows import LARGE, Seen, find_filter, see

DEFAULT = Search()
EVEN = np.ones((1, 1), np.float32)  # weights of errors that count alike


@dataclass(frozen=True)
class Begun:
    """A picture whose top map is chosen: what the choice of the bottom map's codes depends on."""

    shape: tuple[int, int]  # of the top map
    top: list[CodeArray]
    bottom: Latents
    filtered: Callable[[Codes], Codes]
    """Codes with a filter for the picture."""
    glance: Look | None = None
    """What codes of the bottom map leave of the picture, roughly, if it is to be looked at."""
    look: Look | None = None
    """The same more closely, if codes are chosen in passes."""

    def finish(
        self, model: CodecModel, search: Search = DEFAULT, encoder: Encoder | None = None
    ) -> Codes:
        """Codes of both maps; those of the bottom map are appended to a stream if there is one."""
        latents = replace(self.bottom, code_map=model.bottom)
        if self.glance is None and self.look is None:
            return self.filtered(Codes(self.shape, self.top, choose(latents, search, encoder)))
        codes, found = choose_looking(latents, search, self.glance, self.look, encoder)
        return Codes(self.shape, self.top, codes, found.filter)


def begin(
    model: CodecModel,
    pixels: Pixels,
    level: int,
    search: Search = DEFAULT,
    encoder: Encoder | None = None,
) -> Begun:
    """Pixels (H, W, 3) to the top map, whose codes are appended to a stream if there is one."""
    analysis = bands.Analysis(model.transform, pixels, level_of(model, level))
    shape = analysis.shape
    coarse, fine = analysis.error_weights() if search.by_bits else (EVEN, EVEN)
    points = analysis.top_latent(model.top.coded(level))
    top = choose(Latents(model.top, points, shape, level, None, coarse), search, encoder)
    above, coded = vectors_of(model.top, top, level), model.bottom.coded(level)
    given = level, condition_of(model, top, shape, level), fine
    glances = search.by_bits and search.filters and coded > 0 and shape[0] * shape[1] <= LARGE
    bank = model.bank if glances else None
    points = analysis.bottom_latent(above, coded, keep=bank is not None)
    latents = Latents(model.bottom, points, doubled(shape), *given)
    filtered = partial(with_filter, model, pixels, level=level, search=search)
    glance, look = None, None
    if bank is not None:
        picture = pixels, level_of(model, level), level, worth(model, level), fine
        roughly = Glance(model.transform, bank, *picture, coded, analysis.known)

        def glance(codes: list[CodeArray]) -> Found:
            return roughly(above, vectors_of(model.bottom, codes, level))

    if search.by_bits and search.passes:
        look = partial(_look, model, pixels, shape, top, level, fine, filtered)
    return Begun(shape, top, latents, filtered, glance, look)


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
    above, below = (vectors_of(m, c, level) for m, c in maps_of(model, codes))
    look = Hindsight(model.transform, pixels, level_of(model, level), worth(model, level), emphasis)
    return Found(*look(above, below, ending_of(model, codes, level)), codes.filter)


@products_on_one_thread()
def analyse(model: CodecModel, pixels: Pixels, level: int, search: Search = DEFAULT) -> Codes:
    """Pixels (H, W, 3) to codes."""
    return begin(model, pixels, level, search).finish(model, search)


def decoded_windows(model: CodecModel, pixels: Pixels, codes: Codes, level: int) -> list[Seen]:
    """What a filter is found from: windows of a picture beside what codes decode to, roughly."""
    top, bottom = (vectors_of(m, c, level) for m, c in maps_of(model, codes))
    return see(pixels, model.transform, top, bottom, level_of(model, level))


def with_filter(
    model: CodecModel, pixels: Pixels, codes: Codes, level: int, search: Search = DEFAULT
) -> Codes:
    """Codes with the filter that is best for pixels (H, W, 3), if the model has filters."""
    if model.bank is None or not search.filters:
        return codes
    height, width, _ = pixels.shape
    every, bits = decoded_windows(model, pixels, codes, level), worth(model, level) * height * width
    return replace(codes, filter=find_filter(model.bank, every, level, bits)[0])


@products_on_one_thread()
def encode(model: CodecModel, pixels: Pixels, level: int, search: Search = DEFAULT) -> bytes:
    """Pixels (H, W, 3) to a code stream at a position of the quality scale."""
    encoder = Encoder()
    codes = begin(model, pixels, level, search, encoder).finish(model, search, encoder)
    return finish_stream(model, encoder, codes)
