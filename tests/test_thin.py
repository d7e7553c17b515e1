"""Codebooks without the codewords that hardly any position uses."""

import copy

import tiny_model
import torch
from torch import Tensor

from vqzip.quantizer import Codebook
from vqzip.train.joint import pass_through
from vqzip.train.thin import ThinConfig, count_uses, order_of_removal, thin, thinned

GRID = torch.arange(-16.0, 17.0)[:, None]
ONE = torch.ones(1)


def kept(usage: Tensor, config: ThinConfig) -> list[float]:
    order = order_of_removal(GRID, usage, ONE, config)
    assert len(set(order)) == len(order)
    return [float(c) for i, c in enumerate(GRID[:, 0]) if i not in order]


def used(*codewords: int) -> Tensor:
    usage = torch.zeros(len(GRID))
    usage[torch.tensor(codewords) + 16] = 1 / len(codewords)
    return usage


def test_cells_of_what_is_never_used_become_wider_outwards() -> None:
    left = kept(used(0), ThinConfig(spacing=0.25))
    assert left == [-12, -7, -4, -3, -2, -1, 0, 1, 2, 3, 6, 11, 16]
    for codeword in GRID[:, 0].tolist():  # of those that went, all have a neighbour near enough
        assert min(abs(codeword - c) for c in left) <= 0.25 * abs(codeword)


def test_codewords_that_are_worth_their_while_stay() -> None:
    everywhere = torch.full((len(GRID),), 1 / len(GRID))
    assert kept(everywhere, ThinConfig(loss=0.03, spacing=0.25)) == GRID[:, 0].tolist()
    assert len(kept(everywhere, ThinConfig(loss=0.031, spacing=0.25))) < len(GRID)
    assert {12, 13} <= set(kept(used(0, 12, 13), ThinConfig(spacing=0.25)))


def test_the_ends_are_not_given_up() -> None:
    pairs = torch.tensor([[0.0, 0.0], [1, 0], [0, 1], [9, 9], [9, 10]])
    usage = torch.tensor([1.0, 0, 0, 0, 0])
    config = ThinConfig(group_spacing=0.35)
    gone = order_of_removal(pairs, usage, torch.ones(2), config)
    assert len(gone) == 1
    assert gone[0] in (3, 4)  # of two far ones that are close together, one is enough


def test_groups_keep_as_many_and_all_that_belongs_to_a_codeword() -> None:
    book = Codebook(2, len(GRID), 1)
    book.place(GRID.expand(2, -1, -1))
    torch.nn.init.normal_(book.bias, generator=torch.Generator().manual_seed(0))
    book.count.copy_(torch.stack([used(0), used(*range(-12, 13))]))
    config = ThinConfig(spacing=0.25)
    thin_book = thinned(book, torch.ones(2), config)
    assert thin_book.groups == 2
    assert thin_book.dim == 1
    alone = [order_of_removal(GRID, u, ONE, config) for u in book.usage()]
    assert thin_book.size == len(GRID) - min(map(len, alone))
    assert len(alone[0]) > len(alone[1]) > 0
    for g in range(2):
        at = (thin_book.codewords[g, :, 0] + 16).long()
        for name in ("labels", "bias", "count", "total"):
            assert torch.equal(getattr(thin_book, name)[g], getattr(book, name)[g, at])


def test_nothing_changes_for_pictures_that_do_not_use_what_goes() -> None:
    model = tiny_model.build()
    image = tiny_model.pictures(2, 64, seed=3)
    count_uses(model, [image])
    positions = image.shape[0] * (64 // 8) ** 2
    for level in (0, 8):
        for book in model.bottom_quantizer.at(level):
            assert torch.equal(book.count.sum(1), torch.full((book.groups,), float(positions)))
    before = copy.deepcopy(model)
    thin(model, ThinConfig(loss=0.0, spacing=0.25))
    fewer = 0
    for level in range(9):
        levels = torch.full((2,), float(level))
        old, new = pass_through(before, image, levels), pass_through(model, image, levels)
        assert torch.equal(new.image, old.image)
        assert (new.bottom.bits <= old.bottom.bits + 1e-2).all()
        sizes = [[b.size for b in m.bottom_quantizer.at(level)] for m in (before, model)]
        fewer += sum(sizes[0]) - sum(sizes[1])
    assert fewer > 100
