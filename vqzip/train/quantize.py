"""Latents to hard codes in training, and gradients back through the choice.

The straight-through estimator passes the decoder's gradient on as if the latent itself had been
decoded.  That is right on a dense lattice, and wrong where no other codeword is near: the latent is
then pushed away from its codeword for ever, with no effect but on its neighbours.  So the gradient
here is that of a soft choice at a low temperature (Agustsson et al. 2017, "Soft-to-hard vector
quantization"), of distortion and of bits: on a unit lattice it is the straight-through one on
average, and it ends where the codebook does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vqzip.prior import PixelCNN
from vqzip.quantizer import Quantizer, error_features, natural_features


@dataclass
class Quantized:
    """One map after quantization."""

    vectors: Tensor  # (B, C, H, W), straight-through
    codes: list[list[Tensor]]  # of each sample, of each slice
    bits: Tensor  # (B,) true cross-entropy of the codes
    soft_bits: Tensor  # (B,) of no meaning but for its gradient in the latents
    commitment: Tensor  # (B,)


def quantize(
    latent: Tensor,
    weight: Tensor,
    quantizer: Quantizer,
    prior: PixelCNN,
    gain: Tensor,
    level: Tensor,
    condition: Tensor | None,
    temperature: float,
) -> Quantized:
    """Choose codes for latents (B, C, H, W): the nearest, then by distortion and the prior."""
    b, c, h, w = latent.shape
    nearest = [int(x) for x in level.round()]
    errors = [
        error_features(z.flatten(1), row)
        for z, row in zip(latent.detach(), weight[:, :, 0, 0], strict=True)
    ]
    pairs = list(zip(errors, nearest, strict=True))

    def look_up(codes: list[list[Tensor]]) -> Tensor:
        found = [quantizer.vectors(k, at) for k, at in zip(codes, nearest, strict=True)]
        return torch.stack(found).view(b, c, h, w)

    def true_bits(natural: Tensor) -> Tensor:
        bits = [
            quantizer.bits(k, at, natural_features(n.flatten(2)))
            for k, at, n in zip(codes, nearest, natural, strict=True)
        ]
        return torch.stack(bits)

    with torch.no_grad():
        vectors = look_up([quantizer.nearest(error, at) for error, at in pairs])
        expected = prior(vectors, gain, level, condition).flatten(3)
        codes = [
            quantizer.assign(error, at, natural_features(natural))
            for (error, at), natural in zip(pairs, expected, strict=True)
        ]
        vectors = look_up(codes)
    if not latent.requires_grad:
        natural = prior(vectors, gain, level, condition)
        bits = true_bits(natural)
        nothing = torch.zeros(b)
        return Quantized(vectors, codes, bits, nothing, nothing)
    soft = [
        quantizer.soft_choice(z.flatten(1), at, temperature)
        for z, at in zip(latent.detach(), nearest, strict=True)
    ]

    def soft_gradient(costs: Callable[[int], list[Tensor]]) -> Tensor:
        """Gradient in the latents of what choosing each codeword costs, by sample."""
        gradients = [
            quantizer.choice_gradient(q, costs(i), at, temperature)
            for i, (q, at) in enumerate(zip(soft, nearest, strict=True))
        ]
        return torch.stack(gradients).view(b, c, h, w)

    def back(slope: Tensor) -> Tensor:
        return soft_gradient(lambda i: quantizer.code_distortion(nearest[i], slope[i].flatten(1)))

    through: Tensor = _Choice.apply(latent, vectors, back)  # type: ignore[no-untyped-call]
    natural = prior(through, gain, level, condition)
    features = [natural_features(n.flatten(2)) for n in natural.detach()]
    slope = soft_gradient(lambda i: quantizer.code_bits(nearest[i], features[i]))
    return Quantized(
        vectors=through,
        codes=codes,
        bits=true_bits(natural),
        soft_bits=(latent * slope).sum((1, 2, 3)),
        commitment=(latent - vectors).square().sum((1, 2, 3)),
    )


class _Choice(torch.autograd.Function):
    """Latents to the code vectors chosen for them, with a gradient of one's own."""

    @staticmethod
    def forward(
        ctx: Any,
        latent: Tensor,  # noqa: ARG004
        vectors: Tensor,
        back: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """The vectors; `back` takes the gradient in them to that in the latents."""
        ctx.back = back
        return vectors.view_as(vectors)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        """The gradient in the latents; what the latents were chosen from has none."""
        return ctx.back(slope), None, None
