"""What is minimised: distortion and bits, over levels and two kinds of distortion."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vqzip.model import Model
from vqzip.similarity import ms_ssim


@dataclass(frozen=True)
class LossConfig:
    """Weight of the levels against each other, and of the kinds of distortion."""

    level_balance: float = 0.35
    """Samples are weighted by lambda^-level_balance, so that no level dominates."""
    reference_lambda: float = 0.01
    structure: float = 200.0
    """Weight of 1 - MS-SSIM beside 255^2 * MSE; a model for MS-SSIM alone would take 1280."""


def rate_distortion_loss(
    model: Model, out: dict[str, Tensor], image: Tensor, level: Tensor, config: LossConfig
) -> Tensor:
    """`lambda (255^2 MSE + structure (1 - MS-SSIM)) + bits per pixel`, levels balanced; a scalar.

    `out` has the decoded "image" (B, 3, H, W) and the bits per pixel "top" and "bottom" (B,).
    """
    lam = model.transform.config.lagrangian(level)
    distortion = 255**2 * (out["image"] - image).square().mean((1, 2, 3))
    if config.structure:
        distortion = distortion + config.structure * (1 - ms_ssim(out["image"], image))
    loss = lam * distortion + out["top"] + out["bottom"]
    return (loss * (config.reference_lambda / lam) ** config.level_balance).mean()
