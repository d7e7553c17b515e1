"""Distortion weights as files tell them: the last step of training.

The decoder's sensitivity (`settle.py`) says what an error costs that stands alone.  The encoder's
errors do not: a code is chosen in the context of those before it, and makes its like cheaper for
those after it.  At low rates, what is left out once stays out.  So weights get factors at each
level, found by encoding and decoding photos and trying what is better: one for each of the bottom
map's first channels, for some of those after them, and for each of the top map's slices.

Better is what moves the model's own curve of rate against quality: more bits for more quality are
to be had by a higher level already.  Rate is the logarithm of all bits, quality the mean of the
pictures' PSNR and MS-SSIM in decibels, as in BD-rates.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from vqzip import codec
from vqzip.bands import Pixels
from vqzip.codec import CodecModel
from vqzip.codemap import CodeMap
from vqzip.entropy import Encoder
from vqzip.integer import Floats
from vqzip.train.data import load_rgb
from vqzip.train.loss import ms_ssim

POINTS = 5
"""Of a curve."""

BEYOND = 0.25
"""How far a curve goes on, as a share of its length."""

LEAST_ERROR = 1e-9
"""For logarithms to exist."""


@dataclass(frozen=True)
class CalibrateConfig:
    """What is tried on what; no pictures leave all as it is."""

    pictures: int = 12
    """Middles of photos."""
    side: int = 320
    """Of those, at most."""
    alone: int = 14
    """Channels of the bottom map that have factors of their own."""
    together: int = 8
    """Channels after them that share one, at most; they are of one slice."""
    steps: tuple[float, ...] = (1.5, 1.2)
    """Factors that weights are tried to be multiplied and divided by, one after the other."""
    worth: float = 2e-4
    """Share of the rate that a change has to gain."""
    reach: int = 12
    """Positions of the quality scale, up and down, from which the model's curve is measured."""


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


@dataclass(frozen=True)
class Factors:
    """What factors are for: how many channels each, the top map's first, and at which levels."""

    top: tuple[int, ...]
    bottom: tuple[int, ...]
    slices: tuple[int, ...]
    """Of each factor, its slice, counted through both maps."""

    @property
    def even(self) -> Floats:
        """Factors of one."""
        return np.ones(len(self.slices), np.float32)

    def scaled(self, model: CodecModel, factors: Floats) -> CodecModel:
        """The model with its weights times factors."""
        parts = np.split(factors, [len(self.top)])

        def times(code_map: CodeMap, part: Floats, sizes: tuple[int, ...]) -> CodeMap:
            weight = code_map.weight * np.repeat(part, sizes)
            return dataclasses.replace(code_map, weight=weight.astype(np.float32))

        top = times(model.top, parts[0], self.top)
        return dataclasses.replace(
            model, top=top, bottom=times(model.bottom, parts[1], self.bottom)
        )

    def tried(self, model: CodecModel, at: int) -> list[int]:
        """Those of slices that are coded at a trained level, the bottom map's first.

        What the top map is chosen by is seldom to be changed.
        """
        books = [*model.top.tables[at], *model.bottom.tables[at]]
        coded = [i for i, s in enumerate(self.slices) if books[s].size > 1]
        return sorted(coded, key=lambda i: i < len(self.top))


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


class Trial:
    """What distortion weights come to at a level, by factors."""

    def __init__(
        self, model: CodecModel, factors: Factors, pictures: list[Pixels], level: int
    ) -> None:
        self.model, self.factors, self.pictures, self.level = model, factors, pictures, level
        self._top: Floats | None = None  # factors that the top maps are chosen with

    def measure(self, factors: Floats) -> NDArray[np.float64]:
        """Logarithm of all bits, and means of PSNR and MS-SSIM in dB."""
        model = self.factors.scaled(self.model, factors)
        top = factors[: len(self.factors.top)]
        if self._top is None or (self._top != top).any():
            encoder = Encoder()  # one for all: it counts in words
            begun = [
                codec.begin(model, pixels, self.level, encoder=encoder) for pixels in self.pictures
            ]
            self._begun, self._top, self._top_bytes = begun, top, len(encoder.finish())
        quality, encoder = [], Encoder()
        for picture, part in zip(self.pictures, self._begun, strict=True):
            codes = part.finish(model, encoder=encoder)
            height, width, _ = picture.shape
            decoded = codec.synthesise(model, codes, width, height, self.level)
            quality.append(_quality(decoded, picture))
        size = self._top_bytes + len(encoder.finish())
        return np.array([math.log(8 * size), *np.mean(quality, 0)])


def _quality(decoded: Pixels, original: Pixels) -> list[float]:
    """PSNR and MS-SSIM, in dB."""
    x, y = (_as_image(pixels) for pixels in (decoded, original))
    errors = float((x - y).square().mean()), 1 - float(ms_ssim(x, y))
    return [-10 * math.log10(max(error, LEAST_ERROR)) for error in errors]


def _as_image(pixels: Pixels) -> torch.Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def gains(
    model: CodecModel, factors: Factors, pictures: list[Pixels], at: int, reach: int
) -> Callable[[Floats], float]:
    """What factors cost at a trained level: change of the rate at the same quality, a share of it.

    The mean of that at the same PSNR and of that at the same MS-SSIM, against the model's curve:
    parabolas through its levels, `reach` positions of the quality scale down and up.  Infinite
    where these say nothing.
    """
    steps, even = model.bottom.steps, factors.even
    last = (len(model.bottom.tables) - 1) * steps
    ends = max(at * steps - reach, 0), min(at * steps + reach, last)
    levels = np.linspace(*ends, POINTS).round().astype(int).tolist()
    points = np.array([Trial(model, factors, pictures, x).measure(even) for x in levels])
    low, high = points.min(0)[1:], points.max(0)[1:]
    margin = BEYOND * (high - low)
    curves = [np.polynomial.Polynomial.fit(points[:, k], points[:, 0], 2) for k in (1, 2)]
    trial = Trial(model, factors, pictures, at * steps)

    def loss(tried: Floats) -> float:
        rate, *quality = trial.measure(tried)
        if (quality < low - margin).any() or (quality > high + margin).any():
            return math.inf
        return float(rate - np.mean([curve(q) for curve, q in zip(curves, quality, strict=True)]))

    return loss


def descend(
    loss: Callable[[Floats], float], start: Floats, tried: list[int], config: CalibrateConfig
) -> Floats:
    """Factors of less loss: one after the other is made larger or smaller while that gains."""
    best: Floats = start.copy()
    least = loss(start)
    for step in config.steps:
        for i in tried:
            for factor in (step, 1 / step):
                before = least
                while True:
                    changed = best.copy()
                    changed[i] *= factor
                    found = loss(changed)
                    if found > least - config.worth:
                        break
                    best, least = changed, found
                if least < before:
                    break
    return best


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
        loss = gains(model, factors, pictures, at, config.reach)
        start = min(found, factors.even, key=loss)
        found = descend(loss, start, factors.tried(model, at), config)
        better = factors.scaled(model, found)
        top[at], bottom[at] = better.top.weight[at], better.bottom.weight[at]
        change = 100 * (loss(found) - loss(factors.even))
        say(f"weights of level {at}: rate {change:+.2f} %")
    return top, bottom
