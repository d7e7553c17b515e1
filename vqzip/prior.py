"""The PixelCNN prior: the distribution of each code given the codes already decoded.

A masked convolution over code vectors (van den Oord et al. 2016), masked residual layers, then a
chain of slices within a position: the channels of a slice are conditional on the slices before it.
The bottom map's prior is conditional on the top map, too (VQ-VAE-2, section 3.2).

Masks reach at most one column right per row up, so that all positions with the same `x + 2 y` are
independent of each other and can be decoded together.

This module is what is trained, in floating point.  `integer.py` is what codes: the same network in
integers, bit-identical on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqzip.layers import at_level

ACTIVATION_MAX = 6.0
"""Hidden activations are clamped to [0, ACTIVATION_MAX]."""

ACTIVATION_LEVELS = 240
"""Integers that an activation of ACTIVATION_MAX corresponds to; fits uint8."""

INPUT_LEVELS = 24
"""Integers to a channel's standard deviation in the network's input."""

INPUT_MAX = 127
WEIGHT_MAX = 127

FEATURES = 4
"""Numbers the network gives for a channel: mean, log scale, and two that shape the tails."""


@dataclass(frozen=True)
class PixelCNNConfig:
    """Shape of one level's prior."""

    channels: int = 64
    slices: tuple[int, ...] = (2, 4, 8, 14, 16, 20)
    width: int = 128
    layers: int = 3
    slice_width: int = 48
    condition: int = 0
    levels: int = 9


class CausalConv(nn.Conv2d):
    """Convolution over rows up to the current one; `inclusive` also sees the current position.

    A kernel of (radius + 1, 2 radius + 1) taps: dense convolutions of the rows above and the
    current row, masked so that row -k is seen up to column +k.
    """

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, radius: int, inclusive: bool) -> None:
        super().__init__(inputs, outputs, (radius + 1, 2 * radius + 1))
        self.radius = radius
        mask = torch.zeros(radius + 1, 2 * radius + 1)
        for up in range(1, radius + 1):
            mask[radius - up, : radius + up + 1] = 1
        mask[radius, : radius + int(inclusive)] = 1
        self.register_buffer("mask", mask, persistent=False)

    def pad(self, x: Tensor) -> Tensor:
        """Zeros where the kernel reaches beyond the map."""
        return F.pad(x, (self.radius, self.radius, self.radius, 0))


def round_through(x: Tensor) -> Tensor:
    """Rounding whose gradient is the identity (straight-through estimator)."""
    return x + (x.round() - x).detach()


class Arithmetic:
    """The prior's arithmetic: plain floating point, or rounded as the integer network rounds.

    The second trains the network for its integer form (quantization-aware training, Jacob et al.
    2018): int8 weights with a scale for each output, uint8 activations.
    """

    def __init__(self) -> None:
        self.integer = False
        self.mixed_precision = False
        """Products in bfloat16, to train faster; errors are smaller than those of int8."""

    def conv(
        self, layer: nn.Conv2d, x: Tensor, mask: Tensor | None = None, precise: bool = False
    ) -> Tensor:
        """`layer` on `x`, its weight masked; `precise` is never in bfloat16."""
        weight = layer.weight if mask is None else layer.weight * mask
        if self.integer:
            step = weight.detach().abs().amax((1, 2, 3), keepdim=True) / WEIGHT_MAX + 1e-12
            weight = round_through(weight / step) * step
        if isinstance(layer, CausalConv):
            x = layer.pad(x)
        if not self.mixed_precision or precise:
            return F.conv2d(x, weight, layer.bias, padding=layer.padding)
        with torch.autocast(x.device.type, torch.bfloat16):
            return F.conv2d(x, weight, layer.bias, padding=layer.padding).float()

    def activation(self, x: Tensor) -> Tensor:
        """The prior's nonlinearity, max(0, min(x, ACTIVATION_MAX))."""
        x = x.clamp(0.0, ACTIVATION_MAX)
        if self.integer:
            step = ACTIVATION_MAX / ACTIVATION_LEVELS
            x = round_through(x / step) * step
        return x

    def input(self, x: Tensor) -> Tensor:
        """Normalized code vectors as the network sees them."""
        if self.integer:
            scaled = (x * INPUT_LEVELS).clamp(-INPUT_MAX, INPUT_MAX)
            x = round_through(scaled) / INPUT_LEVELS
        return x


