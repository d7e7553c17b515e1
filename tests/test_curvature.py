"""What draws latents to codes as files have them, and what it leaves."""

from __future__ import annotations

import pytest
import tiny_model
import torch
import torch.nn.functional as F

from vqzip.train.curvature import curvature, hold_spread
from vqzip.train.joint import Joint, JointConfig
from vqzip.train.loss import LossConfig


def test_curvature_is_the_distortion_of_a_step_at_its_place() -> None:
    """Of a decoder without overlap, whose gain differs from place to place."""
    generator = torch.Generator().manual_seed(0)
    columns = torch.randn(2, 3, 8, 8, generator=generator)
    gain = torch.tensor([[0.5, 1.0], [2.0, 4.0]]).repeat(4, 4)
    vectors = torch.zeros(2, 2, 8, 8, requires_grad=True)
    decoded = F.conv_transpose2d(vectors * gain, columns, stride=8)
    lam, config = torch.tensor([0.001, 0.01]), LossConfig(structure=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        found = [
            curvature(vectors, decoded, torch.zeros_like(decoded), lam, config) for _ in range(400)
        ]
    mean = torch.stack(found).mean(0)
    assert mean.shape == vectors.shape
    squares = columns.square().sum((1, 2, 3))
    expected = (lam * 255**2 / 3)[:, None, None, None] * squares[:, None, None] * gain.square()
    torch.testing.assert_close(mean, expected, rtol=0.4, atol=0)
    torch.testing.assert_close((mean / expected).mean((2, 3)), torch.ones(2, 2), rtol=0.05, atol=0)


def test_structure_adds_to_it_by_its_weight() -> None:
    original = tiny_model.pictures(1, 64, seed=2)
    vectors = torch.zeros(1, 3, 8, 8, requires_grad=True)
    decoded = original + F.interpolate(vectors, scale_factor=8)
    lam = torch.tensor([0.01])

    def found(structure: float) -> float:
        config = LossConfig(structure=structure)
        torch.manual_seed(1)
        many = [curvature(vectors, decoded, original, lam, config) for _ in range(200)]
        return float(torch.stack(many).mean())

    with torch.random.fork_rng(devices=[]):
        plain, some, more = found(0.0), found(4000.0), found(8000.0)
    assert some > 1.2 * plain
    assert more - plain == pytest.approx(2 * (some - plain), rel=0.1)


def test_the_spread_of_a_samples_channel_is_not_in_the_gradient_and_all_else_is() -> None:
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(2, 3, 4, 4, generator=generator)
    latent[:, 2] = 0
    latent.requires_grad_()
    across = torch.randn(2, 3, 4, 4, generator=generator)
    held = latent.detach()
    squares = held.square().sum((2, 3), keepdim=True).clamp_min(1e-9)
    across -= held * ((across * held).sum((2, 3), keepdim=True) / squares)
    grown = latent * 1.0
    hold_spread(grown)
    factor = torch.tensor([[3.0, -5.0, 7.0], [-2.0, 4.0, 1.0]])[:, :, None, None]
    torch.autograd.backward((grown * (across + factor * held)).sum())
    assert latent.grad is not None
    torch.testing.assert_close(latent.grad, across)


def test_the_encoder_learns_and_weights_stay() -> None:
    model, image = tiny_model.build(), tiny_model.pictures(2, 64, seed=3)
    before = [model.top_weight.clone(), model.bottom_weight.clone()]
    stage = Joint(model, JointConfig(train_encoder=True, file_codes=True)).train()
    loss, _ = stage(image, torch.tensor([2.3, 6.5]))
    loss.backward()
    for weight in (model.transform.bottom_project.weight, model.transform.bottom_merge.weight):
        assert weight.grad is not None
        assert float(weight.grad.abs().max()) > 0
    assert torch.equal(model.top_weight, before[0])
    assert torch.equal(model.bottom_weight, before[1])


@pytest.mark.parametrize("training", [True, False])
def test_the_loss_that_is_shown_is_without_it(training: bool) -> None:
    model, image = tiny_model.build(), tiny_model.pictures(2, 64, seed=3)
    shown = []
    for encoder in (False, True):
        stage = Joint(model, JointConfig(train_encoder=encoder, file_codes=True)).train(training)
        codebooks = {k: v.clone() for k, v in model.state_dict().items()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            shown.append(stage(image, torch.tensor([2.3, 6.5]))[1]["loss"])
        model.load_state_dict(codebooks)
    assert shown[0] == pytest.approx(shown[1], rel=1e-5)
