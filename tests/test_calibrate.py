"""Distortion weights that a model's own files tell."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_model import picture

from vqzip import store
from vqzip.codec import CodecModel
from vqzip.integer import Floats
from vqzip.train.calibrate import CalibrateConfig, along, calibrate, factors_of, middles
from vqzip.train.tuning import WORTH, cost

pytest_plugins = ["tiny_fixtures"]

CONFIG = CalibrateConfig(pictures=2, side=80, alone=1, together=4, levels=(1, 3), steps=(1.5,))


def test_first_channels_have_factors_of_their_own(model: CodecModel) -> None:
    """The slices are 1, 3, 4 and 1, 3, 4, 4."""
    found = factors_of(model, CalibrateConfig(alone=4, together=3))
    assert found.top == (1, 3, 4)
    assert found.bottom == (1, 1, 1, 1, 2, 2, 2, 2)
    assert found.slices == (0, 1, 2, 3, 4, 4, 4, 5, 5, 6, 6)
    assert found.tried(model, 0) == [4, 5, 6, 7, 8, 0, 1, 2]  # two slices have one codeword there


def test_pictures_are_the_middles_of_photos_that_can_be_read(tmp_path: Path) -> None:
    big = picture(300, 200)
    Image.fromarray(big).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    Image.fromarray(big[:30, :40]).save(tmp_path / "c.png")
    photos = sorted(tmp_path.iterdir())
    found = list(middles(photos, 3, 80))
    assert len(found) == 2
    np.testing.assert_array_equal(found[0], big[60:140, 110:190])
    np.testing.assert_array_equal(found[1], big[:30, :40])


def test_factors_lie_on_lines_over_the_levels() -> None:
    lines = np.array([2, 3, 4, 0.25], np.float32)  # middles, then ratios from there to the highest
    np.testing.assert_allclose(along(9, 8, lines), [8, 0.75])
    np.testing.assert_allclose(along(9, 4, lines), [2, 3])
    np.testing.assert_allclose(along(9, 2, lines), [1, 6])
    np.testing.assert_allclose(along(9, 0, lines), [0.5, 12])


def test_what_is_found_is_better() -> None:
    model, photos = store.load_model(), [Path("examples/photo.png")]
    config = CalibrateConfig(
        pictures=1, side=64, alone=1, together=64, levels=(3, 4), steps=(1.5,), report=10
    )
    said: list[str] = []
    top, bottom = calibrate(model, photos, config, said.append)
    assert said[0].startswith("weights: 10 trials, the last at rate ")
    trials = int(said[-1].removesuffix(" trials").rsplit(" ", 1)[1])
    assert len(said) == trials // 10 + 1
    factors = factors_of(model, config)
    found = [
        (weight / part.weight)[:, np.cumsum((0, *sizes[:-1]))]
        for weight, part, sizes in (
            (top, model.top, factors.top),
            (bottom, model.bottom, factors.bottom),
        )
    ]
    changed = np.concatenate(found, axis=1)
    np.testing.assert_allclose(np.diff(np.log(changed), 2, axis=0), 0, atol=1e-5)
    pictures = list(middles(photos, config.pictures, config.side))
    losses = [cost(model, factors, pictures, at * model.bottom.steps) for at in (3, 4)]
    before = sum(loss(factors.even) for loss in losses)
    after = sum(loss(changed[at]) for at, loss in zip((3, 4), losses, strict=True))
    assert after < before - 2 * WORTH


def test_levels_that_quality_does_not_rise_at_tell_nothing(
    model: CodecModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: object) -> Callable[[Floats], float]:
        return lambda _: math.inf

    monkeypatch.setattr("vqzip.train.calibrate.cost", nothing)
    Image.fromarray(picture(90, 80)).save(tmp_path / "a.png")
    said: list[str] = []
    top, bottom = calibrate(model, [tmp_path / "a.png"], CONFIG, said.append)
    np.testing.assert_array_equal(top, model.top.weight)
    np.testing.assert_array_equal(bottom, model.bottom.weight)
    assert said == [
        f"weights: nothing is told by level {at}, where quality does not rise" for at in (1, 3)
    ]


def test_without_pictures_all_stays_as_it_is(model: CodecModel) -> None:
    top, bottom = calibrate(model, [], CONFIG, print)
    np.testing.assert_array_equal(top, model.top.weight)
    np.testing.assert_array_equal(bottom, model.bottom.weight)
