"""Stage 1: learn transform and prior with noise in place of quantization.

Rates come from the prior's conditional Gaussian over latents with uniform noise, the decoder sees
rounded latents through the straight-through estimator (Balle et al. 2018; Minnen & Singh 2020,
section 3).  This learns the transform fast and no codebook can collapse.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vqzip.layers import at_level
from vqzip.model import Model
from vqzip.quantizer import SMALLEST_SCALE
from vqzip.train.loop import Stage
from vqzip.train.loss import LossConfig, rate_distortion_loss


def gaussian_bits(latent: Tensor, natural: Tensor) -> Tensor:
    """Bits (B, C, H, W) of latents under a Gaussian integrated over cells of width one."""
    mean, scale = natural[:, :, 0], natural[:, :, 1].exp().clamp_min(SMALLEST_SCALE)
    distance = (latent - mean).abs()
    root = math.sqrt(0.5)
    upper = torch.erfc((distance - 0.5) / scale * root)
    lower = torch.erfc((distance + 0.5) / scale * root)
    return -torch.log2((0.5 * (upper - lower)).clamp_min(1e-7))


def quantize(latent: Tensor, training: bool) -> tuple[Tensor, Tensor]:
    """What the prior sees and what the decoder sees of a latent (both shaped as it is)."""
    if not training:
        return latent.round(), latent.round()
    noisy = latent + torch.rand_like(latent) - 0.5
    return noisy, latent + (latent.round() - latent).detach()


def forward(model: Model, image: Tensor, level: Tensor) -> dict[str, Tensor]:
    """Reconstruction (B, 3, H, W) and bits per pixel (B,) of both maps."""
    transform, prior = model.transform, model.prior
    pixels = image.shape[-1] * image.shape[-2]
    features = transform.features(image, level)

    gain = at_level(transform.top_gain, level).exp()
    noisy, rounded = quantize(transform.top_latent(features, level), model.training)
    top_bits = gaussian_bits(noisy, prior.top(noisy, gain, level))
    condition = prior.lift(noisy, gain)
    h = transform.decode_top(rounded, level)

    gain = at_level(transform.bottom_gain, level).exp()
    noisy, rounded = quantize(transform.bottom_latent(features, h, level), model.training)
    bottom_bits = gaussian_bits(noisy, prior.bottom(noisy, gain, level, condition))
    return {
        "image": transform.decode(rounded, h, level),
        "top": top_bits.sum((1, 2, 3)) / pixels,
        "bottom": bottom_bits.sum((1, 2, 3)) / pixels,
    }


class Relaxed(Stage):
    """The stage as the training loop runs it."""

    name = "relaxed"

    def __init__(self, model: Model, config: LossConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(self, image: Tensor, level: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Loss and metrics of a batch (B, 3, H, W) at levels (B,)."""
        out = forward(self.model, image, level)
        loss = rate_distortion_loss(self.model, out, image, level, self.config)
        mse = (out["image"].detach() - image).square().mean((1, 2, 3))
        return loss, {
            "loss": float(loss.detach()),
            "bpp": float((out["top"] + out["bottom"]).detach().mean()),
            "top": float(out["top"].detach().mean()),
            "psnr": float(-10 * mse.log10().mean()),
        }


@torch.no_grad()
def calibrate(model: Model, image: Tensor) -> None:
    """Start the prior at the scales that the untrained transform gives a batch of photos."""
    transform, prior = model.transform, model.prior
    level = torch.full((len(image),), (transform.config.levels - 1) / 2)
    features = transform.features(image, level)
    top = transform.top_latent(features, level)
    h = transform.decode_top(top.round(), level)
    bottom = transform.bottom_latent(features, h, level)
    maps = (
        (top, transform.top_gain, prior.top),
        (bottom, transform.bottom_gain, prior.bottom),
    )
    for latent, log_gain, cnn in maps:
        unit = latent / at_level(log_gain, level).exp()
        deviation = unit.std((0, 2, 3)).clamp_min(1e-3)
        cnn.scale.copy_(deviation)
        cnn.log_scale.copy_(log_gain + deviation.log() - 0.5)
