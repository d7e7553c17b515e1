"""Pixels to latents and codes to pixels, in bands of rows, so that memory does not grow with area.

A band is computed with a halo as wide as the networks' reach, which is cut off afterwards: the
result is that of the whole picture at once.  Rows are those of the top map, 16 pixels each.

Analysis works on several bands at a time, each on one thread and with its fifth of a gigabyte.
Floating-point sums depend on how many threads share them and how high a band is, and now and then a
code would: so that files depend on the picture alone, bands do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vqzip.integer import Floats
from vqzip.masking import coarser, error_weight
from vqzip.threads import each
from vqzip.vqvae import BOTTOM_STRIDE, TOP_STRIDE, Transform, TransformConfig

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

Pixels = NDArray[np.uint8]
Positions = slice | NDArray[np.int64]
Vectors = Callable[[Positions], Floats]
"""Code vectors (n, channels) of some positions of a map: those of a whole map need not be there."""

BAND = 3 * 2**12  # positions of the top map in a band; about a fifth of a gigabyte
FEWEST_ROWS = 16  # of a band, for the halo not to be most of it
KEPT = 2**16  # positions of the top map whose features are kept from one pass to the next
_RATIO = TOP_STRIDE // BOTTOM_STRIDE


@dataclass(frozen=True)
class Band:
    """Rows `start` to `stop`, and with their halo `first` to `last`."""

    start: int
    stop: int
    first: int
    last: int

    def wider(self, by: int, rows: int) -> Band:
        """With so many rows more on each side, in a map of so many."""
        return Band(self.start, self.stop, max(self.first - by, 0), min(self.last + by, rows))

    def of(self, vectors: Vectors, positions: int) -> Floats:
        """The vectors of its rows and its halo, there being so many for each row."""
        return vectors(slice(self.first * positions, self.last * positions))

    def crop(self, x: Tensor, scale: int) -> Tensor:
        """The rows without halo of a map (B, C, H, W) with `scale` rows for each."""
        return x[:, :, (self.start - self.first) * scale : (self.stop - self.first) * scale]


def decoded_top(
    transform: Transform, band: Band, top: Vectors, shape: tuple[int, int], level: Tensor
) -> Tensor:
    """What a band's rows and halo know of the top map, whose shape is rows and columns."""
    rows, columns = shape
    wider = band.wider(transform.config.top_blocks, rows)
    h = transform.decode_top(as_map(wider.of(top, columns), columns), level)
    return replace(wider, start=band.first, stop=band.last).crop(h, _RATIO)


