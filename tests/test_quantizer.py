import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vqzip.quantizer import (
    Codebook,
    Quantizer,
    QuantizerConfig,
    error_features,
    natural_features,
    precision,
)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def book(groups: int, size: int, dim: int, seed: int = 0) -> Codebook:
    """A codebook with random labels, codewords near them and biases, in double precision."""
    made = Codebook(groups, size, dim).double()
    made.place(2 * random(groups, size, dim, seed=seed))
    with torch.no_grad():
        made.codewords.add_(random(groups, size, dim, seed=seed + 1), alpha=0.3)
        made.bias.copy_(random(groups, size, seed=seed + 2))
    return made


def natural(channels: int, positions: int, seed: int = 7) -> Tensor:
    return random(channels, 4, positions, seed=seed)


SHAPES = [(1, 1, 4), (3, 2, 1), (2, 5, 2), (2, 6, 4), (4, 33, 1)]


# The prior's distribution over a codebook.


def log_p(codebook: Codebook, features: Tensor, g: int, n: int) -> list[float]:
    """Log-probabilities by the formula in the module's docstring, one term after the other."""
    scores = codebook.bias[g].tolist()
    for k in range(codebook.size):
        for d in range(codebook.dim):
            c = float(codebook.labels[g, k, d])
            linear, square, size, small = features[g * codebook.dim + d, :, n].tolist()
            scores[k] += linear * c - square * c * c + size * abs(c) + small * min(abs(c), 1)
    z = math.fsum(math.exp(score) for score in scores)
    return [score - math.log(z) for score in scores]


@pytest.mark.parametrize(("groups", "size", "dim"), SHAPES)
def test_distribution_is_that_of_the_formula(groups: int, size: int, dim: int) -> None:
    codebook, features = book(groups, size, dim), natural_features(natural(groups * dim, 6))
    found = codebook.logits(features).log_softmax(2)
    expected = [[log_p(codebook, features, g, n) for n in range(6)] for g in range(groups)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_features_are_those_of_a_gaussian_with_free_tails() -> None:
    mean, log_scale, tail, zero = natural(3, 5).unbind(1)
    weight = precision(log_scale)
    expected = torch.stack([2 * weight * mean, weight, tail, zero], 1)
    torch.testing.assert_close(natural_features(natural(3, 5)), expected)


def cell(center: float, scale: float) -> float:
    """Probability of a unit cell under a Gaussian of mean zero, without cancellation."""
    near, far = (center - 0.5) / scale, (center + 0.5) / scale
    return 0.5 * (math.erfc(near / math.sqrt(2)) - math.erfc(far / math.sqrt(2)))


@pytest.mark.parametrize("scale", [0.1, 0.2, 0.4, 1.0, 2.0, 2.9])
def test_precision_keeps_the_ratio_of_a_gaussians_central_cells(scale: float) -> None:
    found = precision(torch.tensor(math.log(scale), dtype=torch.float64))
    assert float(found) == pytest.approx(math.log(cell(0, scale) / cell(1, scale)), rel=1e-9)


def test_precision_of_wide_gaussians_is_that_of_the_density() -> None:
    for scale in (20.0, 50.0):
        found = precision(torch.tensor(math.log(scale), dtype=torch.float64))
        assert float(found) == pytest.approx(0.5 / scale**2, rel=1e-3)


def test_precision_falls_steadily_and_has_finite_gradients() -> None:
    log_scale = torch.linspace(-6, 8, 2000, dtype=torch.float64, requires_grad=True)
    found = precision(log_scale)
    (slope,) = torch.autograd.grad(found.sum(), log_scale)
    assert (found.diff() <= 0).all()
    assert (found > 0).all()
    assert slope.isfinite().all()


def test_precision_is_limited_for_small_scales() -> None:
    found = precision(torch.tensor([math.log(0.08), -5.0, -40.0]))
    assert found[0] == found[1] == found[2]


# Assignment.


def nearest(codebook: Codebook, latent: Tensor) -> Tensor:
    return codebook.closeness(error_features(latent, torch.ones_like(latent))).argmax(2)


def test_closeness_is_minus_the_weighted_squared_error_up_to_a_constant() -> None:
    codebook, latent, weight = book(2, 5, 2), random(4, 3), random(4, 3, seed=1).exp()
    closeness = codebook.closeness(error_features(latent, weight))
    distance = codebook.codewords[:, None] - latent.reshape(2, 2, 3).transpose(1, 2)[:, :, None]
    by_position = weight.reshape(2, 2, 3).transpose(1, 2)[:, :, None]
    error = (by_position * distance.square()).sum(3)
    torch.testing.assert_close(closeness - closeness[..., :1], error[..., :1] - error)


@pytest.mark.parametrize(("groups", "size", "dim"), SHAPES)
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32))
def test_nearest_has_the_least_squared_error(groups: int, size: int, dim: int, seed: int) -> None:
    codebook, latent = book(groups, size, dim, seed), 3 * random(groups * dim, 9, seed=seed + 3)
    codes = nearest(codebook, latent)
    points = latent.reshape(groups, dim, 9).transpose(1, 2)
    distances = torch.cdist(points, codebook.codewords)
    chosen = distances.gather(2, codes[:, :, None])[:, :, 0]
    torch.testing.assert_close(chosen, distances.amin(2))


