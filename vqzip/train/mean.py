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
    for book, *same in zip(*map(_codebooks, (model, *others)), strict=True):
        _mean_codewords(book, same)


def _codebooks(model: Model) -> list[Codebook]:
    quantizers = model.top_quantizer, model.bottom_quantizer
    return [book for q in quantizers for at in range(len(q.config.groups)) for book in q.at(at)]


def _mean_codewords(book: Codebook, others: Sequence[Codebook]) -> None:
    count = torch.ones_like(book.bias)
    codewords, bias = torch.zeros_like(book.codewords), torch.zeros_like(book.bias)
    for other in others:
        same = (book.labels == other.labels).all(2)
        count += same
        codewords += same[:, :, None] * (other.codewords - book.codewords)
        bias += same * (other.bias - book.bias)
    book.codewords.add_(codewords / count[:, :, None])
    book.bias.add_(bias / count)
