"""The bottom map's encoder on codes as files have them: what draws latents, and how far.

The decoder's gradient at the codes moves latents (`quantize.py`), and the curvature of the
distortion times the distance to the codes holds them: together they are the gradient at the latent.
Weights of the choice are no measure of that curvature, as they are calibrated for what a code tells
of others (`calibrate.py`).  It differs from place to place, far more than from channel to channel,
and its mean over pictures is that of smooth ones: too much where it is busy, and latents shrink.

Nothing holds the spread of a channel's latents.  The decoder makes up for a part of what
quantization takes away, so the two terms do not cancel quite where they should, and in a few
thousand steps latents grow out of their codebooks, or into zero.  Codebooks, weights and the prior
know the spread that there is, so it is kept: encoders learn what to tell, not how loudly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vqzip.train.loss import LossConfig
from vqzip.train.sensitivity import random_signs, structure_functional

SMALLEST = 1e-6
"""Of a channel's squares, for a channel of zeros."""


def curvature(
    vectors: Tensor, decoded: Tensor, original: Tensor, lagrangian: Tensor, config: LossConfig
) -> Tensor:
    """Distortion in bits of a squared code unit, estimated once for each place (B, C, H/8, W/8).

    As in `sensitivity.py`, without means: that of many estimates is the curvature.

    Args:
        vectors: What the image was decoded from, of the bottom map, with its graph.
        decoded: Images (B, 3, H, W).
        original: What they should be, in [0, 1].
        lagrangian: Bits per pixel that distortion is worth (B,).
        config: What distortion is.
    """
    # Signs are independent: the square of the sum is in the mean the sum of the squares.
    functional = 255 * (decoded * random_signs(decoded)).sum()
    if config.structure:
        shaped = structure_functional(decoded, original)
        functional = functional + config.structure**0.5 * shaped
    (slopes,) = torch.autograd.grad(functional, vectors, retain_graph=True)
    return slopes.square() * (lagrangian / decoded.shape[1])[:, None, None, None]


def hold_spread(latent: Tensor) -> None:
    """Take out of the gradient of latents (B, C, H, W) what would scale a sample's channel."""
    held = latent.detach()
    squares = held.square().sum((2, 3), keepdim=True).clamp_min(SMALLEST)

    def across(gradient: Tensor) -> Tensor:
        along = (gradient * held).sum((2, 3), keepdim=True)
        return gradient - held * (along / squares)

    latent.register_hook(across)  # type: ignore[no-untyped-call]