QUANTIZER = QuantizerConfig(
    slices=(2, 4, 4, 3),
    groups=(
        ((1, 9), (2, 7), (4, 5), (1, 1)),
        ((1, 3), (4, 4), (2, 1), (3, 2)),
    ),
)


def quantizer(seed: int = 0) -> Quantizer:
    made = Quantizer(QUANTIZER).double()
    for level in range(2):
        for i, codebook in enumerate(made.at(level)):
            state = book(codebook.groups, codebook.size, codebook.dim, seed + 10 * i + level)
            codebook.load_state_dict(state.state_dict())
    return made


def test_codes_and_vectors_have_the_shapes_of_the_groups() -> None:
    q, latent = quantizer(), random(13, 9)
    error = error_features(latent, torch.ones(13, 1))
    for level, groups in enumerate([[2, 2, 1, 3], [2, 1, 2, 1]]):
        codes = q.nearest(error, level)
        assert [tuple(c.shape) for c in codes] == [(g, 9) for g in groups]
        assert q.vectors(codes, level).shape == (13, 9)


@settings(deadline=None, max_examples=30)
@given(level=st.integers(0, 1), seed=st.integers(0, 2**32))
def test_assignment_has_the_least_error_plus_nats(level: int, seed: int) -> None:
    q, latent = quantizer(), 2 * random(13, 3, seed=seed)
    weight = random(13, 3, seed=seed + 1).exp()
    features = natural_features(natural(13, 3, seed=seed + 2))
    codes = q.assign(error_features(latent, weight), level, features)
    start = 0
    for codebook, chosen, size in zip(q.at(level), codes, QUANTIZER.slices, strict=True):
        for g in range(codebook.groups):
            rows = slice(start + g * codebook.dim, start + (g + 1) * codebook.dim)
            for n in range(3):
                distance = codebook.codewords[g] - latent[rows, n]
                squares = (weight[rows, n] * distance.square()).sum(1)
                logs = log_p(codebook, features[start : start + size], g, n)
                floored = [max(x - max(logs), math.log(2**-24)) for x in logs]
                cost = squares - torch.tensor(floored, dtype=torch.float64)
                assert cost[chosen[g, n]] <= cost.min() + 1e-9
        start += size


def test_codewords_are_assigned_to_themselves() -> None:
    codebook = book(2, 6, 4)
    latent = codebook.codewords.transpose(1, 2).reshape(8, 6)
    codes = nearest(codebook, latent)
    assert torch.equal(codes, torch.arange(6).expand(2, 6))
    assert torch.equal(codebook.vectors(codes), latent)


def test_a_single_codeword_is_always_chosen_and_free() -> None:
    config = QuantizerConfig(slices=(4,), groups=(((4, 1),),))
    q = Quantizer(config).double()
    error, features = error_features(random(4, 5), torch.ones(4, 1)), natural(4, 5)
    for codes in (q.nearest(error, 0), q.assign(error, 0, features)):
        assert torch.equal(codes[0], torch.zeros(1, 5, dtype=torch.int64))
        assert q.bits(codes, 0, features) == 0


