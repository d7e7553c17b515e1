"""How much distortion a code unit makes: what the encoder weighs bits against.

The decoder is taken as linear around the codes.  A step of one unit in a latent changes the image
by a column of the decoder's Jacobian J, so the distortion is that column's squared norm; for random
signs u the gradient of `u . image` is J^T u, whose squares have just these norms as their means
(Hutchinson's estimator of a diagonal).  One pass back gives all channels of both maps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vqzip.model import Model

LEAST = 1e-6
"""Of a channel that the decoder does not look at, for logarithms to exist."""


def sensitivity(model: Model, top: Tensor, bottom: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Distortion of a squared code unit in each channel, (B, C) for both maps.

    top (B, C, H/16, W/16) and bottom (B, C, H/8, W/8) are code vectors, level (B,).  In nats: the
    rate-distortion loss has `lambda * 255^2 * MSE` in bits per pixel.
    """
    t = model.transform
    with torch.enable_grad():
        vectors = top.detach().requires_grad_(), bottom.detach().requires_grad_()
        image = t.decode(vectors[1], t.decode_top(vectors[0], level), level)
        signs = torch.randint(0, 2, image.shape) * 2.0 - 1.0
        slopes = torch.autograd.grad((image * signs).sum(), vectors)
    nats = t.config.lagrangian(level) * 255**2 / image.shape[1] * math.log(2)
    top_found, bottom_found = (nats[:, None] * s.square().mean((2, 3)) for s in slopes)
    return top_found.clamp_min(LEAST), bottom_found.clamp_min(LEAST)
