"""The measured distortion of a code unit."""

from __future__ import annotations

import math

import pytest
import tiny_model
import torch

from vqzip.model import Model
from vqzip.train.sensitivity import sensitivity

pytest_plugins = ["tiny_fixtures"]


@pytest.mark.parametrize("which", ["top", "bottom"])
def test_sensitivity_is_the_distortion_of_small_steps(trained: Model, which: str) -> None:
    """One channel moved up or down at random, everywhere, by a small amount."""
    t, level, delta = trained.transform, torch.full((6,), 3.0), 0.01
    generator = torch.Generator().manual_seed(0)
    image = tiny_model.pictures(6, 64, seed=4)
    with torch.no_grad():
        features = t.features(image, level)
        top = t.top_latent(features, level)
        bottom = t.bottom_latent(features, t.decode_top(top, level), level)
        clean = t.decode(bottom, t.decode_top(top, level), level)
        moved, stride = (top, 16) if which == "top" else (bottom, 8)
        expected = []
        for channel in range(moved.shape[1]):
            step = torch.zeros_like(moved)
            signs = torch.randint(0, 2, step[:, channel].shape, generator=generator) * 2 - 1
            step[:, channel] = delta * signs
            h = t.decode_top(top + step if which == "top" else top, level)
            changed = t.decode(bottom if which == "top" else bottom + step, h, level)
            mse = (changed - clean).square().mean()
            bits = float(t.config.lagrangian(level[:1])) * 255**2 * mse * stride**2 / delta**2
            expected.append(float(bits) * math.log(2))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        found = [sensitivity(trained, top, bottom, level) for _ in range(16)]
    index = 0 if which == "top" else 1
    mean = torch.stack([pair[index] for pair in found]).mean((0, 1))
    assert mean.tolist() == pytest.approx(expected, rel=0.3)
