"""Latents to hard codes in training, and gradients back through the choice.

The choice takes the code that is best by distortion and bits for the latent it is given.  So the
best latent is the one that the picture would be decoded from with the least error if nothing were
rounded, whatever bits then make of it.  Its gradient is that of the distortion at the latent
itself: the decoder's gradient at the code vector (the straight-through estimator, van den Oord et
al. 2017) plus the curvature of the distortion times the distance between the two.  The second term
is the commitment loss with the weights that the choice goes by.  Without it a latent that bits hold
at zero is pushed outwards for ever; with a gradient of its own bits on top, they would count twice.

What a code costs those after it, the choice does not know (`foresight.py` tells it in more passes).
That is as much as distortion: codes that are given, as files have them, pass on its gradient, too,
and the encoder learns to tell things in a way that others can be guessed from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vqzip.prior import PixelCNN
from vqzip.quantizer import Quantizer, error_features, natural_features
from vqzip.train.guess import centre, guess


@dataclass
class Quantized:
    """One map after quantization."""

    vectors: Tensor  # (B, C, H, W), straight-through
    codes: list[list[Tensor]]  # of each sample, of each slice
    bits: Tensor  # (B,) cross-entropy of the codes
    commitment: Tensor  # (B,) bits that the distortion between latents and code vectors is worth


def quantize(
    latent: Tensor,
    weight: Tensor,
    quantizer: Quantizer,
    prior: PixelCNN,
    gain: Tensor,
    level: Tensor,
    condition: Tensor | None,
    codes: list[list[Tensor]] | None = None,
) -> Quantized:
    """Choose codes for latents (B, C, H, W) by distortion and the prior, as the encoder does.

    `weight` (B, C, H, W) is the distortion of a squared code unit, in nats.  Codes that are given,
    for each sample and slice (G, positions), are taken as they are, and latents learn what they
    cost as context.
    """
    b, c, h, w = latent.shape
    nearest = [int(x) for x in level.round()]

    def look_up(codes: list[list[Tensor]]) -> Tensor:
        found = [quantizer.vectors(k, at) for k, at in zip(codes, nearest, strict=True)]
        return torch.stack(found).view(b, c, h, w)

    passed = latent
    if codes is None:
        passed = latent.detach()
        codes = _choose(passed, weight, quantizer, prior, gain, level, condition)
    with torch.no_grad():
        vectors = look_up(codes)
    context = vectors + (passed - passed.detach())  # the vectors to the bit
    expected = prior(context, gain, level, condition).flatten(3)
    bits = [
        quantizer.bits(k, at, natural_features(natural))
        for k, at, natural in zip(codes, nearest, expected, strict=True)
    ]
    distance = latent - vectors
    return Quantized(
        vectors=latent - distance.detach(),
        codes=codes,
        bits=torch.stack(bits),
        commitment=(weight * distance.square()).sum((1, 2, 3)) / math.log(2),
    )


@torch.no_grad()
def _choose(
    latent: Tensor,
    weight: Tensor,
    quantizer: Quantizer,
    prior: PixelCNN,
    gain: Tensor,
    level: Tensor,
    condition: Tensor | None,
) -> list[list[Tensor]]:
    """Codes of all positions at once, in the context of a guess."""
    flat = latent.flatten(2)
    guessed = guess(flat, centre(flat)).view_as(latent)
    expected = prior(guessed, gain, level, condition).flatten(3)
    samples = zip(flat, weight.flatten(2), level.round(), expected, strict=True)
    return [
        quantizer.assign(error_features(z, rows), int(at), natural_features(natural))
        for z, rows, at, natural in samples
    ]
