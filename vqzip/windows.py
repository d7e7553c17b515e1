"""Windows on a picture: parts of it that are decoded while encoding, to see how decoding does.

They are all of a picture that is not large, side by side, else small ones all over it: what holds
for all of a picture is told by many small windows far better than by few large ones.  As in
`bands.py`, they are computed with a halo, without which their borders would tell most of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vqzip import native
from vqzip.bands import Band, Pixels, Vectors, as_map, each_on_one_thread, synthesis_halo
from vqzip.least_squares import Statistics
from vqzip.rough import roughly
from vqzip.terms import REACH
from vqzip.vqvae import BOTTOM_STRIDE, TOP_STRIDE, Transform
from vqzip.wiener import Coefficients, FilterBank

LARGE = 2**14  # positions of the top map, four megapixels
PART = 2**11  # positions of a window of a smaller picture
DRAWN = 2**16  # pixels that a filter is found from, about
SIDE = 8  # rows and columns of the top map in a window of a large picture
MOST = 6  # of these above each other, and side by side

_RATIO = TOP_STRIDE // BOTTOM_STRIDE


@dataclass(frozen=True)
class Window:
    """Rows and columns of the top map."""

    rows: Band
    columns: Band

    @property
    def pixels(self) -> int:
        """Without the halo."""
        rows, columns = (TOP_STRIDE * (band.stop - band.start) for band in self._sides())
        return rows * columns

    def places(self, scale: int, columns: int) -> NDArray[np.int64]:
        """Its positions, halo included, in a map `scale` times as fine as one of `columns`."""
        y, x = (scale * b.first + np.arange(scale * (b.last - b.first)) for b in self._sides())
        return (y[:, None] * scale * columns + x).ravel()

    def synthesise(
        self,
        transform: Transform,
        top: Vectors,
        bottom: Vectors,
        columns: int,
        level: Tensor,
        known: Tensor | None = None,
    ) -> Tensor:
        """Code vectors of both maps to its image (3, H, W) in [0, 1], halo included.

        Roughly, where that is faster.  `known` is what is known of the whole top map, if that is.
        """
        width = self.columns.last - self.columns.first
        fine = as_map(bottom(self.places(_RATIO, columns)), width * _RATIO)
        if known is None:
            h = transform.decode_top(as_map(top(self.places(1, columns)), width), level)
        else:
            y, x = (slice(_RATIO * b.first, _RATIO * b.last) for b in self._sides())
            h = known[:, :, y, x]
        if native.products_of_bytes():
            return roughly(transform, float(level))(fine, h)
        return transform.decode(fine, h, level).clamp_(0, 1)[0]

    def compared(self, image: Tensor, pixels: Pixels, reach: int) -> tuple[Tensor, Tensor]:
        """What to compare of its image, and the same of the picture (H, W, 3): images (3, h, w).

        The window and `reach` pixels around it, but nothing beyond the picture.
        """
        ranges = [
            (max(b.start * TOP_STRIDE - reach, 0), min(b.stop * TOP_STRIDE + reach, size))
            for b, size in zip(self._sides(), pixels.shape, strict=False)
        ]
        y, x = (slice(*each) for each in ranges)
        original = torch.from_numpy(pixels[y, x].copy()).permute(2, 0, 1).float().div_(255)
        starts = (
            start - b.first * TOP_STRIDE
            for (start, _), b in zip(ranges, self._sides(), strict=True)
        )
        top, left = starts
        return image[:, top:, left:][:, : original.shape[1], : original.shape[2]], original

    def _sides(self) -> tuple[Band, Band]:
        return self.rows, self.columns


def windows(rows: int, columns: int, transform: Transform) -> list[Window]:
    """The windows of a picture whose top map has so many rows and columns."""
    halo = synthesis_halo(transform.config)
    if rows * columns <= LARGE:
        longer = max(rows, columns)
        count = min(2 * -(-rows * columns // (2 * PART)), longer)  # for two threads
        parts = list(pairwise(longer * i // count for i in range(count + 1)))
        sides = (parts, [(0, columns)]) if rows >= columns else ([(0, rows)], parts)
    else:
        sides = _along(rows), _along(columns)
    y, x = (
        [Band(start, stop, max(start - halo, 0), min(stop + halo, size)) for start, stop in ends]
        for ends, size in zip(sides, (rows, columns), strict=True)
    )
    return [Window(r, c) for r in y for c in x]


def _along(length: int) -> list[tuple[int, int]]:
    """Where windows begin and end along a side of a large picture."""
    count = min(max(length // SIDE, 1), MOST)
    middles = [(2 * i + 1) * length // (2 * count) for i in range(count)]
    return [(max(middle - SIDE // 2, 0), min(middle + SIDE // 2, length)) for middle in middles]


@dataclass(frozen=True)
class Seen:
    """A window and `REACH` pixels around it, where there are so many, as images (3, h, w).

    Attributes:
        window: Which it is.
        image: What it decodes to.
        original: The same of the picture.
        statistics: What a filter is found from.
    """

    window: Window
    image: Tensor
    original: Tensor
    statistics: Statistics


def see(
    pixels: Pixels,
    transform: Transform,
    top: Vectors,
    bottom: Vectors,
    level: Tensor,
    known: Tensor | None = None,
) -> list[Seen]:
    """Windows of a picture (H, W, 3), decoded from code vectors of both maps.

    `known` is what is known of the top map, (1, 192, H/8, W/8), if it has been decoded.
    """
    rows, columns = (-(-side // TOP_STRIDE) for side in pixels.shape[:2])
    if native.products_of_bytes():
        roughly(transform, float(level))  # once for all threads
    every = windows(rows, columns, transform)
    share = DRAWN / sum(window.pixels for window in every)

    def seen(window: Window) -> Seen:
        image = window.synthesise(transform, top, bottom, columns, level, known)
        pair = window.compared(image, pixels, REACH)
        return Seen(window, *pair, Statistics.of(*pair, share))

    return each_on_one_thread(seen, every)


def find_filter(
    bank: FilterBank, every: list[Seen], position: int, bits: float
) -> tuple[Coefficients | None, list[Tensor]]:
    """The filter that is best for a picture, None if that is none, and the images with it.

    `position` is that of the quality scale, `bits` what a squared error of 1 in each of the
    picture's pixels is worth, colours summed up.
    """
    images = [seen.image for seen in every]
    filter_ = bank.fit(Statistics.joined([seen.statistics for seen in every]), position, bits)
    if filter_ is None:
        return None, images
    chosen = filter_

    def ended(seen: Seen) -> tuple[Tensor, float]:
        """The filtered image, and by how much it is better."""
        image = bank.filtered(seen.image[None], chosen, position)[0].clamp_(0, 1)
        before, after = (float((x - seen.original).square_().sum()) for x in (seen.image, image))
        return image, before - after

    filtered, gains = zip(*each_on_one_thread(ended, every), strict=True)
    if sum(gains) < 0:
        # Where the decoder fails, as for a chessboard of few pixels, filters are so strong that
        # they do harm where they were not looked at.
        return None, images
    return filter_, list(filtered)
