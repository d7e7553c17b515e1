"""Visual masking: how much an error counts where it is.

Errors disappear in texture and are seen at once in smooth areas.  A weight falls with the local
variance of brightness as in the variance-adaptive quantization of video encoders, and as the
structural similarity of Wang et al. 2004 weighs squared errors.  It decides how codes are chosen;
decoders know nothing of it.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vqzip.vqvae import BOTTOM_STRIDE

EXPONENT = 0.2
"""Weights are the variance to the power of minus this."""
TYPICAL_VARIANCE = 0.002
"""Where an error has weight one; pixels are in [0, 1]."""
LEAST_VARIANCE = 1e-5


def error_weight(image: Tensor) -> Tensor:
    """Weights (B, 1, H/8, W/8) of squared errors at the bottom map's positions.

    Images (B, 3, H, W) in [0, 1], sides multiples of 8.  A position's window is 16 pixels wide.
    """
    brightness = image.mean(1, keepdim=True) - 0.5
    around = F.pad(brightness, (BOTTOM_STRIDE // 2,) * 4, mode="replicate")
    mean, square = (_means(x) for x in (around, around.square()))
    variance = square - mean.square()
    relative = variance.clamp_min(LEAST_VARIANCE) / TYPICAL_VARIANCE
    return relative.pow(-EXPONENT)


def _means(x: Tensor) -> Tensor:
    """Of windows 16 pixels wide, every 8: each pixel is seen once, and each square four times."""
    half = BOTTOM_STRIDE // 2
    return F.avg_pool2d(F.avg_pool2d(x, half), 2 * BOTTOM_STRIDE // half, BOTTOM_STRIDE // half)


def coarser(weight: Tensor) -> Tensor:
    """The same at the top map's positions, (B, 1, H/16, W/16)."""
    return F.avg_pool2d(weight, 2)
