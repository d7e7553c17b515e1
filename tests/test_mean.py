"""The mean of models that one run leads through."""

from __future__ import annotations

import copy

import tiny_model
import torch

from vqzip.train.mean import make_mean

SEEDED = "bottom_quantizer.codebooks.1.0"


@torch.no_grad()
def test_everything_learned_is_the_mean_and_seeded_codewords_are_those_of_the_same_label() -> None:
    start = tiny_model.build()
    models = [start, copy.deepcopy(start), copy.deepcopy(start)]
    for model, offset in zip(models[1:], (3, 6), strict=True):
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and not name.endswith(".labels"):
                tensor.add_(offset)
        model.bottom_quantizer.at(1)[0].labels[0, 2] += 0.5
    *others, last = models
    before, ended = copy.deepcopy(start.state_dict()), copy.deepcopy(last.state_dict())
    make_mean(last, others)

    for name, first in before.items():
        expected = ended[name].clone()
        if not name.endswith((".labels", ".count", ".total")):
            expected = first + 3
        if name in (f"{SEEDED}.codewords", f"{SEEDED}.bias"):
            expected[0, 2] = first[0, 2] + 4.5
        torch.testing.assert_close(last.state_dict()[name], expected)
