"""Layers that the transform is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_Layer = TypeVar("_Layer", bound=nn.Conv2d)


def at_level(table: Tensor, level: Tensor) -> Tensor:
    """Rows of a per-level table (levels, channels) at fractional `level` (batch,), interpolated.

    Returns (batch, channels, 1, 1).
    """
    low = level.floor().clamp(0, len(table) - 2).long()
    rows = torch.lerp(table[low], table[low + 1], (level - low)[:, None])
    return rows[:, :, None, None]


class Modulation(nn.Module):
    """Scales and offsets of channels, for each level (Perez et al. 2018, "FiLM"); starts as none.

    One network for all rates is worse at each than one for it alone: a decoder of low rates has
    much to smooth, one of high rates next to nothing.
    """

    def __init__(self, levels: int, channels: int) -> None:
        """With no levels, all stays as it is."""
        super().__init__()
        self.levels = levels
        if levels:
            self.scale = nn.Parameter(torch.zeros(levels, channels))
            self.offset = nn.Parameter(torch.zeros(levels, channels))

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """Any map (B, channels, H, W) to one of the same shape, at levels (B,)."""
        if not self.levels:
            return x
        return x * (1 + at_level(self.scale, level)) + at_level(self.offset, level)


class Ends(nn.Module):
    """What a layer's weights have more at the lowest level, and at the highest; starts as nothing.

    Between the middle and an end of the levels' range it is a share of that.  So the weights of
    three networks make that of any level, which has no more to multiply than one for all levels.
    """

    def __init__(self, weight: Tensor, levels: int) -> None:
        """With no levels, all stays as it is."""
        super().__init__()
        self.middle = (levels - 1) / 2
        self.levels = levels
        if levels:
            self.low = nn.Parameter(torch.zeros_like(weight))
            self.high = nn.Parameter(torch.zeros_like(weight))

    def at(self, weight: Tensor, level: Tensor) -> Tensor:
        """The weights at a level, a scalar, `weight` being those in the middle."""
        if not self.levels:
            return weight
        above = float(level) / self.middle - 1
        return torch.add(weight, self.high if above > 0 else self.low, alpha=abs(above))

    def each(
        self,
        layer: Callable[[Tensor, Tensor], Tensor],
        x: Tensor,
        weight: Tensor,
        level: Tensor,
    ) -> Tensor:
        """Samples (B, ...) through `layer`, which is given weights, at levels (B,)."""
        if not self.levels or (level == level[0]).all():
            return layer(x, self.at(weight, level[0]))
        samples = zip(torch.split(x, 1), level, strict=True)
        return torch.cat([layer(sample, self.at(weight, one)) for sample, one in samples])


class Graded(nn.Conv2d):
    """A convolution whose weights depend on the level, if there are levels."""

    def __init__(self, inputs: int, outputs: int, size: int, levels: int = 0) -> None:
        super().__init__(inputs, outputs, size, padding=size // 2)
        self.ends = Ends(self.weight, levels)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:  # type: ignore[override]
        """(B, inputs, H, W) to (B, outputs, H, W), at levels (B,)."""

        def layer(x: Tensor, weight: Tensor) -> Tensor:
            return F.conv2d(x, weight, self.bias, padding=self.padding)

        return self.ends.each(layer, x, self.weight, level)


class Bottleneck(nn.Module):
    """Residual 1x1 - 3x3 - 1x1 block; starts near the identity."""

    def __init__(self, width: int, levels: int = 0, graded: int = 0) -> None:
        """`levels` are those that it is modulated for, if any, `graded` those of its weights."""
        super().__init__()
        self.reduce = Graded(width, width // 2, 1, graded)
        self.modulation = Modulation(levels, width // 2)
        self.mix = Graded(width // 2, width // 2, 3, graded)
        self.expand = Graded(width // 2, width, 1, graded)
        with torch.no_grad():
            self.expand.weight.mul_(0.1)
            assert self.expand.bias is not None
            nn.init.zeros_(self.expand.bias)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """Any map (B, width, H, W) to one of the same shape, at levels (B,)."""
        y = self.modulation(self.reduce(x, level), level)
        change: Tensor = self.expand(F.silu(self.mix(F.silu(y), level)), level)
        return x + change


class Blocks(nn.ModuleList):
    """Bottlenecks one after the other; in training in bfloat16 if `mixed_precision` is set."""

    mixed_precision = False

    def __init__(self, width: int, count: int, levels: int = 0, graded: int = 0) -> None:
        super().__init__(Bottleneck(width, levels, graded) for _ in range(count))

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """Any map (B, width, H, W) to one of the same shape, at levels (B,)."""
        mixed = self.mixed_precision and self.training
        with torch.autocast(x.device.type, torch.bfloat16, enabled=mixed):
            for block in self:
                x = block(x, level)
        return x.float()


class Overlapping(nn.ConvTranspose2d):
    """A transposed convolution with a kernel twice as wide as its stride, several times as fast.

    As each pixel comes from two by two positions, it is a 2x2 convolution to the pixels of a block.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, levels: int = 0) -> None:
        super().__init__(inputs, outputs, 2 * stride, stride)
        self.block = stride
        self.ends = Ends(self.weight, levels)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:  # type: ignore[override]
        """(B, inputs, H, W) to (B, outputs, (H + 1) * stride, (W + 1) * stride), at levels (B,)."""
        return self.ends.each(self._convolve, x, self.weight, level)

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.pixel_shuffle(F.conv2d(x, *self.kernel(weight), padding=1), self.block)

    def kernel(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """A 2x2 kernel to blocks (outputs * stride * stride, inputs, 2, 2), and its bias."""
        assert self.bias is not None
        inputs, outputs, s = self.in_channels, self.out_channels, self.block
        # From (i, o, half, y, half, x); the second half of a kernel is that of the position before.
        halves = weight.reshape(inputs, outputs, 2, s, 2, s).flip(2, 4)
        kernel = halves.permute(1, 3, 5, 0, 2, 4).reshape(outputs * s * s, inputs, 2, 2)
        return kernel, self.bias.repeat_interleave(s * s)


def near_zero(inputs: int, outputs: int, size: int = 1) -> nn.Conv2d:
    """A convolution (its kernel as wide as its stride) that starts small, for structure on top."""
    return started_small(nn.Conv2d(inputs, outputs, size, size))


def started_small(conv: _Layer) -> _Layer:
    """The same, which starts small."""
    with torch.no_grad():
        conv.weight.mul_(0.1)
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
    return conv


def train_last(layer: nn.Conv2d, outputs: int) -> None:
    """Have gradients reach the last outputs of a layer alone."""

    def masked(gradient: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(gradient[:-outputs]), gradient[-outputs:]])

    for weight in layer.parameters():
        weight.requires_grad_(True)
        weight.register_hook(masked)  # type: ignore[no-untyped-call]
