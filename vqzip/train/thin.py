"""Codebooks without the codewords that next to nobody needs: every codeword takes time.

Grids reach as far as black, white and full colours do, in steps of one, and most of their codewords
are never used by photos.  A codeword goes if those who use it lose next to nothing with its nearest
neighbour, and that is near for how far out it lies: cells become wider outwards, the error of
what is rare stays a small share of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vqzip.model import Model
from vqzip.quantizer import Codebook, Quantizer
from vqzip.train.codebooks import assemble
from vqzip.train.file_codes import FileEncoder
from vqzip.train.joint import pass_through


@dataclass(frozen=True)
class ThinConfig:
    """Which codewords go."""

    batches: int = 16
    """Batches of crops whose codes are counted, for each level."""
    loss: float = 1e-3
    """What a codeword may be worth, in nats for each position, to go all the same.

    Most that go are worth nothing; held-out photos lost 0.1 % with all of them gone.
    """
    spacing: float = 0.06
    """Distance to the nearest codeword that stays, as a share of that to the most frequent one."""
    group_spacing: float = 0.35
    """The same in groups of several channels: their codewords are those that photos use.

    What is rare in most photos, brightness or colour, may be everywhere in one.
    """


def order_of_removal(
    codewords: Tensor, usage: Tensor, weight: Tensor, config: ThinConfig
) -> list[int]:
    """Which of codewords (K, d) to take away, one after the other.

    usage (K,) are relative frequencies, weight (d,) the distortion of a squared code unit in nats.
    """
    share = config.spacing if codewords.shape[1] == 1 else config.group_spacing
    distance = torch.cdist(codewords, codewords)
    cost = torch.cdist(codewords * weight.sqrt(), codewords * weight.sqrt()).square()
    near = distance <= distance[usage.argmax()][:, None] * share  # of each codeword, the others
    near.fill_diagonal_(False)
    cost.fill_diagonal_(float("inf"))
    gone = torch.zeros(len(codewords), dtype=torch.bool)
    removed: list[int] = []
    while True:
        # All that are gone must go on having one that is near, too.
        choice = near.sum(1)
        last_one = near[gone & (choice == 1)].any(0)
        worth = usage * cost.amin(1)
        worth[gone | last_one | (choice == 0) | (worth > config.loss)] = float("inf")
        least = int(worth.argmin())
        if worth[least] == float("inf"):
            return removed
        removed.append(least)
        gone[least] = True
        near[:, least] = False
        cost[:, least] = float("inf")


@torch.no_grad()
def thinned(book: Codebook, weight: Tensor, config: ThinConfig) -> Codebook:
    """A codebook without those codewords; `weight` (C,) is that of its channels.

    All its groups keep as many, those with least to lose fewer than they might.
    """
    weights = weight.view(book.groups, book.dim)
    groups = zip(book.codewords, book.usage(), weights, strict=True)
    orders = [order_of_removal(*group, config) for group in groups]
    fewer = min(len(order) for order in orders)
    if fewer == 0:
        return book
    thin = Codebook(book.groups, book.size - fewer, book.dim)
    for g, order in enumerate(orders):
        stays = torch.ones(book.size, dtype=torch.bool)
        stays[order[:fewer]] = False
        for new, old in zip(thin.state(), book.state(), strict=True):
            new[g] = old[g, stays]
    return thin


def _add_uses(quantizer: Quantizer, level: int, codes: list[list[Tensor]], latent: Tensor) -> None:
    parts = [torch.split(z.flatten(1), list(quantizer.config.slices)) for z in latent]
    for s, book in enumerate(quantizer.at(level)):
        for part, chosen in zip(parts, codes, strict=True):
            book.count += book.statistics(part[s], chosen[s])[0]


@torch.no_grad()
def count_uses(model: Model, images: list[Tensor], encode: FileEncoder | None = None) -> None:
    """Set the counts of all codewords to what batches of images (B, 3, H, W) use, a batch's mean.

    Codes are those of files if there is something to encode them.
    The moving averages of training remember too few positions to tell what is rare.
    """
    quantizers = model.top_quantizer, model.bottom_quantizer
    for level in range(model.transform.config.levels):
        books = [book for quantizer in quantizers for book in quantizer.at(level)]
        for book in books:
            book.count.zero_()
        for image in images:
            found = pass_through(model, image, torch.full((len(image),), float(level)), encode)
            maps = zip(quantizers, (found.top, found.bottom), found.latents, strict=True)
            for quantizer, quantized, latent in maps:
                _add_uses(quantizer, level, quantized.codes, latent)
        for book in books:
            book.count /= len(images)
            book.total.copy_(book.codewords * book.count[..., None])


@torch.no_grad()
def thin(model: Model, config: ThinConfig) -> None:
    """Take codewords from all codebooks of a model, by their counts."""

    def thinner(quantizer: Quantizer, weight: Tensor) -> Quantizer:
        slices = quantizer.config.slices
        books = []
        for level, row in enumerate(weight):
            pairs = zip(quantizer.at(level), torch.split(row, list(slices)), strict=True)
            books.append([thinned(book, part, config) for book, part in pairs])
        return assemble(books, slices)

    model.set_top(thinner(model.top_quantizer, model.top_weight), model.top_weight.clone())
    model.set_bottom(
        thinner(model.bottom_quantizer, model.bottom_weight), model.bottom_weight.clone()
    )
