"""Distortion weights tried out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_model import picture

from vqzip import codec, encoding
from vqzip.codec import CodecModel
from vqzip.integer import Floats
from vqzip.similarity import ms_ssim
from vqzip.train import tuning
from vqzip.train.tuning import SHARES, WORTH, Curve, Factors, Trial, cost, descend

pytest_plugins = ["tiny_fixtures"]


def by_slice(model: CodecModel) -> Factors:
    top, bottom = model.top.prior.slices, model.bottom.prior.slices
    return Factors(top, bottom, tuple(range(len(top) + len(bottom))))


def far_from(best: list[float]) -> Callable[[Floats], float]:
    return lambda factors: float(np.square(np.log(factors) - np.log(best)).sum())


def descended(
    loss: Callable[[Floats], float], count: int, tried: list[int], steps: tuple[float, ...]
) -> Floats:
    start = np.ones(count, np.float32)
    found, least = descend(loss, start, loss(start), tried, steps)
    assert least == loss(found)
    return found


def test_factors_go_up_and_down_in_steps_to_where_the_loss_is_least() -> None:
    best = [1.5**3, 1, 1 / 1.5, 1.5 * 1.2]
    found = descended(far_from(best), 4, [0, 1, 2, 3], (1.5, 1.2))
    np.testing.assert_allclose(found, best, rtol=1e-6)


def test_factors_stay_within_bounds() -> None:
    found = descended(far_from([100.0, 0.01]), 2, [0, 1], (2.0,))
    np.testing.assert_array_equal(found, [8, 1 / 8])


def test_only_factors_of_slices_with_codes_are_tried() -> None:
    found = descended(far_from([1.5**2, 1.5**2]), 2, [0], (1.5,))
    np.testing.assert_allclose(found, [1.5**2, 1], rtol=1e-6)


def test_changes_that_are_worth_nothing_are_not_made() -> None:
    def loss(factors: Floats) -> float:
        return -0.9 * WORTH * float(factors[0] > 1)

    assert descended(loss, 1, [0], (1.5,)) == 1


def test_rate_and_quality_are_those_of_files(model: CodecModel) -> None:
    pictures, level = [picture(96, 64), picture(64, 80, seed=1)], 64
    factors = by_slice(model)
    by = np.arange(1, 8, dtype=np.float32)
    top, bottom = (
        replace(part, weight=part.weight * np.repeat(f, part.prior.slices))
        for part, f in ((model.top, by[:3]), (model.bottom, by[3:]))
    )
    changed = replace(model, top=top, bottom=bottom)
    trial = Trial(model, factors, pictures, level)
    for now, given in ((model, factors.even), (changed, by), (model, factors.even)):
        bits, quality = 0.0, []
        for pixels in pictures:
            height, width, _ = pixels.shape
            codes = encoding.analyse(now, pixels, level)
            bits += sum(codec.cross_entropy(now, codes, level))
            shown = codec.synthesise(now, codes, width, height, level)
            x, y = (torch.from_numpy(p / 255).permute(2, 0, 1)[None] for p in (shown, pixels))
            errors = float((x - y).square().mean()), 1 - float(ms_ssim(x.float(), y.float()))
            quality.append([-10 * math.log10(error) for error in errors])
        found = trial.measure(given)
        assert math.exp(found[0]) == pytest.approx(bits, abs=128)
        np.testing.assert_allclose(found[1:], np.mean(quality, 0), rtol=1e-5)


class Straight:
    """Trials whose rate and qualities are those of the level, and of the factors."""

    def __init__(self, *arguments: object) -> None:
        level = arguments[-1]
        assert isinstance(level, int)
        self.level = level

    def measure(self, factors: Floats) -> NDArray[np.float64]:
        return np.array([0.02 * self.level, 0.1 * self.level, 0.2 * self.level]) * factors[:3]


def test_excess_is_against_the_curve_at_the_same_quality(
    model: CodecModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "Trial", Straight)
    curve = Curve(model, by_slice(model), [], 50)  # levels 38 to 62, PSNR 3.8 to 6.2
    assert curve.excess(np.array([1.0, 5.0, 10.0])) == pytest.approx(0, abs=1e-9)
    assert curve.excess(np.array([0.9, 5.0, 10.0])) == pytest.approx(-0.1)
    assert curve.excess(np.array([1.0, 5.5, 10.0])) == pytest.approx(-0.1 * SHARES[0])
    assert curve.excess(np.array([1.0, 5.0, 8.0])) == pytest.approx(0.2 * SHARES[1])
    assert math.isfinite(curve.excess(np.array([1.0, 6.7, 10.0])))
    assert curve.excess(np.array([1.0, 6.9, 10.0])) == math.inf
    assert curve.excess(np.array([1.0, 5.0, 6.0])) == math.inf


def test_a_curve_that_does_not_rise_tells_nothing(
    model: CodecModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Flat(Straight):
        def measure(self, factors: Floats) -> NDArray[np.float64]:
            return np.minimum(super().measure(factors), 5.0)

    monkeypatch.setattr(tuning, "Trial", Flat)
    curve = Curve(model, by_slice(model), [], 50)
    assert curve.excess(np.array([1.0, 5.0, 5.0])) == math.inf


def test_a_cost_is_what_a_trial_has_above_the_curve(model: CodecModel) -> None:
    pictures, factors = [picture(96, 64)], by_slice(model)
    curve = Curve(model, factors, pictures, 64)
    loss, trial = cost(model, factors, pictures, 64), Trial(model, factors, pictures, 64)
    for tried in (factors.even, 2 * factors.even):
        assert loss(tried) == curve.excess(trial.measure(tried))
