"""Stage 3: the VQ-VAE proper, everything trained together on hard codes.

Codes are chosen as the encoder chooses them, by distortion plus the prior's bits; the decoder sees
codewords through the straight-through estimator; codebooks follow by moving averages, the latents
are drawn to them by the commitment loss; the prior learns on the codes' true cross-entropy, in the
arithmetic that the integer network will have.  The encoder feels the rate through the expected
bits of a soft choice of codeword.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from vqzip.model import Model
from vqzip.prior import PixelCNN
from vqzip.quantizer import Codebook, Quantizer, error_features, natural_features
from vqzip.train.loop import Stage
from vqzip.train.relaxed import LossConfig, rate_distortion_loss
from vqzip.vqvae import at_level


@dataclass(frozen=True)
class JointConfig:
    """Weights of the joint loss."""

    loss: LossConfig = field(default_factory=LossConfig)
    commitment: float = 0.05
    """Bits for a squared code unit between latent and codeword, beta in the VQ-VAE loss."""
    temperature: float = 0.35
    """Of the soft choice, in code units; at this one bits rise about linearly between codes."""
    train_encoder: bool = True
    """If not, only what comes after the codes is trained: codebooks, prior and decoder."""


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

    with torch.no_grad():
        vectors = look_up([quantizer.nearest(error, at) for error, at in pairs])
        expected = prior(vectors, gain, level, condition).flatten(3)
        codes = [
            quantizer.assign(error, at, natural_features(natural))
            for (error, at), natural in zip(pairs, expected, strict=True)
        ]
        vectors = look_up(codes)
    through = latent + (vectors - latent).detach()
    natural = prior(through, gain, level, condition)
    bits = [
        quantizer.bits(k, at, natural_features(n.flatten(2)))
        for k, at, n in zip(codes, nearest, natural, strict=True)
    ]
    if not latent.requires_grad:
        nothing = torch.zeros(b)
        return Quantized(through, codes, torch.stack(bits), nothing, nothing)
    slope = torch.stack(
        [
            quantizer.rate_gradient(z.flatten(1), at, natural_features(n.flatten(2)), temperature)
            for z, at, n in zip(latent.detach(), nearest, natural.detach(), strict=True)
        ]
    )
    return Quantized(
        vectors=through,
        codes=codes,
        bits=torch.stack(bits),
        soft_bits=(latent * slope.view_as(latent)).sum((1, 2, 3)),
        commitment=(latent - vectors).square().sum((1, 2, 3)),
    )


@dataclass
class Result:
    """A batch after both maps' quantization."""

    image: Tensor
    top: Quantized
    bottom: Quantized
    latents: tuple[Tensor, Tensor]


def pass_through(model: Model, image: Tensor, level: Tensor, temperature: float) -> Result:
    """Images (B, 3, H, W) through encoder, quantizers, priors and decoder."""
    t, prior = model.transform, model.prior
    features = t.features(image, level)

    top_latent = t.top_latent(features, level)
    gain = at_level(t.top_gain, level).exp()
    weight = at_level(model.top_weight.log(), level).exp()
    top = quantize(
        top_latent, weight, model.top_quantizer, prior.top, gain, level, None, temperature
    )
    condition = prior.lift(top.vectors, gain)
    h = t.decode_top(top.vectors, level)

    latent = t.bottom_latent(features, h, level)
    gain = at_level(t.bottom_gain, level).exp()
    weight = at_level(model.bottom_weight.log(), level).exp()
    bottom = quantize(
        latent, weight, model.bottom_quantizer, prior.bottom, gain, level, condition, temperature
    )
    return Result(t.decode(bottom.vectors, h, level), top, bottom, (top_latent, latent))


def reconstruct(
    model: Model, image: Tensor, level: Tensor, config: JointConfig
) -> tuple[Tensor, Tensor]:
    """Decoded images and their bits per pixel (B,)."""
    result = pass_through(model, image, level, config.temperature)
    pixels = image.shape[-1] * image.shape[-2]
    return result.image, (result.top.bits + result.bottom.bits) / pixels


def forward(
    model: Model, image: Tensor, level: Tensor, config: JointConfig
) -> tuple[Tensor, dict[str, float]]:
    """Loss and metrics of a batch; in training mode the codebooks move, too."""
    result = pass_through(model, image, level, config.temperature)
    top, bottom = result.top, result.bottom
    if model.training:
        maps = (
            (model.top_quantizer, result.latents[0], top.codes),
            (model.bottom_quantizer, result.latents[1], bottom.codes),
        )
        for quantizer, latent, codes in maps:
            move_codebooks(quantizer, latent, codes, level)

    pixels = image.shape[-1] * image.shape[-2]
    out = {"image": result.image, "top": top.bits / pixels, "bottom": bottom.bits / pixels}
    true = rate_distortion_loss(model, out, image, level, config.loss)
    lam = model.transform.config.lagrangian(level)
    balance = (config.loss.reference_lambda / lam) ** config.loss.level_balance
    extra = top.soft_bits + bottom.soft_bits
    extra = extra + config.commitment * (top.commitment + bottom.commitment)
    loss = true + (extra / pixels * balance).mean()
    mse = (result.image.detach() - image).square().mean((1, 2, 3))
    used = [
        book.perplexity().mean()
        for book in model.bottom_quantizer.modules()
        if isinstance(book, Codebook) and book.size > 1
    ]
    return loss, {
        "loss": float(true.detach()),
        "bpp": float((out["top"] + out["bottom"]).mean().detach()),
        "top": float(out["top"].mean().detach()),
        "psnr": float(-10 * mse.log10().mean()),
        "perplexity": float(torch.stack(used).mean()),
    }


class Joint(Stage):
    """The stage as the training loop runs it."""

    name = "joint"
    sparse = True

    def __init__(self, model: Model, config: JointConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        model.prior.arithmetic.integer = True
        if not config.train_encoder:
            model.transform.freeze_encoder()

    def forward(self, image: Tensor, level: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Loss and metrics of a batch (B, 3, H, W) at levels (B,)."""
        return forward(self.model, image, level, self.config)


@torch.no_grad()
def move_codebooks(
    quantizer: Quantizer,
    latent: Tensor,
    codes: list[list[Tensor]],
    level: Tensor,
) -> None:
    """Moving averages and re-seeding from a batch; sums are shared among processes."""
    config = quantizer.config
    slices = list(config.slices)
    nearest = [int(x) for x in level.round()]
    for at in range(len(config.groups)):
        samples = [i for i, x in enumerate(nearest) if x == at]
        if not samples and not dist.is_initialized():
            continue
        parts = [torch.split(latent[i].flatten(1), slices) for i in samples]
        for s, book in enumerate(quantizer.at(at)):
            pairs = [(part[s], codes[i][s]) for part, i in zip(parts, samples, strict=True)]
            uses, sums = torch.zeros_like(book.count), torch.zeros_like(book.total)
            for part, chosen in pairs:
                more_uses, more_sums = book.statistics(part, chosen)
                uses += more_uses
                sums += more_sums
            if dist.is_initialized():
                dist.all_reduce(uses)
                dist.all_reduce(sums)
            if book.size == 1 or not uses.any():
                continue
            book.update(uses, sums, config.decay, config.dead_count)
            for part, chosen in pairs:
                book.reseed(part, chosen, config.dead_count, config.overload)
            if dist.is_initialized() and book.dim > 1:  # the first process's seeds are everyone's
                state = (book.codewords, book.labels, book.count, book.total, book.bias.data)
                for tensor in state:
                    dist.broadcast(tensor, 0)