def test_bits_are_the_cross_entropy() -> None:
    """With the least frequency that the coder adds to all; a codeword without rivals is free."""
    q, features = quantizer(), natural_features(natural(13, 4))
    codes = [torch.arange(4).remainder(b.size).repeat(b.groups, 1) for b in q.at(0)]
    expected, start = 0.0, 0
    for codebook, chosen, size in zip(q.at(0), codes, QUANTIZER.slices, strict=True):
        part = features[start : start + size]
        for g in range(codebook.groups):
            for n in range(4):
                p = math.exp(log_p(codebook, part, g, n)[chosen[g, n]])
                expected -= math.log2(p + 2**-24) if codebook.size > 1 else 0
        start += size
    assert q.bits(codes, 0, features).item() == pytest.approx(expected, rel=1e-12)


def test_slices_must_match_the_groups() -> None:
    with pytest.raises(ValueError, match="zip"):
        Quantizer(QuantizerConfig(slices=(2, 4), groups=(((1, 3),),)))


# Learning by moving averages.


def pair() -> Codebook:
    """One group of two codewords, at 0 and at 10, on a line."""
    codebook = Codebook(1, 2, 1)
    codebook.place(torch.tensor([[[0.0], [10]]]))
    return codebook


def test_codewords_move_and_labels_stay() -> None:
    codebook = pair()
    codebook.update(torch.tensor([[3.0, 1]]), torch.tensor([[[6.0], [20]]]), 0.75, 0.05)
    assert codebook.labels.tolist() == [[[0.0], [10.0]]]


def test_statistics_count_and_sum_the_latents_of_each_codeword() -> None:
    codebook = Codebook(2, 3, 2)
    latent = torch.tensor([[1.0, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]])
    uses, sums = codebook.statistics(latent, torch.tensor([[0, 2, 0], [1, 1, 1]]))
    assert uses.tolist() == [[2, 0, 1], [0, 3, 0]]
    assert sums.tolist() == [[[4, 10], [0, 0], [2, 5]], [[0, 0], [24, 33], [0, 0]]]


def test_codewords_in_use_move_to_their_moving_average() -> None:
    codebook = pair()
    codebook.update(torch.tensor([[3.0, 1]]), torch.tensor([[[6.0], [20]]]), 0.75, 0.05)
    assert codebook.count.tolist() == [[1.5, 1.0]]
    assert codebook.total.tolist() == [[[1.5], [5.0]]]
    assert codebook.codewords.tolist() == [[[1.0], [5.0]]]
    codebook.update(torch.tensor([[0.0, 1]]), torch.tensor([[[0.0], [8]]]), 0.5, 0.05)
    assert codebook.count.tolist() == [[0.75, 1.0]]
    assert codebook.total.tolist() == [[[0.75], [6.5]]]
    assert codebook.codewords.tolist() == [[[1.0], [6.5]]]


def test_codewords_out_of_use_stay() -> None:
    codebook = pair()
    codebook.update(torch.tensor([[4.0, 0]]), torch.tensor([[[10.0], [0]]]), 0.5, 0.5)
    assert codebook.count.tolist() == [[2.5, 0.5]]
    assert codebook.total.tolist() == [[[5.0], [0.0]]]
    assert codebook.codewords.tolist() == [[[2.0], [10.0]]]


def test_update_without_decay_is_a_step_of_k_means() -> None:
    codebook = pair()
    latent = torch.tensor([[1.0, 3, 9, 9, 15]])
    codes = nearest(codebook, latent)
    assert codes.tolist() == [[0, 0, 1, 1, 1]]
    codebook.update(*codebook.statistics(latent, codes), decay=0.0, dead=0.0)
    assert codebook.codewords.tolist() == [[[2.0], [11.0]]]