class PixelCNN(nn.Module):
    """Prior of one code map.

    Sees code vectors divided by the level's gain and the channel's scale, so that its input looks
    alike at all levels; gives the mean in code units by the same factor.
    """

    slice_mask: Tensor
    scale: Tensor

    def __init__(self, config: PixelCNNConfig, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.arithmetic = arithmetic
        if sum(config.slices) != config.channels:
            raise ValueError("slices must cover the channels")
        self.config = config
        width, hidden = config.width, config.slice_width * len(config.slices)
        self.context = CausalConv(config.channels, width, 2, inclusive=False)
        self.condition = nn.Conv2d(config.condition, width, 1) if config.condition else None
        self.level_embedding = nn.Parameter(torch.zeros(config.levels, width))
        spatial = [CausalConv(width, width, 1, inclusive=True) for _ in range(config.layers)]
        pointwise = [nn.Conv2d(width, width, 1) for _ in range(config.layers)]
        self.spatial, self.pointwise = nn.ModuleList(spatial), nn.ModuleList(pointwise)
        self.to_slices = nn.Conv2d(width, hidden, 1)
        self.from_previous = nn.Conv2d(config.channels, hidden, 1, bias=False)
        heads = [nn.Conv2d(config.slice_width, FEATURES * size, 1) for size in config.slices]
        self.heads = nn.ModuleList(heads)
        mask = torch.zeros(hidden, config.channels, 1, 1)
        start = 0
        for index, size in enumerate(config.slices):
            mask[index * config.slice_width : (index + 1) * config.slice_width, :start] = 1
            start += size
        self.register_buffer("slice_mask", mask, persistent=False)
        self.register_buffer("scale", torch.ones(config.channels))
        self.log_scale = nn.Parameter(torch.zeros(config.levels, config.channels))
        with torch.no_grad():
            for layer in pointwise:
                layer.weight.mul_(0.3)
            for head in heads:
                head.weight.mul_(0.1)
                assert head.bias is not None
                nn.init.zeros_(head.bias)

    def layers(self) -> list[tuple[CausalConv, nn.Conv2d]]:
        """The residual layers: a masked convolution and a 1x1 each."""
        pairs = zip(self.spatial, self.pointwise, strict=True)
        return [(cast(CausalConv, a), cast(nn.Conv2d, b)) for a, b in pairs]

    def head_layers(self) -> list[nn.Conv2d]:
        """One head for each slice."""
        return [cast(nn.Conv2d, head) for head in self.heads]

    def forward(
        self, vectors: Tensor, gain: Tensor, level: Tensor, condition: Tensor | None = None
    ) -> Tensor:
        """Natural description of every channel's distribution.

        vectors (B, C, H, W) in code units, gain (B, C, 1, 1) the level's gain, condition
        (B, config.condition, H, W).  Returns (B, C, FEATURES, H, W): mean (code units), log of the
        standard deviation, and two tail weights.
        """
        conv, activation = self.arithmetic.conv, self.arithmetic.activation
        unit = gain * self.scale[:, None, None]
        x = self.arithmetic.input(vectors / unit)
        f = conv(self.context, x, self.context.mask) + at_level(self.level_embedding, level)
        if self.condition is not None:
            assert condition is not None
            f = f + conv(self.condition, condition)
        for spatial, pointwise in self.layers():
            f = f + conv(pointwise, activation(conv(spatial, activation(f), spatial.mask)))
        previous = conv(self.from_previous, x, self.slice_mask)
        u = activation(conv(self.to_slices, activation(f)) + previous)
        parts = torch.split(u, self.config.slice_width, 1)
        heads = zip(self.head_layers(), parts, strict=True)
        out = torch.cat([conv(head, part, precise=True) for head, part in heads], 1)
        b, _, h, w = out.shape
        out = out.view(b, self.config.channels, FEATURES, h, w)
        mean, log_scale, *tails = out.unbind(2)
        log_scale = log_scale + at_level(self.log_scale, level)
        return torch.stack([mean * unit, log_scale, *tails], 2)


@dataclass(frozen=True)
class PriorConfig:
    """Shape of the priors of both maps and of what lifts the top codes to the bottom map."""

    top: PixelCNNConfig = PixelCNNConfig(
        slices=(1, 4, 11, 16, 32), width=96, layers=2, slice_width=32
    )
    bottom: PixelCNNConfig = PixelCNNConfig(condition=96)
    lift_width: int = 96


class Prior(nn.Module):
    """Both levels' PixelCNNs; the bottom one's condition comes from the top codes alone."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        self.arithmetic = Arithmetic()
        self.top = PixelCNN(config.top, self.arithmetic)
        self.bottom = PixelCNN(config.bottom, self.arithmetic)
        width = config.lift_width
        self.lift_in = nn.Conv2d(config.top.channels, width, 3, padding=1)
        self.lift_mix = nn.Conv2d(width, width, 3, padding=1)
        self.lift_out = nn.Conv2d(width, 4 * config.bottom.condition, 1)

    def lift(self, top_vectors: Tensor, gain: Tensor) -> Tensor:
        """Top code vectors (B, C, H/16, W/16) to the condition (B, condition, H/8, W/8)."""
        conv, activation = self.arithmetic.conv, self.arithmetic.activation
        x = self.arithmetic.input(top_vectors / (gain * self.top.scale[:, None, None]))
        x = activation(conv(self.lift_in, x))
        x = activation(conv(self.lift_mix, x))
        return activation(F.pixel_shuffle(conv(self.lift_out, x), 2))
