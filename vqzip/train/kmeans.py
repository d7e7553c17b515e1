"""k-means: k-means++ seeds (Arthur & Vassilvitskii 2007), then Lloyd's iteration."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 8192  # points whose distances to all centres are held in memory at once


def nearest(points: Tensor, centres: Tensor) -> Tensor:
    """Index (N,) of the centre (K, d) nearest to each of the points (N, d)."""
    lengths = centres.square().sum(1)
    parts = torch.split(points, CHUNK)
    return torch.cat([torch.addmm(lengths, p, centres.T, alpha=-2).argmin(1) for p in parts])


def seeds(points: Tensor, count: int, chosen: Tensor | None = None) -> Tensor:
    """Points (count, d), each drawn in proportion to its squared distance to those before.

    The first ones are `chosen` (fewer than count, d) if there are any.
    """
    if chosen is None:
        chosen = points[torch.randint(len(points), (1,))]
    distance = (points - chosen[nearest(points, chosen)]).square().sum(1)
    while len(chosen) < count:
        # Where all points are taken already, any will do.
        likely = distance if distance.sum() > 0 else torch.ones_like(distance)
        new = points[torch.multinomial(likely, 1)]
        distance = torch.minimum(distance, (points - new).square().sum(1))
        chosen = torch.cat([chosen, new])
    return chosen


def lloyd(points: Tensor, centres: Tensor) -> Tensor:
    """Centres (K, d) one step on: each at the mean of its points (N, d), or where it was."""
    codes = nearest(points, centres)
    uses = torch.bincount(codes, minlength=len(centres))
    sums = torch.zeros_like(centres).index_add_(0, codes, points)
    return torch.where(uses[:, None] > 0, sums / uses.clamp_min(1)[:, None], centres)


def kmeans(
    points: Tensor,
    count: int,
    first: Tensor | None = None,
    iterations: int = 20,
    seeding: int = 20_000,
) -> Tensor:
    """Centres (count, d) of points (N, d).

    Seeds are drawn from `seeding` of the points at most; the first ones may be given.
    """
    few = points[torch.randperm(len(points))[:seeding]]
    centres = seeds(few, count, first)
    for _ in range(iterations):
        moved = lloyd(points, centres)
        if torch.equal(moved, centres):
            break
        centres = moved
    return centres
