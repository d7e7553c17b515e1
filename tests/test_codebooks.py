"""The first fit of codebooks: where they start, and how far they reach."""

import copy

import tiny_model
import torch

from vqzip.train.codebooks import CodebookConfig, extremes, fit, prune, widen
from vqzip.train.joint import reconstruct

CONFIG = CodebookConfig()
NOWHERE = torch.zeros(2)


def test_a_slice_that_rounds_to_nothing_is_one_codeword() -> None:
    latent = torch.linspace(-0.4, 0.4, 100).repeat(2, 1)
    book = fit(latent, NOWHERE, CONFIG)
    assert (book.groups, book.size, book.dim) == (1, 1, 2)
    assert not book.codewords.any()


def test_few_points_make_one_group_on_the_lattice() -> None:
    latent = torch.tensor([[0.1, 1.2, -0.9], [0.0, 2.1, 0.2]]).repeat(1, 50)
    book = fit(latent, NOWHERE, CONFIG)
    assert (book.groups, book.size, book.dim) == (1, 3, 2)
    assert {tuple(word) for word in book.codewords[0].tolist()} == {(0, 0), (1, 2), (-1, 0)}


def test_a_grid_reaches_beyond_photos_to_the_farthest_latents() -> None:
    latent = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0)) * 20
    seen = latent.abs().max() * CONFIG.headroom
    for farthest, reach in ((NOWHERE, seen), (torch.tensor([10.0, 140.5]), torch.tensor(140.5))):
        book = fit(latent, farthest, CONFIG)
        last = int(reach.ceil()) + 1
        assert (book.groups, book.dim) == (2, 1)
        assert book.codewords[0, :, 0].tolist() == list(range(-last, last + 1))


def test_extremes_are_black_white_and_full_colours() -> None:
    images = extremes(64)
    assert images.shape == (24, 3, 64, 64)
    assert set(torch.unique(images).tolist()) == {0.0, 1.0}
    colours = {tuple(c) for c in images.movedim(1, 3).reshape(-1, 3).tolist()}
    assert len(colours) == 8


def test_widened_grids_go_on_at_both_ends_and_groups_stay() -> None:
    model = tiny_model.build()
    before = copy.deepcopy(model)
    widen(model)
    wider = 0
    for new, old in zip(model.bottom_quantizer.at(8), before.bottom_quantizer.at(8), strict=True):
        more = (new.size - old.size) // 2
        wider += more > 0
        kept = slice(more, more + old.size)
        assert torch.equal(new.codewords[:, kept], old.codewords)
        assert torch.equal(new.bias[:, kept], old.bias)
        if more:
            assert new.dim == 1
            steps = torch.arange(1, more + 1)
            for ends in ("codewords", "labels"):
                grid, inner = getattr(new, ends)[:, :, 0], getattr(old, ends)[:, :, 0]
                assert torch.equal(grid[:, old.size + more :], inner[:, -1:] + steps)
    assert wider
    image = torch.rand(1, 3, 32, 32)
    assert reconstruct(model, image, torch.zeros(1))[0].shape == image.shape


def test_slices_that_are_practically_never_used_are_not_coded() -> None:
    model = tiny_model.build()
    rare, used = model.bottom_quantizer.at(4)[2:]
    assert (rare.size, used.size) == (15, 2)
    rare.count.fill_(0.0001).select(1, 3).fill_(1)
    used.count.copy_(torch.tensor([[0.99, 0.01]]))
    usual = rare.codewords[0, 3].clone()
    prune(model, CONFIG)
    single, kept = model.bottom_quantizer.at(4)[2:]
    assert (single.groups, single.size, single.dim) == (1, 1, 4)
    assert torch.equal(single.codewords[0, 0], usual)
    assert kept.size == 2
    assert model.config.bottom_quantizer is not None
    assert model.config.bottom_quantizer.groups[4][2] == (4, 1)
