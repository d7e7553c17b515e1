"""How much distortion a code unit makes: what the encoder weighs bits against.

The decoder is taken as linear around the codes.  A step of one unit in a latent changes the image
by a column of the decoder's Jacobian J, so the distortion is that column's squared norm; for random
signs u the gradient of `u . image` is J^T u, whose squares have just these norms as their means
(Hutchinson's estimator of a diagonal).  One pass back gives all channels of both maps.

What is structure for the eye weighs more than its squared error.  1 - MS-SSIM is, for small
errors, a weighted sum over scales of their local variance, divided by that of the picture: a
quadratic form, too, and estimated in the same way.  It shapes the weights of the bottom map's
channels: most of it is in low frequencies.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vqzip.model import Model
from vqzip.similarity import (
    SCALE_WEIGHTS,
    STABILIZERS,
    WINDOW,
    WINDOW_DEVIATION,
    window_mean,
)

LEAST = 1e-6
"""Of a channel that the decoder does not look at, for logarithms to exist."""


def random_signs(like: Tensor) -> Tensor:
    """As many of -1 and 1."""
    return torch.randint(0, 2, like.shape) * 2.0 - 1.0


def structure_functional(decoded: Tensor, original: Tensor) -> Tensor:
    """A random linear functional of images whose square is 1 - MS-SSIM of a change in the mean.

    Times the number of values in an image.  A local variance is the mean square of what a pixel of
    the window is off the window's mean: here it is that of one pixel, by the window's weights.
    """
    total = decoded.new_zeros(())
    values, half = decoded.numel(), WINDOW // 2
    for weight in SCALE_WEIGHTS:
        height, width = (side - 2 * half for side in decoded.shape[-2:])
        if min(height, width) < 1:
            break
        variance = window_mean(original.square()) - window_mean(original).square()
        importance = weight / (2 * variance.clamp_min(0) + STABILIZERS[1])
        importance = importance * (values / variance.numel())
        offset = (torch.randn(2) * WINDOW_DEVIATION).round().long().clamp(-half, half) + half
        y, x = offset.tolist()
        pixel = decoded[:, :, y : y + height, x : x + width]
        off = (pixel - window_mean(decoded)) * importance.sqrt()
        total = total + (off * random_signs(off)).sum()
        decoded, original = F.avg_pool2d(decoded, 2), F.avg_pool2d(original, 2)
    return total


def sensitivity(model: Model, top: Tensor, bottom: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Distortion of a squared code unit in each channel, (B, C) for both maps.

    top (B, C, H/16, W/16) and bottom (B, C, H/8, W/8) are code vectors, level (B,).  In nats: the
    rate-distortion loss has `lambda * 255^2 * MSE` in bits per pixel.
    """
    with torch.enable_grad():
        vectors, image = _decoded(model, top, bottom, level)
        slopes = torch.autograd.grad((image * random_signs(image)).sum(), vectors)
    nats = model.transform.config.lagrangian(level) * 255**2 / image.shape[1] * math.log(2)
    top_found, bottom_found = (nats[:, None] * s.square().mean((2, 3)) for s in slopes)
    return top_found.clamp_min(LEAST), bottom_found.clamp_min(LEAST)


def _decoded(
    model: Model, top: Tensor, bottom: Tensor, level: Tensor
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Code vectors that gradients are wanted of, and the image that they decode to."""
    t = model.transform
    vectors = top.detach().requires_grad_(), bottom.detach().requires_grad_()
    return vectors, t.decode(vectors[1], t.decode_top(vectors[0], level), level)


def structure_share(
    model: Model, top: Tensor, bottom: Tensor, level: Tensor, original: Tensor
) -> Tensor:
    """Logarithms (B, C) of 1 - MS-SSIM over mean squared error for errors in each bottom channel.

    Originals (B, 3, H, W) in [0, 1].  Smooth pictures have far larger ones than others, in all
    channels alike: means are to be taken of the logarithms.
    """
    with torch.enable_grad():
        (_, vectors), image = _decoded(model, top, bottom, level)
        (plain,) = torch.autograd.grad(
            (image * random_signs(image)).sum(), vectors, retain_graph=True
        )
        (shaped,) = torch.autograd.grad(structure_functional(image, original), vectors)
    squared, structural = (s.square().mean((2, 3)).clamp_min(LEAST) for s in (plain, shaped))
    return (structural / squared).log()


def emphasis(share: Tensor, structure: float, anchor: int) -> Tensor:
    """Factors (C,) on the weights of the bottom map, from means (C,) of `structure_share`.

    For the distortion `255^2 * MSE + structure * (1 - MS-SSIM)` instead of its first term alone;
    scaled to a geometric mean of one over the first `anchor` channels, those that most bits are
    for, so that rates stay about the same.
    """
    factor = 1 + structure / 255**2 * share.exp()
    return factor / factor[:anchor].log().mean().exp()
