"""Pixels to latents and codes to pixels, in bands of rows, so that memory does not grow with area.

A band is computed with a halo as wide as the networks' reach, which is cut off afterwards: the
result is that of the whole picture at once.  Rows are those of the top map, 16 pixels each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vqzip.integer import Floats
from vqzip.vqvae import BOTTOM_STRIDE, TOP_STRIDE, Transform, TransformConfig

Pixels = NDArray[np.uint8]

BAND = 2**14  # positions of the top map in a band; about half a gigabyte
FEWEST_ROWS = 32  # of a band, for the halo not to be most of it
KEPT = 2**17  # positions of the top map whose features are kept from one pass to the next
_RATIO = TOP_STRIDE // BOTTOM_STRIDE


@dataclass(frozen=True)
class Band:
    """Rows `start` to `stop`, and with their halo `first` to `last`."""

    start: int
    stop: int
    first: int
    last: int

    def crop(self, x: Tensor, scale: int = 1) -> Tensor:
        """The rows without halo of a map (B, C, H, W) with `scale` rows for each."""
        return x[:, :, (self.start - self.first) * scale : (self.stop - self.first) * scale]


def bands(rows: int, columns: int, halo: int) -> Iterator[Band]:
    """Bands that cover a top map of that many rows and columns."""
    height = max(BAND // columns, FEWEST_ROWS, 1)
    for start in range(0, rows, height):
        stop = min(start + height, rows)
        yield Band(start, stop, max(start - halo, 0), min(stop + halo, rows))


def _rows(reach: int) -> int:
    """Rows of the top map that cover a reach in positions of the bottom map."""
    return -(-reach // _RATIO) + 1


def analysis_halo(config: TransformConfig) -> int:
    """Rows beyond a band that its latents depend on."""
    lapped = 1
    top = config.encoder_blocks + _RATIO * config.top_blocks
    bottom = max(config.encoder_blocks, _RATIO * config.top_blocks) + config.bottom_blocks
    return _rows(lapped + max(top, bottom))


def synthesis_halo(config: TransformConfig) -> int:
    """Rows beyond a band that its pixels depend on."""
    lapped, refine = 1, int(config.refine_width > 0)
    return _rows(lapped + refine + config.decoder_blocks + _RATIO * config.top_blocks)


def _as_rows(latent: Tensor) -> Floats:
    """(1, C, H, W) to (H * W, C)."""
    rows: Floats = latent[0].flatten(1).T.contiguous().numpy()
    return rows


def _as_map(vectors: Floats, width: int) -> Tensor:
    """(H * width, C) to (1, C, H, width)."""
    return torch.from_numpy(vectors.T.reshape(1, vectors.shape[1], -1, width))


class Analysis:
    """A picture on its way to latents, in two passes: the bottom latent depends on the top codes.

    Pixels are (H, W, 3), 0 to 255; `level` is a tensor (1,).
    """

    def __init__(self, transform: Transform, pixels: Pixels, level: Tensor) -> None:
        self.transform, self.pixels, self.level = transform, pixels, level
        height, width, _ = pixels.shape
        self.shape = -(-height // TOP_STRIDE), -(-width // TOP_STRIDE)
        self.bands = list(bands(*self.shape, analysis_halo(transform.config)))
        self._kept: dict[int, Tensor] = {}

    def _features(self, index: int) -> Tensor:
        if index in self._kept:
            return self._kept.pop(index)
        band = self.bands[index]
        height, width, _ = self.pixels.shape
        # Beyond the edges the last pixels are repeated.
        y = np.minimum(np.arange(band.first * TOP_STRIDE, band.last * TOP_STRIDE), height - 1)
        x = np.minimum(np.arange(self.shape[1] * TOP_STRIDE), width - 1)
        part = torch.from_numpy(self.pixels[y][:, x])
        image = part.permute(2, 0, 1)[None].float() / 255
        features = self.transform.features(image, self.level)
        if self.shape[0] * self.shape[1] <= KEPT:
            self._kept[index] = features
        return features

    def top_latent(self) -> Floats:
        """The whole top latent (positions, channels) in code units."""
        parts = []
        for index, band in enumerate(self.bands):
            latent = self.transform.top_latent(self._features(index), self.level)
            parts.append(_as_rows(band.crop(latent)))
        return np.concatenate(parts)

    def bottom_latent(self, top_vectors: Floats) -> Floats:
        """The whole bottom latent (positions, channels), given code vectors (positions, channels).

        In code units, both.
        """
        t, width = self.transform, self.shape[1]
        parts = []
        for index, band in enumerate(self.bands):
            vectors = _as_map(top_vectors[band.first * width : band.last * width], width)
            h = t.decode_top(vectors, self.level)
            latent = t.bottom_latent(self._features(index), h, self.level)
            parts.append(_as_rows(band.crop(latent, _RATIO)))
        return np.concatenate(parts)


def synthesise(
    transform: Transform,
    top_vectors: Floats,
    bottom_vectors: Floats,
    size: tuple[int, int],
    level: Tensor,
) -> Pixels:
    """Code vectors (positions, channels) of both maps to pixels (H, W, 3); `size` is (H, W)."""
    rows, columns = (-(-side // TOP_STRIDE) for side in size)
    pixels = np.empty((*size, 3), np.uint8)
    for band in bands(rows, columns, synthesis_halo(transform.config)):
        top = _as_map(top_vectors[band.first * columns : band.last * columns], columns)
        around = slice(band.first * columns * _RATIO**2, band.last * columns * _RATIO**2)
        bottom = _as_map(bottom_vectors[around], columns * _RATIO)
        image = transform.decode(bottom, transform.decode_top(top, level), level)
        image = band.crop(image, TOP_STRIDE)[0].clamp(0, 1).mul(255).round().to(torch.uint8)
        target = pixels[band.start * TOP_STRIDE : band.stop * TOP_STRIDE]
        target[:] = image.permute(1, 2, 0)[: len(target), : size[1]].numpy()
    return pixels
