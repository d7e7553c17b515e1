"""Distortion weights that photos' files are better by: the last step of training.

`tuning.py` says how they are found.  There is a factor for each of the bottom map's first channels,
one for some of those after them, and one for each of the top map's slices; from level to level it
changes steadily.  Factors of each level's own, found one level after the other, were as good on the
photos they were found with and no better on others, and file sizes did not rise as evenly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image

from vqzip.bands import Pixels
from vqzip.codec import CodecModel
from vqzip.integer import Floats
from vqzip.train.data import load_rgb
from vqzip.train.loop import process
from vqzip.train.tuning import Factors, cost, descend


@dataclass(frozen=True)
class CalibrateConfig:
    """What is tried on what; no pictures leave all as it is."""

    pictures: int = 16
    """Middles of photos."""
    side: int = 288
    """Of those, at most."""
    alone: int = 14
    """Channels of the bottom map that have factors of their own."""
    together: int = 8
    """Channels after them that share one, at most; they are of one slice."""
    levels: tuple[int, ...] = (1, 3, 5, 7)
    """Trained levels at which it is tried."""
    steps: tuple[float, ...] = (1.5, 1.2)
    """Factors that weights are tried to be multiplied and divided by, one after the other."""
    report: int = 25
    """Trials from one report to the next."""


def middles(photos: list[Path], count: int, side: int) -> Iterator[Pixels]:
    """The middles of that many photos, evenly spaced over their list, of sides up to `side`.

    Unreadable ones are left out.
    """
    for photo in photos[:: max(1, len(photos) // max(1, count))][:count]:
        try:
            image = load_rgb(photo)
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
        width, height = (min(each, side) for each in image.size)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        yield np.asarray(image.crop((left, top, left + width, top + height)))


def factors_of(model: CodecModel, config: CalibrateConfig) -> Factors:
    """The factors of a model."""
    top, bottom = model.top.prior.slices, model.bottom.prior.slices
    sizes, slices, start = [], list(range(len(top))), 0
    for i, size in enumerate(bottom):
        most = 1 if start < config.alone else config.together
        pieces = [len(piece) for piece in np.array_split(np.arange(size), -(-size // most))]
        sizes += pieces
        slices += [len(top) + i] * len(pieces)
        start += size
    return Factors(top, tuple(sizes), tuple(slices))


def along(levels: int, at: int, lines: Floats) -> Floats:
    """Factors (n,) at a level, of lines (2 n,): their middles, then their ratios from there up.

    Logarithms of factors are straight lines over the model's levels.
    """
    middles, ratios = np.split(lines, 2)
    factors: Floats = middles * ratios ** np.float32(2 * at / (levels - 1) - 1)
    return factors


def calibrate(
    model: CodecModel, photos: list[Path], config: CalibrateConfig, say: Callable[[str], None]
) -> tuple[Floats, Floats]:
    """Weights (levels, channels) of the top and the bottom map that files are better by.

    In bits, as `CodeMap` has them.  Processes share the levels that are tried, and find the same.
    """
    pictures = list(middles(photos, config.pictures, config.side))
    factors = factors_of(model, config)
    levels = len(model.bottom.tables)
    top, bottom = model.top.weight.copy(), model.bottom.weight.copy()
    tried = [at for at in config.levels if at < levels] if pictures else []
    found = _lines(model, factors, pictures, tried, config, say)
    for at in range(levels):
        better = factors.scaled(model, along(levels, at, found))
        top[at], bottom[at] = better.top.weight[at], better.bottom.weight[at]
    return top, bottom


def _lines(
    model: CodecModel,
    factors: Factors,
    pictures: list[Pixels],
    levels: list[int],
    config: CalibrateConfig,
    say: Callable[[str], None],
) -> Floats:
    """The lines of least loss, the mean of what factors cost at some levels."""
    even = np.tile(factors.even, 2)
    costs, (rank, processes) = {}, process()
    for at in levels[rank::processes]:
        loss = cost(model, factors, pictures, at * model.bottom.steps)
        if math.isfinite(loss(factors.even)):
            costs[at] = loss
        else:  # reported by that process alone, if it is the first
            say(f"weights: nothing is told by level {at}, where quality does not rise")
    count = _sum(len(costs))
    if count == 0:
        return even
    trials = 0

    def mean(lines: Floats) -> float:
        nonlocal trials
        found = [loss(along(len(model.bottom.tables), at, lines)) for at, loss in costs.items()]
        total = _sum(sum(found)) / count
        trials += 1
        if trials % config.report == 0:
            say(f"weights: {trials} trials, the last at rate {100 * (total - first):+.2f} %")
        return total

    first = 0.0
    first = mean(even)
    coded = sorted({i for at in levels for i in factors.tried(model, at)})
    tried = [*coded, *(len(factors.even) + i for i in coded)]
    best, least = descend(mean, even, first, tried, config.steps)
    say(f"weights: rate {100 * (least - first):+.2f} % after {trials} trials")
    return best


def _sum(value: float) -> float:
    """The sum over all processes."""
    total = torch.tensor(float(value), dtype=torch.float64)
    if dist.is_initialized():
        dist.all_reduce(total)
    return float(total)