def planes() -> Codebook:
    """Two groups of three codewords in the plane; the second group's last one is hardly used."""
    codebook = Codebook(2, 3, 2)
    codebook.place(torch.tensor([[[0.0, 0], [1, 0], [0, 1]]]).expand(2, 3, 2))
    codebook.count.copy_(torch.tensor([[1.0, 1, 1], [1, 1, 0.01]]))
    codebook.total.copy_(codebook.count[..., None] * codebook.codewords)
    with torch.no_grad():
        codebook.bias.copy_(torch.tensor([[0.0, 0, 0], [0.5, -2, 3]]))
    return codebook


LATENT = torch.tensor([[0.0, 5, 0], [0, 0, 0], [0, 3, 0], [0, 0, -4]])


def test_a_dead_codeword_moves_to_the_worst_overloaded_latent() -> None:
    codebook = planes()
    codes = torch.zeros(2, 3, dtype=torch.int64)
    assert codebook.reseed(LATENT, codes, dead=0.05, overload=1.5) == 1
    assert codebook.codewords[1].tolist() == [[0, 0], [1, 0], [0, -4]]
    assert torch.equal(codebook.labels[1], codebook.codewords[1])
    assert codebook.count[1].tolist() == pytest.approx([1, 1, 0.1])
    assert codebook.total[1, 2].tolist() == pytest.approx([0, -0.4])
    assert codebook.bias[1].tolist() == [0.5, -2, -2]
    untouched = planes()
    for name in ("codewords", "labels", "count", "total", "bias"):
        assert torch.equal(getattr(codebook, name)[0], getattr(untouched, name)[0])


def test_the_worst_overloaded_latent_is_that_of_the_farthest_channel() -> None:
    codebook, codes = planes(), torch.zeros(2, 2, dtype=torch.int64)
    latent = torch.tensor([[0.0, 0], [0, 0], [3, 4], [3, 0]])
    assert codebook.reseed(latent, codes, dead=0.05, overload=1.5) == 1
    assert codebook.codewords[1, 2].tolist() == [4, 0]


def test_without_overload_no_codeword_is_reseeded() -> None:
    codebook, codes = planes(), torch.zeros(2, 3, dtype=torch.int64)
    assert codebook.reseed(LATENT, codes, dead=0.05, overload=4.0) == 0
    assert torch.equal(codebook.codewords, planes().codewords)
    assert codebook.reseed(LATENT, codes, dead=0.05, overload=3.99) == 1


def test_a_reseeded_codeword_is_used_and_stays_alive() -> None:
    codebook = planes()
    codes = nearest(codebook, LATENT)
    codebook.reseed(LATENT, codes, dead=0.05, overload=1.5)
    codes = nearest(codebook, LATENT)
    assert codes[1, 2] == 2
    codebook.update(*codebook.statistics(LATENT, codes), decay=0.5, dead=0.05)
    assert codebook.codewords[1, 2].tolist() == [0, -4]
    assert codebook.reseed(LATENT, codes, dead=0.05, overload=1.5) == 0


def test_codewords_in_use_are_not_reseeded() -> None:
    codebook = planes()
    before = {name: value.clone() for name, value in codebook.state_dict().items()}
    codes = torch.zeros(2, 3, dtype=torch.int64)
    assert codebook.reseed(LATENT, codes, dead=0.01, overload=1.5) == 0
    for name, value in codebook.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(("size", "dim"), [(3, 1), (1, 2)])
def test_grids_and_single_codewords_are_never_reseeded(size: int, dim: int) -> None:
    codebook = Codebook(2, size, dim)
    codebook.count.zero_()
    before = codebook.codewords.clone()
    latent, codes = torch.full((2 * dim, 3), 9.0), torch.zeros(2, 3, dtype=torch.int64)
    assert codebook.reseed(latent, codes, dead=1.0, overload=1.5) == 0
    assert torch.equal(codebook.codewords, before)


def test_perplexity_is_the_number_of_codewords_in_use() -> None:
    codebook = Codebook(3, 4, 1)
    codebook.count.copy_(torch.tensor([[1.0, 1, 1, 1], [0, 5, 5, 0], [0, 0, 0, 2]]))
    torch.testing.assert_close(codebook.perplexity(), torch.tensor([4.0, 2, 1]))
    assert codebook.usage()[1].tolist() == [0, 0.5, 0.5, 0]
