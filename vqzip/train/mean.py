"""The mean of models that one run of training leads through.

At a learning rate that does not fall, steps go round the bottom of a valley more than down it.  Of
weights that are thousands of steps apart, the mean is lower than any of them (Izmailov et al. 2018,
"Averaging Weights Leads to Wider Optima and Better Generalization").
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vqzip.model import Model
from vqzip.quantizer import Codebook


@torch.no_grad()
def make_mean(model: Model, others: Sequence[Model]) -> None:
    """Make all that a model has learned the mean of its own and that of others.

    Codebooks, too, as weights are used to them.  What has another label in another model was seeded
    again in between and is not the same codeword: it has no part in the mean.
    """
    states = [other.state_dict() for other in others]
    for name, own in model.state_dict().items():
        if own.is_floating_point() and ".codebooks." not in name:
            own.copy_(torch.stack([own, *(state[name] for state in states)]).mean(0))
    for books in zip(*map(_codebooks, (model, *others)), strict=True):
        _mean_codewords(*books)


def _codebooks(model: Model) -> list[Codebook]:
    return [book for book in model.modules() if isinstance(book, Codebook)]


def _mean_codewords(book: Codebook, *others: Codebook) -> None:
    books = book, *others
    same = torch.stack([(one.labels == book.labels).all(2) for one in books])
    share = same / same.sum(0)
    book.codewords.copy_((share[..., None] * torch.stack([b.codewords for b in books])).sum(0))
    book.bias.copy_((share * torch.stack([b.bias for b in books])).sum(0))
