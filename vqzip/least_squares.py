"""What the filter of least squared error is found from: products of terms at pixels of a picture.

There are too many terms to look at all pixels, and those that tell most are few: where edges and
details are, and where the picture is off.  So pixels are drawn, these more often than others, and
count the more the less often they are drawn (importance sampling; Kahn & Marshall 1953, "Methods of
Reducing Sample Size in Monte Carlo Computations").  Where as many are drawn from all alike, filters
follow what the others do not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from torch import Tensor

from vqzip.integer import Doubles
from vqzip.terms import REACH, TERMS, inner, terms_at

EVERYWHERE = 0.3
"""How much drawing depends on nothing, beside edges and what is off, each of which counts 1."""

FLAT = 1e-6
"""What is added to means that may be zero."""

ALONG, DOWN = 0.7548776662466927, 0.5698402909980532
"""Steps of a sequence that fills the unit interval evenly along rows, columns and across (R2;
Roberts 2018, "The Unreasonable Effectiveness of Quasirandom Sequences")."""

NEXT = ((0, 1), (1, 0), (0, -1), (-1, 0))
"""Pixels that edges lie between."""


@dataclass(frozen=True)
class Statistics:
    """What least squares need to know of a picture, or of parts of it.

    Attributes:
        products: Means of products of terms (TERMS, TERMS).
        wanted: Means of products of terms and of what the picture lacks (TERMS, 3).
        count: Pixels they are means of.
    """

    products: Doubles
    wanted: Doubles
    count: int

    @classmethod
    def of(cls, decoded: Tensor, original: Tensor, share: float = inf) -> Statistics:
        """Of inner pixels of images (3, H, W) in [0, 1], of which there may be none.

        `share`: of the pixels, about how many are drawn; all if it is infinite.
        """
        _, height, width = original.shape
        if min(height, width) <= 2 * REACH:
            return cls(np.zeros((TERMS, TERMS)), np.zeros((TERMS, 3)), 0)
        lacking = inner(original - decoded)
        chances = _chances(decoded, lacking, share)
        drawn = (_evenly(*chances.shape) < chances).flatten().nonzero()[:, 0]
        # A pixel stands for those like it that are not drawn.
        weights = chances.flatten()[drawn].rsqrt()
        x, y = terms_at(decoded, drawn).mul_(weights), lacking.flatten(1)[:, drawn] * weights
        squares, wanted = (sums.double().numpy() for sums in (x @ x.T, x @ y.T))
        count = chances.numel()
        return cls(squares / count, wanted / count, count)

    @classmethod
    def joined(cls, parts: list[Statistics]) -> Statistics:
        """Of parts together."""
        count = max(1, sum(part.count for part in parts))
        products = sum(part.products * (part.count / count) for part in parts)
        wanted = sum(part.wanted * (part.count / count) for part in parts)
        return cls(np.asarray(products), np.asarray(wanted), count)


def _chances(decoded: Tensor, lacking: Tensor, share: float) -> Tensor:
    """Of being drawn (h, w), for inner pixels of an image (3, H, W) that lacks so much in them."""
    brightness = decoded.mean(0, keepdim=True)
    here = inner(brightness)
    edges = torch.cat([inner(brightness, *step) - here for step in NEXT]).abs_().sum(0)
    off = lacking.square().sum(0).sqrt_()
    weights = EVERYWHERE + edges / (edges.mean() + FLAT) + off / (off.mean() + FLAT)
    return (weights * (share / weights.mean())).clamp_(max=1)


def _evenly(height: int, width: int) -> Tensor:
    """Numbers (height, width) in [0, 1), as many of them small as large wherever one looks."""
    down, along = (torch.arange(size).double() for size in (height, width))
    return (DOWN * down[:, None] + ALONG * along) % 1
