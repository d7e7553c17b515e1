"""Distortion weights that a model's own files tell."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_model import picture

from vqzip import codec
from vqzip.codec import CodecModel
from vqzip.integer import Floats
from vqzip.train.calibrate import (
    CalibrateConfig,
    Trial,
    calibrate,
    descend,
    factors_of,
    gains,
    middles,
)
from vqzip.train.loss import ms_ssim

pytest_plugins = ["tiny_fixtures"]

CONFIG = CalibrateConfig(pictures=2, side=80, alone=1, together=4, steps=(1.5,))


def far_from(best: list[float]) -> Callable[[Floats], float]:
    return lambda factors: float(np.square(np.log(factors) - np.log(best)).sum())


def test_factors_go_up_and_down_in_steps_to_where_the_loss_is_least() -> None:
    best = [1.5**3, 1, 1 / 1.5, 1.5 * 1.2]
    found = descend(far_from(best), np.ones(4, np.float32), [0, 1, 2, 3], CalibrateConfig())
    np.testing.assert_allclose(found, best, rtol=1e-6)


def test_only_factors_of_slices_with_codes_are_tried() -> None:
    found = descend(far_from([1.5**2, 1.5**2]), np.ones(2, np.float32), [0], CONFIG)
    np.testing.assert_allclose(found, [1.5**2, 1], rtol=1e-6)


def test_changes_that_are_worth_nothing_are_not_made() -> None:
    def loss(factors: Floats) -> float:
        return -0.9 * CONFIG.worth * float(factors[0] > 1)

    found = descend(loss, np.ones(1, np.float32), [0], CONFIG)
    assert found[0] == 1


def test_first_channels_have_factors_of_their_own(model: CodecModel) -> None:
    """The slices are 1, 3, 4 and 1, 3, 4, 4."""
    found = factors_of(model, CalibrateConfig(alone=4, together=3))
    assert found.top == (1, 3, 4)
    assert found.bottom == (1, 1, 1, 1, 2, 2, 2, 2)
    assert found.slices == (0, 1, 2, 3, 4, 4, 4, 5, 5, 6, 6)
    assert found.tried(model, 0) == [4, 5, 6, 7, 8, 0, 1, 2]  # two slices have one codeword there


def test_rate_and_quality_are_those_of_files(model: CodecModel) -> None:
    pictures, level = [picture(96, 64), picture(64, 80, seed=1)], 64
    factors = factors_of(model, CalibrateConfig(alone=1, together=4))
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
            codes = codec.analyse(now, pixels, level)
            bits += sum(codec.cross_entropy(now, codes, level))
            shown = codec.synthesise(now, codes, width, height, level)
            x, y = (torch.from_numpy(p / 255).permute(2, 0, 1)[None] for p in (shown, pixels))
            errors = float((x - y).square().mean()), 1 - float(ms_ssim(x.float(), y.float()))
            quality.append([-10 * math.log10(error) for error in errors])
        found = trial.measure(given)
        assert math.exp(found[0]) == pytest.approx(bits, abs=128)
        np.testing.assert_allclose(found[1:], np.mean(quality, 0), rtol=1e-5)


def test_gains_are_against_the_curve(model: CodecModel, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, factors = [picture(96, 64)], factors_of(model, CONFIG)
    ones = factors.even
    loss = gains(model, factors, pictures, 4, 8)
    points = [Trial(model, factors, pictures, at).measure(ones) for at in (56, 60, 64, 68, 72)]
    rate, *qualities = np.transpose(points)
    fits = [np.polyfit(quality, rate, 2) for quality in qualities]
    for tried in (ones, 2 * ones):
        found = Trial(model, factors, pictures, 64).measure(tried)
        same = [np.polyval(fit, quality) for fit, quality in zip(fits, found[1:], strict=True)]
        assert loss(tried) == pytest.approx(found[0] - np.mean(same), abs=1e-6)
    monkeypatch.setattr("vqzip.train.calibrate.BEYOND", -1.0)
    assert gains(model, factors, pictures, 4, 8)(ones) == math.inf


def test_pictures_are_the_middles_of_photos_that_can_be_read(tmp_path: Path) -> None:
    big = picture(300, 200)
    Image.fromarray(big).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    Image.fromarray(big[:30, :40]).save(tmp_path / "c.png")
    photos = sorted(tmp_path.iterdir())
    found = middles(photos, CalibrateConfig(pictures=3, side=80))
    assert len(found) == 2
    np.testing.assert_array_equal(found[0], big[60:140, 110:190])
    np.testing.assert_array_equal(found[1], big[:30, :40])


def test_what_is_found_is_better_at_each_level(model: CodecModel, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(picture(90, 80, seed=ord(name[0]))).save(tmp_path / name)
    said: list[str] = []
    photos = sorted(tmp_path.iterdir())
    levels = (0, 5, 8)
    top, bottom = calibrate(model, photos, CONFIG, levels, said.append)
    assert len(said) == 3
    pictures, factors = middles(photos, CONFIG), factors_of(model, CONFIG)
    changed = set()
    for at in range(9):
        found = [
            (weight / part.weight)[at, np.cumsum((0, *sizes[:-1]))]
            for weight, part, sizes in (
                (top, model.top, factors.top),
                (bottom, model.bottom, factors.bottom),
            )
        ]
        changed |= {at} if (np.concatenate(found) != 1).any() else set()
        if at in levels:
            loss = gains(model, factors, pictures, at, CONFIG.reach)
            assert loss(np.concatenate(found)) <= loss(factors.even) + 1e-6
    assert changed <= set(levels)
    assert changed


def test_without_pictures_all_stays_as_it_is(model: CodecModel) -> None:
    top, bottom = calibrate(model, [], CONFIG, range(9), print)
    np.testing.assert_array_equal(top, model.top.weight)
    np.testing.assert_array_equal(bottom, model.bottom.weight)
