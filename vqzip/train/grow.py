"""A trained model with more latents for each position of the bottom map, as a start for training.

What the first latents leave is lost, however fine they are: at high rates that is most of the
distortion.  The new latents are the next channels of the lapped transform itself, and go back
through the kernels that are best for the picture by least squares.  Everything that there was codes
as before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from vqzip.lapped import lapped_kernels
from vqzip.layers import at_level
from vqzip.model import Model, ModelConfig
from vqzip.train import codebooks
from vqzip.train.codebooks import CodebookConfig
from vqzip.train.sensitivity import sensitivity
from vqzip.vqvae import BOTTOM_STRIDE

MERGED = "transform.decoder_merge.weight"
"""Inputs of this layer are the bottom latents, then what the top map tells."""


@torch.no_grad()
def grow(
    old: Model, config: ModelConfig, batches: Iterator[Tensor], books: CodebookConfig
) -> Model:
    """The model `old` with the latents of `config`, whose first slices are those of `old`."""
    count = old.config.transform.bottom_latents
    model = Model(dataclasses.replace(config, top_quantizer=old.config.top_quantizer))
    _copy(old, model, count)
    images = [next(batches) for _ in range(books.batches)]
    _take_up(model, images[0], count)
    _extend(old, model, images, books)
    return model


def _copy(old: Model, model: Model, count: int) -> None:
    """Fill what `old` has; new latents have no effect yet."""
    grown = model.state_dict()
    for name, value in old.state_dict().items():
        if name.startswith("bottom_quantizer"):
            continue
        new = grown[name]
        if name == MERGED:
            new.zero_()
            new[:, :count] = value[:, :count]
            new[:, -(value.shape[1] - count) :] = value[:, count:]
            continue
        if name == "prior.bottom.context.weight":
            new.zero_()
        new[tuple(slice(size) for size in value.shape)] = value
    t, before = model.transform, old.transform
    t.bottom_project.weight[count:] = 0
    assert t.bottom_project.bias is not None
    t.bottom_project.bias[count:] = 0
    t.bottom_gain[:, count:] = before.bottom_gain.mean(1, keepdim=True)
    t.bottom_ungain[:, count:] = -t.bottom_gain[:, count:]


def _take_up(model: Model, image: Tensor, count: int) -> None:
    """Give new latents the kernels of synthesis that bring the picture nearest."""
    t = model.transform
    level = torch.full((len(image),), float(t.config.levels - 1))
    features = t.features(image, level)
    h = t.decode_top(t.top_latent(features, level), level)
    latent = t.bottom_latent(features, h, level)
    kernels = torch.tensor(lapped_kernels(BOTTOM_STRIDE), dtype=torch.float32)
    t.synthesis.weight[len(kernels) :] = 0
    missing = F.pad(image - t.decode(latent, h, level), (BOTTOM_STRIDE // 2,) * 4, mode="replicate")
    target = F.conv2d(missing, kernels, stride=BOTTOM_STRIDE)
    new = (latent * at_level(t.bottom_ungain, level).exp())[:, count:]
    rows, columns = (x.transpose(0, 1).flatten(1).T for x in (new, target))
    found = torch.linalg.lstsq(rows, columns).solution
    t.synthesis.weight[len(kernels) :] = torch.einsum("ij,jcyx->icyx", found, kernels)


def _extend(old: Model, model: Model, images: list[Tensor], config: CodebookConfig) -> None:
    """Give the new latents codebooks, weights and a prior at their scale."""
    count = old.config.transform.bottom_latents
    slices = model.prior.bottom.config.slices[len(old.prior.bottom.config.slices) :]
    prior, log_gain = model.prior.bottom, model.transform.bottom_gain
    latents, weights, farthest = [], [], []
    for level in range(model.transform.config.levels):
        pairs = [codebooks.latents_of(model, image, level) for image in images]
        tops, bottoms = zip(*pairs, strict=True)
        latents.append(codebooks.channels_first([x[:, count:] for x in bottoms]))
        farthest.append(codebooks.farthest_of(model, level)[1][count:])
        levels = torch.full((len(images[0]),), float(level))
        _, weight = sensitivity(model, tops[0].round(), bottoms[0].round(), levels)
        weights.append(config.caution * weight.mean(0)[count:])
    unit = latents[-1] / log_gain[-1, count:, None].exp()
    prior.scale[count:] = unit.std(1).clamp_min(1e-3)
    prior.log_scale[:, count:] = log_gain[:, count:] + prior.scale[count:].log() - 0.5
    new = torch.stack(weights)
    fitted = codebooks.fit_quantizer(latents, torch.stack(farthest), new, slices, config)
    books = [[*old.bottom_quantizer.at(level), *fitted.at(level)] for level in range(len(latents))]
    quantizer = codebooks.assemble(books, model.prior.bottom.config.slices)
    model.set_bottom(quantizer, torch.cat([old.bottom_weight, new], 1))
