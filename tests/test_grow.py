"""Models that are given more latents."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import tiny_model
import torch
from torch import Tensor

from vqzip.model import Model
from vqzip.train.codebooks import CodebookConfig
from vqzip.train.grow import grow
from vqzip.train.joint import Joint, JointConfig, pass_through, reconstruct

OLD = sum(tiny_model.BOTTOM_SLICES)
NEW = 32
CONFIG = tiny_model.CONFIG.with_latents((*tiny_model.BOTTOM_SLICES, 16, 16), fine=NEW)


def crops() -> Iterator[Tensor]:
    """Crops of pictures, a fresh stream of the same ones at every call."""
    return (tiny_model.pictures(4, 64, seed) for seed in range(100))


@pytest.fixture(scope="module")
def old() -> Model:
    """The tiny model before."""
    return tiny_model.build()


@pytest.fixture(scope="module")
def grown(old: Model) -> Model:
    """The tiny model with twelve latents and 32 fine ones."""
    return grow(old, CONFIG, crops(), CodebookConfig(batches=2)).eval()


def test_shape(grown: Model) -> None:
    assert grown.config.bottom_quantizer is not None
    assert grown.config.bottom_quantizer.slices == (1, 3, 4, 4, 16, 16)
    for level, groups in enumerate(grown.config.bottom_quantizer.groups):
        assert groups[:4] == tiny_model.BOTTOM_GROUPS[level]
    assert grown.config.transform.fine_latents == NEW
    assert grown.config.top_quantizer == tiny_model.CONFIG.top_quantizer


@torch.no_grad()
def test_without_new_latents_everything_is_as_before(old: Model, grown: Model) -> None:
    image, level = tiny_model.pictures(2, 64, seed=9), torch.tensor([1.3, 7.0])
    found = []
    for model in (old, grown):
        t = model.transform
        features = t.features(image, level)
        h = t.decode_top(t.top_latent(features, level), level)
        latent = t.bottom_latent(features, h, level)
        latent[:, OLD:] = 0
        condition = torch.ones(2, 8, 8, 8)
        expected = model.prior.bottom(latent, torch.ones(2, 1, 1, 1), level, condition)
        found.append((latent[:, :OLD], expected[:, :OLD], t.decode(latent, h, level)))
    for before, after in zip(*found, strict=True):
        torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_new_latents_bring_what_was_missing(old: Model, grown: Model) -> None:
    image, level = tiny_model.pictures(4, 64, seed=0), torch.full((4,), 8.0)
    errors = []
    for model in (old, grown):
        t = model.transform
        features = t.features(image, level)
        h = t.decode_top(t.top_latent(features, level), level)
        decoded = t.decode(t.bottom_latent(features, h, level), h, level)
        errors.append(float((decoded - image).square().mean()))
    assert errors[1] < 0.5 * errors[0]


def test_the_grown_model_codes(grown: Model) -> None:
    image, level = tiny_model.pictures(1, 64, seed=9), torch.tensor([8.0])
    with torch.no_grad():
        decoded, bits = reconstruct(grown, image, level)
    assert decoded.shape == image.shape
    assert 0 < float(bits) < 24


def test_only_what_makes_the_fine_latents_is_trained_of_the_encoder() -> None:
    model = grow(tiny_model.build(), CONFIG, crops(), CodebookConfig(batches=1))
    Joint(model, JointConfig(train_encoder=False, train_fine=True))
    image, level = tiny_model.pictures(1, 64, seed=9), torch.tensor([8.0])
    result = pass_through(model, image, level)
    loss = result.image.square().mean() + result.bottom.commitment.mean()
    loss.backward()  # type: ignore[no-untyped-call]
    t = model.transform
    for layer, first in ((t.analysis, 192), (t.bottom_project, OLD)):
        assert layer.weight.grad is not None
        assert not layer.weight.grad[:first].any()
        assert layer.weight.grad[first:].any()
    assert t.bottom_merge.weight.grad is None
