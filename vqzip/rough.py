"""The decoder in bytes: what codes decode to, roughly, in two thirds of the time.

While encoding, the decoded picture is looked at, to find its filter and to see which way codes are
off.  For that it may be wrong by a little, a tenth of what codes leave over.  So the inputs and
weights of most layers are rounded to bytes (`rough.h`), which processors with AVX-512 VNNI multiply
four at a time.  Sums, and what is passed on from block to block, are floats.

Maps are (height, width, channels) here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vqzip.convolution import convolution, convolve
from vqzip.integer import Floats
from vqzip.layers import Bottleneck, Graded, Modulation, Overlapping, at_level
from vqzip.structures import Convolution
from vqzip.vqvae import BOTTOM_STRIDE, REFINE_STRIDE, Refine, Transform

_AROUND = (1, 1), (1, 1), (0, 0)  # a position more at each side
_RATIO = BOTTOM_STRIDE // REFINE_STRIDE


def _numbers(x: Tensor) -> Floats:
    found: Floats = x.detach().float().contiguous().numpy()
    return found


def _convolution(weight: Tensor, bias: Tensor, border: int = 0) -> Convolution:
    """Of weights (outputs, inputs, side, side)."""
    side = weight.shape[-1]
    taps = [(y, x) for y in range(side) for x in range(side)]
    kernel = weight.permute(0, 2, 3, 1).flatten(1, 2)
    return convolution(_numbers(kernel), _numbers(bias), taps, border)


def _graded(layer: Graded, level: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and bias at a level."""
    assert layer.bias is not None
    return layer.ends.at(layer.weight, level[0]), layer.bias


def _scaled(layer: tuple[Tensor, Tensor], scale: Tensor) -> tuple[Tensor, Tensor]:
    """The same of outputs times a scale of theirs."""
    weight, bias = layer
    return weight * scale[:, None, None, None], bias * scale


def _modulated(layer: Graded, modulation: Modulation, level: Tensor) -> tuple[Tensor, Tensor]:
    """The same of a layer and of the modulation after it."""
    if not modulation.levels:
        return _graded(layer, level)
    scale, offset = (at_level(x, level).flatten() for x in (modulation.scale, modulation.offset))
    weight, bias = _scaled(_graded(layer, level), 1 + scale)
    return weight, bias + offset


def _squares_first(weight: Tensor, bias: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Outputs that are to be shuffled to squares, (channels, side, side), channels last."""
    by_place = (
        x.reshape(-1, side * side, *x.shape[1:]).transpose(0, 1).flatten(0, 1)
        for x in (weight, bias)
    )
    return cast(tuple[Tensor, Tensor], tuple(by_place))


def _spread(x: Floats) -> Floats:
    """(h, w, 4 * channels), two by two places, to (2 * h, 2 * w, channels)."""
    height, width, channels = x.shape
    parts = x.reshape(height, width, 2, 2, channels // 4).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(parts).reshape(2 * height, 2 * width, -1)


class _Block:
    """A bottleneck."""

    def __init__(self, block: Bottleneck, level: Tensor) -> None:
        self.reduce = _convolution(*_modulated(block.reduce, block.modulation, level))
        self.mix = _convolution(*_graded(block.mix, level), border=1)
        self.expand = _convolution(*_graded(block.expand, level))

    def __call__(self, x: Floats) -> None:
        """Change a map."""
        y = convolve(self.reduce, x)
        y = convolve(self.mix, y, active=True)
        convolve(self.expand, y, active=True, to=x)


class _Refine:
    """The layers at stride 4."""

    def __init__(self, refine: Refine, level: Tensor) -> None:
        self.finer = _convolution(*_squares_first(*_graded(refine.finer, level), _RATIO))
        self.mix = _convolution(*_modulated(refine.mix, refine.modulation, level), border=1)
        self.residual = _convolution(*_graded(refine.residual, level), border=1)

    def __call__(self, features: Floats, squares: Floats) -> None:
        """Change squares of pixels."""
        fine = _spread(convolve(self.finer, features))
        y = convolve(self.mix, np.concatenate([squares, fine], 2))
        convolve(self.residual, y, active=True, to=squares)


class RoughDecoder:
    """A transform's decoder of the bottom map, at a level (1,).

    What is told most exactly of all, code vectors and colours, goes through its first layer and its
    synthesis as it is.
    """

    def __init__(self, transform: Transform, level: Tensor) -> None:
        t, config = transform, transform.config
        self.fine = config.bottom_latents - config.fine_latents
        scale = 1 + at_level(t.decoder_scale, level).flatten()
        weight, bias = _scaled(_graded(t.decoder_merge, level), scale)
        self.ungain = _numbers(at_level(t.bottom_ungain, level).exp().flatten())
        self.merge = weight.flatten(1), bias
        self.blocks = [_Block(cast(Bottleneck, block), level) for block in t.decoder]
        self.synthesis = self._synthesis(t.synthesis, level)
        self.refine = None if t.refine is None else _Refine(t.refine, level)

    @staticmethod
    def _synthesis(layer: Overlapping, level: Tensor) -> tuple[Tensor, Tensor]:
        """To squares of four by four pixels, two by two of them, as the next layers see them."""
        weight, bias = layer.kernel(layer.ends.at(layer.weight, level[0]))
        places = (3, _RATIO, REFINE_STRIDE, _RATIO, REFINE_STRIDE)
        weight, bias = (
            x.reshape(*places, -1).permute(1, 3, 0, 2, 4, 5).reshape(x.shape)
            for x in (weight, bias)
        )
        return weight.contiguous(memory_format=torch.channels_last), bias

    def __call__(self, vectors: Tensor, h: Tensor) -> Tensor:
        """Bottom code vectors and h, (1, C, H/8, W/8), to an image (3, H, W) in [0, 1]."""
        scaled = _numbers(vectors[0].permute(1, 2, 0)) * self.ungain
        known = _numbers(h[0].permute(1, 2, 0))
        x = _numbers(F.linear(torch.from_numpy(np.concatenate([scaled, known], 2)), *self.merge))
        for block in self.blocks:
            block(x)
        wide = np.pad(np.concatenate([x, scaled[:, :, self.fine :]], 2), _AROUND, "edge")
        blocks = F.conv2d(torch.from_numpy(wide).permute(2, 0, 1)[None], *self.synthesis)
        squares = _spread(_numbers(blocks[0].permute(1, 2, 0)))
        squares = np.ascontiguousarray(squares[1:-1, 1:-1])
        if self.refine is not None:
            self.refine(x, squares)
        height, width, _ = squares.shape
        image = torch.from_numpy(squares).view(height, width, 3, REFINE_STRIDE, REFINE_STRIDE)
        image = image.permute(2, 0, 3, 1, 4).reshape(3, REFINE_STRIDE * height, -1)
        return image.add_(0.5).clamp_(0, 1)


@lru_cache(maxsize=8)
def roughly(transform: Transform, position: float) -> RoughDecoder:
    """The decoder at a level."""
    return RoughDecoder(transform, torch.tensor([position]))
