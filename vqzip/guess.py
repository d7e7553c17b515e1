"""What code vectors will be like, before they are chosen: the context of the first choice.

Bits draw codes towards what is usual, so a latent is a bad guess of its code vector: in the context
of latents as they are, everything seems busier than it will be, and codes are chosen to be dear.
Latents drawn a little towards their channel's centre are a better one.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

_Array = TypeVar("_Array", Tensor, NDArray[np.float32])

SHRINKAGE = 0.2
"""By how much, in code units."""

SAMPLED = 4096
"""Positions that a channel's centre is told from, at most."""


def centre(latent: Tensor) -> Tensor:
    """Medians (..., 1) of latents (..., positions) in code units."""
    stride = -(-latent.shape[-1] // SAMPLED)
    return latent[..., ::stride].median(-1, keepdim=True).values


def guess(latent: _Array, middle: _Array) -> _Array:
    """Latents, in code units, shrunk towards the middles of their channels.

    Of PyTorch or of NumPy, whose small operations on many threads at a time cost less.
    """
    shrunk: _Array = latent - (latent - middle).clip(-SHRINKAGE, SHRINKAGE)
    return shrunk
