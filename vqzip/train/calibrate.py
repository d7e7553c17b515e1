"""Distortion weights as files tell them: the last step of training.

The decoder's sensitivity (`settle.py`) says what an error costs that stands alone.  The encoder's
errors do not: a code is chosen in the context of those before it, and makes its like cheaper for
those after it.  At low rates, what is left out once stays out.  So the weight of each slice of the
prior gets a factor at each level, found by encoding and decoding photos and trying what is better.

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

LEAST_ERROR = 1e-9
"""For logarithms to exist."""


@dataclass(frozen=True)
class CalibrateConfig:
    """What is tried on what; no pictures leave all as it is."""

    pictures: int = 12
    """Middles of photos."""
    side: int = 384
    """Of those, at most."""
    steps: tuple[float, ...] = (1.5, 1.2)
    """Factors that weights are tried to be multiplied and divided by, one after the other."""
    worth: float = 2e-4
    """Share of the rate that a change has to gain."""
    reach: int = 4
    """Positions of the quality scale, up and down, between which the curve's slope is measured."""


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


class Trial:
    """What distortion weights come to at a level, by a factor for each slice of both maps."""

    def __init__(self, model: CodecModel, pictures: list[Pixels], level: int) -> None:
        self.model, self.pictures, self.level = model, pictures, level
        self._top: Floats | None = None  # factors that the top maps are chosen with

    def measure(self, factors: Floats) -> NDArray[np.float64]:
        """Logarithm of all bits, means of PSNR and MS-SSIM in dB; factors as `even` has them."""
        model = scaled(self.model, factors)
        top = factors[: len(model.top.prior.slices)]
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


def even(model: CodecModel) -> Floats:
    """Factors of one for the slices of the top map, then for those of the bottom map."""
    return np.ones(len(model.top.prior.slices) + len(model.bottom.prior.slices), np.float32)


def scaled(model: CodecModel, factors: Floats) -> CodecModel:
    """The model with its weights times factors."""
    ends = len(model.top.prior.slices)

    def times(code_map: CodeMap, part: Floats) -> CodeMap:
        weight = code_map.weight * np.repeat(part, code_map.prior.slices)
        return dataclasses.replace(code_map, weight=weight.astype(np.float32))

    top, bottom = times(model.top, factors[:ends]), times(model.bottom, factors[ends:])
    return dataclasses.replace(model, top=top, bottom=bottom)


def _quality(decoded: Pixels, original: Pixels) -> list[float]:
    """PSNR and MS-SSIM, in dB."""
    x, y = (_as_image(pixels) for pixels in (decoded, original))
    errors = float((x - y).square().mean()), 1 - float(ms_ssim(x, y))
    return [-10 * math.log10(max(error, LEAST_ERROR)) for error in errors]


def _as_image(pixels: Pixels) -> torch.Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def gains(
    model: CodecModel, pictures: list[Pixels], at: int, config: CalibrateConfig
) -> Callable[[Floats], float]:
    """What factors cost at a trained level: change of the rate at the same quality, a share of it.

    The mean of that at the same PSNR and of that at the same MS-SSIM, by the slope of the curve.
    """
    steps = model.bottom.steps
    last = (len(model.bottom.tables) - 1) * steps
    ends = max(at * steps - config.reach, 0), min(at * steps + config.reach, last)
    low, high = (Trial(model, pictures, level).measure(even(model)) for level in ends)
    slope = (high[0] - low[0]) / (high[1:] - low[1:])
    trial = Trial(model, pictures, at * steps)
    start = trial.measure(even(model))

    def loss(factors: Floats) -> float:
        change = trial.measure(factors) - start
        return float(change[0] - (slope * change[1:]).mean())

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
    pictures = middles(photos, config)
    top, bottom = model.top.weight.copy(), model.bottom.weight.copy()
    factors, first = even(model), len(model.top.prior.slices)
    for at in levels if pictures else ():
        books = [*model.top.tables[at], *model.bottom.tables[at]]
        coded = [i for i, book in enumerate(books) if book.size > 1]
        # The bottom map first: what the top map is chosen by is seldom to be changed.
        tried = sorted(coded, key=lambda i: i < first)
        loss = gains(model, pictures, at, config)
        factors = descend(loss, min(factors, even(model), key=loss), tried, config)
        found = scaled(model, factors)
        top[at], bottom[at] = found.top.weight[at], found.bottom.weight[at]
        shown = " ".join(f"{x:.2f}" for x in factors)
        say(f"weights of level {at}: {shown}, rate {100 * loss(factors):+.2f} %")
    return top, bottom
