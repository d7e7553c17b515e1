"""Distortion weights that files are better by: what an error counts, tried out.

The decoder's sensitivity says what an error costs that stands alone.  The encoder's errors do not:
a code is chosen in the context of those before it, and makes its like cheaper for those after it.
At low rates, what is left out once stays out.  So weights get factors, found by encoding and
decoding photos and trying what is better.

Better is what moves the model's own curve of rate against quality: more bits for more quality are
to be had by a higher level already.  Rate is the logarithm of all bits, quality the mean of the
pictures' PSNR and MS-SSIM in decibels, as in BD-rates.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vqzip import codec, encoding
from vqzip.bands import Pixels
from vqzip.codec import CodecModel
from vqzip.codemap import CodeMap
from vqzip.coder import Encoder
from vqzip.integer import Floats
from vqzip.similarity import ms_ssim

REACH = 12
"""Positions of the quality scale, up and down, from which the model's curve is measured."""

POINTS = 5
"""Of a curve."""

SHARES = 0.95, 0.05
"""Of PSNR and of MS-SSIM in what is better.

Alike, MS-SSIM and SSIMULACRA2 gain at the cost of PSNR where pictures are busy.
"""

BEYOND = 0.25
"""How far a curve goes on, as a share of its length."""

LEAST_ERROR = 1e-9
"""For logarithms to exist."""

WORTH = 2e-4
"""Share of the rate that a change has to gain."""

FARTHEST = 8.0
"""Largest factor, and one over the smallest."""


@dataclass(frozen=True)
class Factors:
    """What factors are for: how many channels each, of the top map and of the bottom map."""

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
                encoding.begin(model, pixels, self.level, encoder=encoder)
                for pixels in self.pictures
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


class Curve:
    """Rate against quality, around a position of the quality scale: parabolas through points."""

    def __init__(
        self, model: CodecModel, factors: Factors, pictures: list[Pixels], level: int
    ) -> None:
        last = (len(model.bottom.tables) - 1) * model.bottom.steps
        ends = max(level - REACH, 0), min(level + REACH, last)
        levels = np.linspace(*ends, POINTS).round().astype(int).tolist()
        even = factors.even
        points = np.array([Trial(model, factors, pictures, x).measure(even) for x in levels])
        self._low, self._high = points[0, 1:], points[-1, 1:]
        self._margin = BEYOND * (self._high - self._low)
        # Where quality does not rise with the level, it tells nothing.
        self._fits = []
        if (np.diff(points, axis=0) > 0).all():
            fit = np.polynomial.Polynomial.fit
            self._fits = [fit(points[:, k], points[:, 0], 2) for k in (1, 2)]

    def excess(self, found: NDArray[np.float64]) -> float:
        """How much higher the rate is than on the curve, a share of it, for what a trial measured.

        The mean of that at the same PSNR and of that at the same MS-SSIM, by `SHARES`; infinite
        where the curve tells nothing.
        """
        rate, *quality = found
        low, high = self._low - self._margin, self._high + self._margin
        if not self._fits or (quality < low).any() or (quality > high).any():
            return math.inf
        same = [fit(q) for fit, q in zip(self._fits, quality, strict=True)]
        return float(rate - np.dot(SHARES, same))


def cost(
    model: CodecModel, factors: Factors, pictures: list[Pixels], level: int
) -> Callable[[Floats], float]:
    """What factors cost at a position of the quality scale, as `Curve.excess` has it."""
    curve = Curve(model, factors, pictures, level)
    trial = Trial(model, factors, pictures, level)
    return lambda tried: curve.excess(trial.measure(tried))


def descend(
    loss: Callable[[Floats], float],
    start: Floats,
    least: float,
    tried: list[int],
    steps: Sequence[float],
) -> tuple[Floats, float]:
    """Factors of less loss than the `least` that the start has, and their loss.

    One after the other is made larger or smaller while that gains.
    """
    best: Floats = start.copy()
    for step in steps:
        for i in tried:
            for factor in (step, 1 / step):
                before = least
                while True:
                    changed = best.copy()
                    changed[i] *= factor
                    if not 1 / FARTHEST <= changed[i] <= FARTHEST:
                        break
                    found = loss(changed)
                    if found > least - WORTH:
                        break
                    best, least = changed, found
                if least < before:
                    break
    return best, least
