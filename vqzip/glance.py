"""A first look at the picture that codes give: its filter, and where the codes should have been.

The decoder is close to linear: what a unit more in a channel does to the picture is much the same
wherever it is.  These kernels are found by decoding single units, and what is off in a decoded
picture, seen through them, tells which way codes were off (`aim.py` says what becomes of it).
For a first look that is as good as the decoder's own gradient (`hindsight.py`), and it takes next
to no time.

Only the encoder has it; of pictures that `windows.py` has all of.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vqzip.aim import Found
from vqzip.bands import Pixels, Vectors, each_on_one_thread
from vqzip.integer import Floats
from vqzip.terms import REACH
from vqzip.vqvae import BOTTOM_STRIDE, TOP_STRIDE, Transform
from vqzip.wiener import FilterBank
from vqzip.windows import Seen, Window, find_filter, see

UNIT = 2.0
"""What kernels are found with, in code units: about as much as codes are off at low rates."""

BLOCKS = 3
"""Width of kernels, in positions of the bottom map: further away there is next to nothing."""

BEYOND = BLOCKS // 2
"""Positions that kernels look beyond their own."""

_RATIO = TOP_STRIDE // BOTTOM_STRIDE


@lru_cache(maxsize=8)
@torch.inference_mode()
def kernels(transform: Transform, position: float, channels: int) -> Tensor:
    """What a unit more does, (channels, 3, 24, 24), of the first channels of the bottom map.

    `position` is the level, in an otherwise grey picture.
    """
    top = (BLOCKS + 1) // _RATIO

    def of(some: slice) -> Tensor:
        count = some.stop - some.start
        level = torch.full((count + 1,), position)
        h = transform.decode_top(
            torch.zeros(count + 1, transform.config.top_latents, top, top), level
        )
        vectors = torch.zeros(count + 1, transform.config.bottom_latents, BLOCKS, BLOCKS)
        vectors[range(count), range(some.start, some.stop), BEYOND, BEYOND] = UNIT
        images = transform.decode(vectors, h[:, :, :BLOCKS, :BLOCKS], level)
        return (images[:-1] - images[-1:]) / UNIT

    middle = channels // 2
    return torch.cat(each_on_one_thread(of, [slice(0, middle), slice(middle, channels)]))


@dataclass(frozen=True)
class Glance:
    """A picture (H, W, 3), and how much its errors count.

    Attributes:
        transform: The model's.
        bank: The model's filters.
        pixels: Of the picture.
        level: On the quality scale, as a tensor (1,) for the transform and as it is.
        position: The same as a whole number.
        worth: Bits for a squared error of 1 in a pixel, colours summed up.
        emphasis: How much squared errors count at positions of the bottom map (positions, 1).
        channels: Of the bottom map, those that are coded.
        known: What is known of the top map, (1, 192, H/8, W/8), if it has been decoded.
    """

    transform: Transform
    bank: FilterBank
    pixels: Pixels
    level: Tensor
    position: int
    worth: float
    emphasis: Floats
    channels: int
    known: Tensor | None = None

    def __call__(self, top: Vectors, bottom: Vectors) -> Found:
        """What code vectors of both maps leave, structure apart."""
        rows, columns = (-(-side // TOP_STRIDE) for side in self.pixels.shape[:2])
        response = kernels(self.transform, float(self.level), self.channels)
        every = see(self.pixels, self.transform, top, bottom, self.level, self.known)
        bits = self.worth * self.pixels.shape[0] * self.pixels.shape[1]
        filter_, images = find_filter(self.bank, every, self.position, bits)

        def looked_at(each: tuple[Seen, Tensor]) -> tuple[float, Tensor]:
            seen, image = each
            return self._part(seen.window, image - seen.original, columns, response)

        parts = each_on_one_thread(looked_at, list(zip(every, images, strict=True)))
        height, width = (_RATIO * side + 2 * BEYOND for side in (rows, columns))
        slope = torch.zeros(height, width, self.channels)
        for seen, (_, part) in zip(every, parts, strict=True):
            y, x = _RATIO * seen.window.rows.start, _RATIO * seen.window.columns.start
            slope[y : y + part.shape[0], x : x + part.shape[1]] += part
        inside = slope[BEYOND:-BEYOND, BEYOND:-BEYOND].reshape(-1, self.channels)
        return Found(sum(error for error, _ in parts), inside.numpy(), filter_)

    def _part(
        self, window: Window, off: Tensor, columns: int, response: Tensor
    ) -> tuple[float, Tensor]:
        """The error of a window, and its slope by positions, those around, too, (h', w', channels).

        `off` is what is off (3, h, w), in `REACH` pixels around it, too, where there are so many.
        """
        top, left = (REACH if band.start else 0 for band in (window.rows, window.columns))
        rows, width = (
            slice(_RATIO * band.start, _RATIO * band.stop) for band in (window.rows, window.columns)
        )
        emphasis = self.emphasis.reshape(-1, _RATIO * columns)[rows, width]
        weights = self.worth * torch.from_numpy(np.ascontiguousarray(emphasis))
        height, length = (BOTTOM_STRIDE * size for size in weights.shape)
        off = off[:, top:, left:][:, :height, :length]
        margin = 2 * BEYOND * BOTTOM_STRIDE
        right, below = length - off.shape[2] + margin, height - off.shape[1] + margin
        padded = F.pad(off, (margin, right, margin, below))
        # As a 3x3 convolution of blocks it takes a third of the time.
        blocks, kernel = (F.pixel_unshuffle(x, BOTTOM_STRIDE) for x in (padded[None], response))
        weighed = blocks * F.pad(weights, (2 * BEYOND,) * 4)
        error = float((blocks * weighed).sum())
        weighed, kernel = (
            x.contiguous(memory_format=torch.channels_last) for x in (2 * weighed, kernel)
        )
        return error, F.conv2d(weighed, kernel)[0].permute(1, 2, 0)
