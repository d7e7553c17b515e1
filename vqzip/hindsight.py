"""What codes leave of a picture, seen from what it decodes to.

The encoder chooses codes by their distance from latents.  But the decoder is not linear, and makes
one of the errors of many codes: what counts is the picture that it gives.  Here it is decoded, and
the gradient of its error by the code vectors tells where they should have been.  (Campos et al.
2019, "Content Adaptive Optimization for Neural Image Compression", follow that gradient with the
latents.)  The picture's own filter comes before, so that codes do not cost what it tells cheaply.

Only the encoder has it, at high efforts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vqzip.bands import (
    Band,
    Pixels,
    Vectors,
    as_map,
    bands,
    decoded_top,
    each_on_one_thread,
    synthesis_halo,
)
from vqzip.integer import Floats
from vqzip.similarity import WINDOW, ms_ssim
from vqzip.vqvae import BOTTOM_STRIDE, TOP_STRIDE, Transform

STRUCTURE = 100.0
"""Weight of 1 - MS-SSIM beside 255^2 * MSE, as in the last stages of training."""

SIZE = 2**11  # positions of the top map in a band: gradients take half a gigabyte for a megapixel
SIDE = 512  # about that of the parts of a picture that MS-SSIM compares

_RATIO = TOP_STRIDE // BOTTOM_STRIDE

Finish = Callable[[Tensor], Tensor]
"""What is done to a decoded image (1, 3, H, W) in [0, 1] at last."""


@dataclass(frozen=True)
class Hindsight:
    """A picture, and how much its errors count."""

    transform: Transform
    pixels: Pixels
    level: Tensor
    worth: float
    """Bits for a squared error of 1 in a pixel, colours summed up."""
    emphasis: Floats
    """(positions of the bottom map, 1): how much squared errors count there."""

    def __call__(
        self, top: Vectors, bottom: Vectors, finish: Finish | None
    ) -> tuple[float, Floats]:
        """The error that the code vectors of both maps leave, and its slope, as in `Found`."""
        rows, columns = (-(-side // TOP_STRIDE) for side in self.pixels.shape[:2])
        halo = synthesis_halo(self.transform.config) + int(finish is not None)

        def work(band: Band) -> tuple[float, Floats]:
            with torch.inference_mode(mode=False), torch.enable_grad():
                return self._band(band, columns, rows, top, bottom, finish)

        each = bands(rows, columns, halo, even=True, size=SIZE)
        positions = columns * _RATIO**2  # of the bottom map, for a row of the top map
        error, slope = 0.0, None
        for band, (left, part) in zip(each, each_on_one_thread(work, each), strict=True):
            if slope is None:
                slope = np.zeros((rows * positions, part.shape[1]), np.float32)
            error += left
            slope[band.first * positions : band.last * positions] += part
        assert slope is not None
        return error, slope

    def _band(
        self,
        band: Band,
        columns: int,
        rows: int,
        top: Vectors,
        bottom: Vectors,
        finish: Finish | None,
    ) -> tuple[float, Floats]:
        """The error of a band without its halo, and its slope with it."""
        with torch.no_grad():
            h = decoded_top(self.transform, band, top, (rows, columns), self.level)
        vectors = as_map(band.of(bottom, columns * _RATIO**2), columns * _RATIO).requires_grad_()
        image = self.transform.decode(vectors, h, self.level).clamp(0, 1)
        if finish is not None:
            image = finish(image).clamp(0, 1)
        original = self._original(band)
        height, width = original.shape[2:]
        image = band.crop(image, TOP_STRIDE)[:, :, :height, :width]
        weights = self._weights(band, columns)[:, :, :height, :width]
        error, by_pixel = self._error(image.detach(), original, weights)
        (slope,) = torch.autograd.grad(image, vectors, by_pixel)
        flat: Floats = slope[0].flatten(1).T.numpy()
        return error, flat

    def _original(self, band: Band) -> Tensor:
        part = self.pixels[band.start * TOP_STRIDE : band.stop * TOP_STRIDE]
        return torch.from_numpy(part.copy()).permute(2, 0, 1)[None].float().div_(255)

    def _weights(self, band: Band, columns: int) -> Tensor:
        part = slice(band.start * columns * _RATIO**2, band.stop * columns * _RATIO**2)
        weights = torch.from_numpy(self.emphasis[part]).view(1, 1, -1, columns * _RATIO)
        return F.interpolate(weights, scale_factor=BOTTOM_STRIDE)

    def _error(self, image: Tensor, original: Tensor, weights: Tensor) -> tuple[float, Tensor]:
        """The error of an image, and its slope by the pixels."""
        off = image - original
        error, slope = float((weights * off.square()).sum()), 2 * weights * off
        height, width = original.shape[2:]
        if min(height, width) >= WINDOW:
            for top, below in pairwise(_ends(height)):
                for left, right in pairwise(_ends(width)):
                    part = ..., slice(top, below), slice(left, right)
                    pixels = image[part].clone().requires_grad_()
                    share = STRUCTURE * 3 / 255**2 * (below - top) * (right - left)
                    unlike = share * (1 - ms_ssim(pixels, original[part])).sum()
                    slope[part] += torch.autograd.grad(unlike, pixels)[0]
                    error += float(unlike.detach())
        return self.worth * error, self.worth * slope


def _ends(length: int) -> list[int]:
    """Where parts of a side begin and end."""
    count = max(round(length / SIDE), 1)
    return [length * i // count for i in range(count + 1)]
