"""Distortion weights that photos' files are better by: the last step of training.

`tuning.py` says how they are found.  At each level there is a factor for each of the bottom map's
first channels, one for some of those after them, and one for each of the top map's slices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vqzip.bands import Pixels
from vqzip.codec import CodecModel
from vqzip.integer import Floats
from vqzip.train.data import load_rgb
from vqzip.tuning import Factors, cost, descend


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
    steps: tuple[float, ...] = (1.5, 1.2)
    """Factors that weights are tried to be multiplied and divided by, one after the other."""


def middles(photos: list[Path], config: CalibrateConfig) -> list[Pixels]:
    """The middles of some photos, evenly spaced over their list; unreadable ones are left out."""
    found = []
    for photo in photos[:: max(1, len(photos) // max(1, config.pictures))][: config.pictures]:
        try:
            image = load_rgb(photo)
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
        width, height = (min(side, config.side) for side in image.size)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        found.append(np.asarray(image.crop((left, top, left + width, top + height))))
    return found


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


def calibrate(
    model: CodecModel,
    photos: list[Path],
    config: CalibrateConfig,
    levels: Iterable[int],
    say: Callable[[str], None],
) -> tuple[Floats, Floats]:
    """Weights (levels, channels) of the top and the bottom map that files are better by.

    In bits, as `CodeMap` has them; those of other `levels` stay as they are.  Each level begins
    with the factors of the one before, if those are better than none.
    """
    pictures, factors = middles(photos, config), factors_of(model, config)
    top, bottom, found = model.top.weight.copy(), model.bottom.weight.copy(), factors.even
    for at in levels if pictures else ():
        loss = cost(model, factors, pictures, at * model.bottom.steps)
        if math.isinf(loss(factors.even)):
            say(f"weights of level {at}: as they were, quality does not rise with the level")
            continue
        start = min(found, factors.even, key=loss)
        found = descend(loss, start, factors.tried(model, at), config.steps)
        better = factors.scaled(model, found)
        top[at], bottom[at] = better.top.weight[at], better.bottom.weight[at]
        change = 100 * (loss(found) - loss(factors.even))
        say(f"weights of level {at}: rate {change:+.2f} %")
    return top, bottom
