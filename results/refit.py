"""Group codebooks of a trained model made anew on lattice points: how the shipped were mended.

Re-seeding had given away codewords that were rare and good, for latents at the edge: up to 40 % of
the pairs of the second slice at the lowest levels.  The prior knows codewords by their labels, and
these lie on a lattice around which codewords and latents have come to be offset.  So the new
codewords are the lattice points that latents less this offset are nearest to most often; then they
move to the means of the latents that choose them, a few times.

    python results/refit.py MODEL PHOTOS OUT
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from torch import Tensor

from vqzip import store
from vqzip.model import Model
from vqzip.quantizer import Codebook
from vqzip.train.codebooks import assemble, channels_first, on_lattice
from vqzip.train.data import DataConfig, batches, find_photos, split
from vqzip.train.export import export
from vqzip.train.joint import pass_through
from vqzip.train.presets import PRESETS
from vqzip.train.restore import restore

LARGEST = 192  # codewords of a group
SLICES = {0: (0, 2), 1: (0, 1, 2)} | dict.fromkeys((2, 3, 4, 5), (0, 1, 2, 3, 4, 5))
"""By level; with others made anew, held-out photos lost."""

ROUNDS = 3  # of moving codewords to means
START = 4.0  # uses that a codeword is taken to have had at its lattice point


def observed(model: Model, images: list[Tensor], level: int) -> tuple[list[Tensor], list[Tensor]]:
    """Latents (C, N) and codes (G, N) of each slice of the bottom map at a level."""
    latents, codes = [], []
    for image in images:
        found = pass_through(model, image, torch.full((len(image),), float(level)))
        latents.append(found.latents[1])
        codes.append(found.bottom.codes)
    slices = model.bottom_quantizer.config.slices
    of_slices = [
        torch.cat([sample[s] for batch in codes for sample in batch], 1) for s in range(len(slices))
    ]
    return list(torch.split(channels_first(latents), list(slices))), of_slices


def anew(book: Codebook, latent: Tensor, codes: Tensor) -> Codebook:
    """Codebooks on the lattice points that latents (C, N) are nearest to most often."""
    original = (book.labels - book.labels.round()).abs().amax(2) < 1e-3
    uses, _ = book.statistics(latent, codes)
    usual = (uses * original).argmax(1)
    group = torch.arange(book.groups)
    offset = book.codewords[group, usual] - book.labels[group, usual]
    centred = latent.reshape(book.groups, book.dim, -1).transpose(1, 2) - offset[:, None]
    made = on_lattice(centred.round(), LARGEST)
    for g in range(book.groups):
        distance, nearest = torch.cdist(made.labels[g], book.labels[g]).min(1)
        mean = book.bias[g][original[g]].mean()
        made.bias[g] = torch.where(distance < 0.1, book.bias[g][nearest], mean)
    made.codewords.add_(offset[:, None])
    return made


@torch.no_grad()
def refit(model: Model, images: list[Tensor]) -> None:
    """Make the codebooks of SLICES anew."""
    model.prior.arithmetic.integer = True
    books = [list(model.bottom_quantizer.at(level)) for level in range(9)]
    for level, slices in SLICES.items():
        latents, codes = observed(model, images, level)
        for s in slices:
            if books[level][s].dim > 1 and books[level][s].size > 1:
                books[level][s] = anew(books[level][s], latents[s], codes[s])
    quantizer = assemble(books, model.prior.bottom.config.slices)
    model.set_bottom(quantizer, model.bottom_weight.clone())
    for level in list(SLICES) * ROUNDS:
        latents, codes = observed(model, images, level)
        for book, latent, chosen in zip(quantizer.at(level), latents, codes, strict=True):
            if book.size > 1:
                uses, sums = book.statistics(latent, chosen)
                means = (sums + START * book.codewords) / (uses + START)[..., None]
                book.codewords.copy_(means)


def main() -> None:
    """Read a model, write the mended one."""
    parser = argparse.ArgumentParser(description=__doc__)
    for folder in ("model", "photos", "out"):
        parser.add_argument(folder, type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = restore(options.model, PRESETS["photo-joint"]().model).eval()
    photos, _ = split(find_photos(options.photos), DataConfig().holdout)
    crops = batches(photos, DataConfig(), seed=3)
    refit(model, [next(crops) for _ in range(8)])
    name = store.save(*export(model), options.out)
    shutil.copy(options.model / "curve.tsv", options.out)
    print(f"model {name.hex()} is in {options.out}")


if __name__ == "__main__":
    main()
