"""What code vectors will be like, before they are chosen: the context of the choice in training.

The encoder chooses one code after the other; here all are chosen at once.  Bits draw codes towards
what is usual, so a latent is a bad guess of its code vector: in the context of latents as they are,
everything seems busier than it will be, and codes are chosen to be dear.  Latents drawn a little
towards their channel's centre are a better one.
"""

from __future__ import annotations

from torch import Tensor

SHRINKAGE = 0.2
"""By how much, in code units."""

SAMPLED = 4096
"""Positions that a channel's centre is told from, at most."""


def centre(latent: Tensor) -> Tensor:
    """Medians (..., 1) of latents (..., positions) in code units."""
    stride = -(-latent.shape[-1] // SAMPLED)
    return latent[..., ::stride].median(-1, keepdim=True).values


def guess(latent: Tensor, middle: Tensor) -> Tensor:
    """Latents, in code units, shrunk towards the middles of their channels."""
    return latent - (latent - middle).clip(-SHRINKAGE, SHRINKAGE)
