"""Gradients through the choice of codes."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import tiny_model
import torch
from torch import Tensor, nn

from vqzip.layers import at_level
from vqzip.model import Model
from vqzip.quantizer import natural_features
from vqzip.train.joint import Joint, JointConfig, pass_through
from vqzip.train.optim import OptimConfig, Optimizer
from vqzip.train.quantize import quantize

LEVEL = torch.tensor([5.0, 6.0])


def quantized(latent: Tensor, weight: float) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors, bits and commitment of a top latent."""
    model = tiny_model.build()
    gain = at_level(model.transform.top_gain, LEVEL).exp().detach()
    weights = torch.full_like(latent, weight)
    prior = model.prior.top
    found = quantize(latent, weights, model.top_quantizer, prior, gain, LEVEL, None)
    return found.vectors, found.bits, found.commitment


def latent_of(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(2, 8, 3, 4, generator=generator)


def depends(result: Tensor, on: Tensor) -> bool:
    """Whether there is a gradient."""
    slopes: tuple[Tensor | None, ...]
    slopes = torch.autograd.grad(result.sum(), on, allow_unused=True, retain_graph=True)
    return slopes[0] is not None


def test_the_gradient_is_that_of_the_distortion_at_the_latent() -> None:
    """Of a distortion |v - x|^2 that is quadratic indeed, whatever bits make of the choice."""
    latent, target = latent_of(0).requires_grad_(), latent_of(1)
    for weight in (0.01, 3.0):
        vectors, _, commitment = quantized(latent, weight)
        assert not torch.equal(vectors, latent)
        bits = weight * (vectors - target).square().sum() / torch.log(torch.tensor(2.0))
        (found,) = torch.autograd.grad(bits + commitment.sum(), latent)
        expected = 2 * weight * (latent.detach() - target) / torch.log(torch.tensor(2.0))
        torch.testing.assert_close(found, expected)


def test_bits_have_no_gradient_in_the_latent() -> None:
    latent = latent_of(0).requires_grad_()
    _, bits, _ = quantized(latent, 1.0)
    assert bits.requires_grad  # in the prior
    assert not depends(bits, latent)


def test_given_codes_have_the_gradient_of_what_they_cost_others() -> None:
    model, latent = tiny_model.build(), latent_of(0).requires_grad_()
    books, prior = model.top_quantizer, model.prior.top
    gain = at_level(model.transform.top_gain, LEVEL).exp().detach()
    given = gain, LEVEL, None
    weights = torch.ones_like(latent)
    codes = quantize(latent, weights, books, prior, *given).codes
    found = quantize(latent, weights, books, prior, *given, codes)
    (slopes,) = torch.autograd.grad(found.bits.sum(), latent)

    def bits(context: Tensor) -> Tensor:
        expected = prior(context, *given).flatten(3)
        samples = enumerate(zip(codes, LEVEL, strict=True))
        each = [books.bits(k, int(at), natural_features(expected[i])) for i, (k, at) in samples]
        return torch.stack(each).sum()

    vectors = found.vectors.detach().requires_grad_()
    (expected,) = torch.autograd.grad(bits(vectors), vectors)
    torch.testing.assert_close(slopes, expected)
    assert float(slopes[:, :4, :, :-1].abs().min()) > 0
    assert not slopes[:, 4:, -1, -1].any()  # the last slice of the last position


def test_a_larger_weight_of_errors_is_paid_in_bits() -> None:
    latent = latent_of(0)
    cheap, dear = (quantized(latent, weight) for weight in (0.05, 5.0))
    assert (dear[1] > cheap[1]).all()
    assert (dear[0] - latent).square().sum() < (cheap[0] - latent).square().sum()


@pytest.mark.parametrize("encoder", [True, False])
def test_training_leaves_the_top_latent_as_it_is(encoder: bool) -> None:
    model = tiny_model.build()
    image = tiny_model.pictures(2, 32, seed=0)
    before = copy.deepcopy(model.transform.state_dict())
    latents = pass_through(model, image, LEVEL).latents
    stage = Joint(model, JointConfig(train_encoder=encoder)).train()
    optimizer = Optimizer(model, OptimConfig(), model.adam_only, stage.slow)
    loss, _ = stage(image, LEVEL)
    loss.backward()
    optimizer.step(1.0)
    after = model.transform.state_dict()
    moved = {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])}
    bottom = {"bottom_merge", "bottom_encoder", "bottom_project"}
    bottom |= {"top_embed", "top_decoder", "top_up"}  # it sees the decoded top map
    decoder = {"decoder_merge", "decoder", "synthesis", "bottom_ungain", "decoder_scale"}
    assert moved == (bottom | decoder if encoder else decoder)
    assert torch.equal(pass_through(model, image, LEVEL).latents[0], latents[0])


def test_slow_weights_learn_at_a_share_of_the_rate() -> None:
    layers = nn.ModuleDict({"a": nn.Conv2d(32, 32, 1), "b": nn.Conv2d(32, 32, 1)})
    layers["b"].load_state_dict(layers["a"].state_dict())
    before = copy.deepcopy(layers["a"].state_dict())
    x = torch.rand(1, 32, 2, 2)
    (layers["a"](x).square().sum() + layers["b"](x).square().sum()).backward()
    Optimizer(layers, OptimConfig(slow_share=0.25), (), ("b",)).step(1.0)
    for name, start in before.items():
        steps = [layers[which].state_dict()[name] - start for which in "ab"]
        torch.testing.assert_close(steps[1], 0.25 * steps[0], atol=1e-6, rtol=1e-3)


def test_new_ends_learn_faster_than_all_else() -> None:
    transform = replace(tiny_model.CONFIG.transform, graded=True)
    model = Model(replace(tiny_model.CONFIG, transform=transform))
    stage = Joint(model, JointConfig(train_encoder=False, new_ends=True))
    optimizer = Optimizer(model, OptimConfig(), (), stage.slow)
    groups = [*optimizer.adam.param_groups, *optimizer.muon.param_groups]
    shares = {id(p): group["share"] for group in groups for p in group["params"]}
    trained = {name: shares[id(p)] for name, p in model.named_parameters() if p.requires_grad}
    fast = [name for name, share in trained.items() if share == 1]
    assert fast == [name for name in trained if ".ends." in name]
    assert len(fast) > 4
    assert set(trained.values()) == {1, OptimConfig().slow_share}
