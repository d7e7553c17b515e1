"""The measured distortion of a code unit."""

from __future__ import annotations

import math

import pytest
import tiny_model
import torch
import torch.nn.functional as F

from vqzip.model import Model
from vqzip.similarity import ms_ssim
from vqzip.train.joint import JointConfig, pass_through
from vqzip.train.sensitivity import emphasis, sensitivity, structure_functional
from vqzip.train.settle import settle

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


@pytest.mark.parametrize("octaves", [range(3, 5), range(5, 6), range(7, 8)])
def test_structure_is_what_ms_ssim_makes_of_a_small_change(octaves: range) -> None:
    """The functional's squares, in the mean, for errors from coarse to fine."""
    image = tiny_model.pictures(1, 192, seed=2)
    generator = torch.Generator().manual_seed(0)
    change = torch.zeros_like(image)
    for octave in octaves:
        noise = torch.randn(1, 3, 2**octave, 2**octave, generator=generator)
        change += 0.01 * F.interpolate(noise, size=(192, 192), mode="bilinear")
    expected = 1 - ms_ssim(image + change, image)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        squares = [structure_functional(change, image).square() for _ in range(400)]
    found = torch.stack(squares).mean() / image.numel()
    assert float(found) == pytest.approx(float(expected), rel=0.25)


def test_emphasis_is_as_the_weight_of_structure_and_keeps_its_mean() -> None:
    share = torch.tensor([2.0, 1.0, 0.5, 0.0]).log() + 2 * math.log(255)
    assert emphasis(share, 0.0, 2).tolist() == [1, 1, 1, 1]
    found = emphasis(share, 3.0, anchor=2)
    assert found.tolist() == pytest.approx([x / math.sqrt(7 * 4) for x in (7, 4, 2.5, 1)])


def test_settled_weights_are_those_of_the_pictures() -> None:
    model, image = tiny_model.build(), tiny_model.pictures(4, 64, seed=4)
    top = model.top_weight.clone()
    config = JointConfig(structure=0.0)
    model.bottom_weight.fill_(1.0)
    settle(model, [image] * 4, config)
    level = torch.full((4,), 3.0)
    with torch.no_grad():
        found = pass_through(model, image, level)
    vectors = found.top.vectors, found.bottom.vectors
    plain = torch.cat([sensitivity(model, *vectors, level)[1] for _ in range(16)]).mean(0)
    expected = (config.caution * plain).tolist()
    assert model.bottom_weight[3].tolist() == pytest.approx(expected, rel=0.4)
    assert torch.equal(model.top_weight, top)
    settle(model, [image] * 4, JointConfig(anchor=4))
    changed = model.bottom_weight[3] / torch.tensor(expected)
    assert float(changed[:4].log().mean().exp()) == pytest.approx(1, rel=0.3)
