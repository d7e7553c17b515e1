"""Latents to hard codes in training, and gradients back through the choice.

The choice takes the code that is best by distortion and bits for the latent it is given.  So the
best latent is the one that the picture would be decoded from with the least error if nothing were
rounded, whatever bits then make of it.  Its gradient is that of the distortion at the latent
itself: the decoder's gradient at the code vector (the straight-through estimator, van den Oord et
al. 2017) plus the curvature of the distortion times the distance between the two.  The second term
is the commitment loss with the weights that the choice goes by.  Without it a latent that bits hold
at zero is pushed outwards for ever; with a gradient of the bits on top, they would count twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vqzip.guess import centre, guess
from vqzip.prior import PixelCNN
from vqzip.quantizer import Quantizer, error_features, natural_features


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
) -> Quantized:
    """Choose codes for latents (B, C, H, W) by distortion and the prior, as the encoder does.

    `weight` (B, C, H, W) is the distortion of a squared code unit, in nats.
    """
    b, c, h, w = latent.shape
    nearest = [int(x) for x in level.round()]
    errors = [
        error_features(z.flatten(1), rows.flatten(1))
        for z, rows in zip(latent.detach(), weight, strict=True)
    ]
    pairs = list(zip(errors, nearest, strict=True))

    def look_up(codes: list[list[Tensor]]) -> Tensor:
        found = [quantizer.vectors(k, at) for k, at in zip(codes, nearest, strict=True)]
        return torch.stack(found).view(b, c, h, w)

    with torch.no_grad():
        flat = latent.flatten(2)
        guessed = guess(flat, centre(flat)).view_as(latent)
        expected = prior(guessed, gain, level, condition).flatten(3)
        codes = [
            quantizer.assign(error, at, natural_features(natural))
            for (error, at), natural in zip(pairs, expected, strict=True)
        ]
        vectors = look_up(codes)
    expected = prior(vectors, gain, level, condition).flatten(3)
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
