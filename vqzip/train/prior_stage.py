"""The prior alone: a PixelCNN for the codes of a model whose transform and codewords stay.

Codes are the nearest ones, the loss is their cross-entropy.  The prior starts at the static
frequencies of the codes.  It tells codewords apart by their labels, which start at the codewords
and are learned like the embeddings that they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vqzip.layers import at_level
from vqzip.model import Model
from vqzip.prior import PixelCNN
from vqzip.quantizer import Quantizer, natural_features, precision
from vqzip.train.loop import Stage
from vqzip.train.vq import nearest_codes


@torch.no_grad()
def start_at_frequencies(quantizer: Quantizer, prior: PixelCNN, log_gain: Tensor) -> None:
    """Have an untrained prior give each codeword its share of `count`, in any context.

    Channels are described by the mean square of their codewords at the highest level.
    """
    spread = []
    for book in quantizer.at(len(quantizer.config.groups) - 1):
        square = (book.usage()[..., None] * book.codewords.square()).sum(1)  # (G, d)
        spread.append(square.flatten().sqrt().clamp_min(0.1))
    deviation = torch.cat(spread)
    prior.scale.copy_(deviation / log_gain[-1].exp())
    prior.log_scale.copy_(deviation.log().expand_as(prior.log_scale))
    # Not uniform: its int8 weights then add up to less than 2^24, however many channels there are.
    fan = prior.context.weight[0].numel()
    nn.init.normal_(prior.context.weight, std=(3 * fan) ** -0.5)
    for head in prior.head_layers():
        head.weight.zero_()
    weights = torch.split(precision(deviation.log()), list(quantizer.config.slices))
    for level in range(len(quantizer.config.groups)):
        for book, weight in zip(quantizer.at(level), weights, strict=True):
            book.labels.copy_(book.codewords)
            at_zero = (weight.view(book.groups, 1, book.dim) * book.labels.square()).sum(2)
            book.bias.copy_(log_frequencies(book.count) + at_zero)


def log_frequencies(count: Tensor) -> Tensor:
    """Logarithms (nats) of the shares of counts (..., K), none of which is taken to be zero."""
    some = count + 0.5
    return (some / some.sum(-1, keepdim=True)).log()


@dataclass
class Coded:
    """Both maps of a batch as their nearest codes: vectors (B, C, H, W), and codes by sample."""

    top: Tensor
    bottom: Tensor
    top_codes: list[list[Tensor]]
    bottom_codes: list[list[Tensor]]
    h: Tensor
    """What the bottom map knows of the top map."""


@torch.no_grad()
def code(model: Model, image: Tensor, level: Tensor) -> Coded:
    """Images (B, 3, H, W) to codes."""
    t = model.transform
    features = t.features(image, level)
    top, top_codes = _nearest(model.top_quantizer, t.top_latent(features, level), level)
    h = t.decode_top(top, level)
    latent = t.bottom_latent(features, h, level)
    bottom, bottom_codes = _nearest(model.bottom_quantizer, latent, level)
    return Coded(top, bottom, top_codes, bottom_codes, h)


def bits(model: Model, coded: Coded, level: Tensor) -> tuple[Tensor, Tensor]:
    """Bits (B,) of both maps' codes."""
    t, prior = model.transform, model.prior
    with torch.no_grad():
        top_gain, gain = at_level(t.top_gain, level).exp(), at_level(t.bottom_gain, level).exp()
    condition = prior.lift(coded.top, top_gain)
    return (
        _bits(model.top_quantizer, prior.top(coded.top, top_gain, level), coded.top_codes, level),
        _bits(
            model.bottom_quantizer,
            prior.bottom(coded.bottom, gain, level, condition),
            coded.bottom_codes,
            level,
        ),
    )


def reconstruct(model: Model, image: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Decoded images and their bits per pixel (B,), codes being the nearest."""
    coded = code(model, image, level)
    total = sum(bits(model, coded, level), start=torch.zeros(len(image)))
    decoded = model.transform.decode(coded.bottom, coded.h, level)
    return decoded, total / (image.shape[-1] * image.shape[-2])


def _nearest(
    quantizer: Quantizer, latent: Tensor, level: Tensor
) -> tuple[Tensor, list[list[Tensor]]]:
    """Nearest code vectors (B, C, H, W) of latents, and their codes by sample."""
    pairs = [(z.flatten(1), int(at)) for z, at in zip(latent, level.round(), strict=True)]
    codes = [nearest_codes(quantizer, z, at) for z, at in pairs]
    vectors = [quantizer.vectors(k, at) for k, (_, at) in zip(codes, pairs, strict=True)]
    return torch.stack(vectors).view_as(latent), codes


def _bits(
    quantizer: Quantizer, natural: Tensor, codes: list[list[Tensor]], level: Tensor
) -> Tensor:
    samples = zip(codes, level.round(), natural, strict=True)
    return torch.stack(
        [quantizer.bits(k, int(at), natural_features(n.flatten(2))) for k, at, n in samples]
    )


class PriorStage(Stage):
    """The stage as the training loop runs it."""

    name = "prior"
    sparse = True

    def __init__(self, model: Model, *, one_rate: bool) -> None:
        """`one_rate`: levels are alike, and only level 0 is trained."""
        super().__init__()
        self.model, self.one_rate = model, one_rate
        model.prior.arithmetic.integer = True
        model.transform.requires_grad_(False)
        for quantizer in (model.top_quantizer, model.bottom_quantizer):
            for level in range(len(quantizer.config.groups)):
                for book in quantizer.at(level):
                    labels = book.labels
                    del book.labels  # a buffer, from here on a parameter of that name
                    book.labels = nn.Parameter(labels)

    def train(self, mode: bool = True) -> PriorStage:
        """Training mode for the prior; the transform gives the codes that it will give."""
        super().train(mode)
        self.model.transform.eval()
        return self

    def forward(self, image: Tensor, level: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Bits per pixel, loss and metric, of a batch (B, 3, H, W) at levels (B,)."""
        at = torch.zeros_like(level) if self.one_rate else level
        top, bottom = bits(self.model, code(self.model, image, at), at)
        pixels = image.shape[-1] * image.shape[-2]
        loss = (top + bottom).mean() / pixels
        return loss, {
            "bpp": float(loss.detach()),
            "top": float(top.detach().mean()) / pixels,
        }