def bands(
    rows: int, columns: int, halo: int, even: bool = False, size: int | None = None
) -> list[Band]:
    """Bands that cover a top map of that many rows and columns; if `even`, two, four and so on.

    `size` positions each, BAND if that is None, but for the fewest rows.
    """
    count = -(-rows * columns // (size or BAND))
    count += count % 2 if even else 0
    height = max(-(-rows // count), FEWEST_ROWS)
    ends = [(start, min(start + height, rows)) for start in range(0, rows, height)]
    return [Band(*each, max(each[0] - halo, 0), min(each[1] + halo, rows)) for each in ends]


def analysis_halo(config: TransformConfig) -> int:
    """Rows beyond a band that its latents depend on."""
    lapped = 1
    top = config.encoder_blocks + _RATIO * config.top_blocks
    bottom = max(config.encoder_blocks, _RATIO * config.top_blocks) + config.bottom_blocks
    return -(-(lapped + max(top, bottom)) // _RATIO)


def synthesis_halo(config: TransformConfig) -> int:
    """Rows beyond a band whose bottom vectors its pixels depend on.

    Those depend on the top vectors of as many rows more as the top decoder has blocks.
    """
    lapped, refine = 1, int(config.refine_width > 0)
    return -(-(lapped + refine + config.decoder_blocks) // _RATIO)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run networks on one thread, here and on threads that have not run any yet."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def each_on_one_thread(work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Run networks, `work`, for several items at the same time, each on one thread."""

    @torch.inference_mode()
    def alone(item: _Item) -> _Result:
        torch.set_num_threads(1)
        return work(item)

    with _one_thread():
        return each(alone, items)


def as_map(vectors: Floats, width: int) -> Tensor:
    """(H * width, C) to (1, C, H, width), channels last in memory."""
    rows = torch.from_numpy(np.ascontiguousarray(vectors))
    return rows.view(1, -1, width, vectors.shape[1]).permute(0, 3, 1, 2)


class Analysis:
    """A picture on its way to latents, in two passes: the bottom latent depends on the top codes.

    Pixels are (H, W, 3), 0 to 255; `level` is a tensor (1,).
    """

    def __init__(self, transform: Transform, pixels: Pixels, level: Tensor) -> None:
        self.transform, self.pixels, self.level = transform, pixels, level
        height, width, _ = pixels.shape
        self.shape = -(-height // TOP_STRIDE), -(-width // TOP_STRIDE)
        self.bands = bands(*self.shape, analysis_halo(transform.config), even=True)
        self._kept: dict[Band, Tensor] = {}
        self.known: Tensor | None = None
        """What is known of the top map, h (1, 192, H/8, W/8), if it was to be kept."""

    def _image(self, band: Band) -> Tensor:
        rows, width = (TOP_STRIDE * x for x in (band.last - band.first, self.shape[1]))
        part = self.pixels[band.first * TOP_STRIDE :][:rows]
        below, right = rows - part.shape[0], width - part.shape[1]
        if below or right:  # beyond the edges the last pixels are repeated
            part = np.pad(part, ((0, below), (0, right), (0, 0)), "edge")
        planes = part.transpose(2, 0, 1).copy()
        return torch.from_numpy(planes)[None].float().div_(255)

    def _features(self, band: Band) -> Tensor:
        if band in self._kept:
            return self._kept.pop(band)
        features = self.transform.features(self._image(band), self.level)
        if self.shape[0] * self.shape[1] <= KEPT:
            self._kept[band] = features
        return features

    def _latent(self, channels: int, scale: int, of_band: Callable[[Band], Tensor]) -> Floats:
        """A latent of the whole picture (positions, channels), of the first channels of its bands'.

        These are (1, C, H, W) with `scale` rows and columns for each of the top map.
        """
        positions = self.shape[1] * scale**2  # of a row
        latent = np.empty((self.shape[0] * positions, channels), np.float32)

        def work(band: Band) -> None:
            inside = band.crop(of_band(band), scale)[0, :channels].flatten(1).T
            latent[band.start * positions : band.stop * positions] = inside.numpy()

        each_on_one_thread(work, self.bands)
        return latent

    def error_weights(self) -> tuple[Floats, Floats]:
        """Weights of errors (positions, 1) at both maps' positions, top and bottom."""
        rows, columns = self.shape
        bottom = self._latent(1, _RATIO, lambda band: error_weight(self._image(band)))
        as_map = torch.from_numpy(bottom).view(1, 1, _RATIO * rows, _RATIO * columns)
        return coarser(as_map).numpy().reshape(-1, 1), bottom

    def top_latent(self, channels: int) -> Floats:
        """The first channels of the whole top latent (positions, channels) in code units."""
        t = self.transform
        return self._latent(channels, 1, lambda b: t.top_latent(self._features(b), self.level))

    def bottom_latent(self, top_vectors: Vectors, channels: int, keep: bool = False) -> Floats:
        """The first channels of the whole bottom latent (positions, channels), in code units.

        Given the code vectors of the top map, in code units, too.
        """
        t, (height, width) = self.transform, self.shape
        known = None
        if keep:
            known = torch.empty(_RATIO * height, _RATIO * width, t.top_up.out_channels // _RATIO**2)

        def latent(band: Band) -> Tensor:
            h = t.decode_top(as_map(band.of(top_vectors, width), width), self.level)
            if known is not None:
                inside = band.crop(h, _RATIO)[0].permute(1, 2, 0)
                known[_RATIO * band.start : _RATIO * band.stop] = inside
            return t.bottom_latent(self._features(band), h, self.level)

        found = self._latent(channels, _RATIO, latent)
        self.known = None if known is None else known.permute(2, 0, 1)[None]
        return found


@torch.inference_mode()
def synthesise(
    transform: Transform,
    top: Vectors,
    bottom: Vectors,
    size: tuple[int, int],
    level: Tensor,
    finish: Callable[[Tensor], Tensor] | None = None,
) -> Pixels:
    """Code vectors of both maps to pixels (H, W, 3); `size` is (H, W).

    `finish` is done to images (1, 3, H, W) in [0, 1] at last, and looks less than 16 pixels around.
    """
    rows, columns = (-(-side // TOP_STRIDE) for side in size)
    pixels = np.empty((*size, 3), np.uint8)
    for band in bands(rows, columns, synthesis_halo(transform.config) + int(finish is not None)):
        h = decoded_top(transform, band, top, (rows, columns), level)
        vectors = as_map(band.of(bottom, columns * _RATIO**2), columns * _RATIO)
        image = transform.decode(vectors, h, level).clamp_(0, 1)
        if finish is not None:
            image = finish(image).clamp_(0, 1)
        image = band.crop(image, TOP_STRIDE)[0].mul(255).round_().to(torch.uint8)
        target = pixels[band.start * TOP_STRIDE : band.stop * TOP_STRIDE]
        target[:] = image.permute(1, 2, 0)[: len(target), : size[1]].numpy()
    return pixels
