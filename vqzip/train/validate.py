"""The learning curve: the rate-distortion loss on photos held out of training."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vqzip.model import Model
from vqzip.train import joint, prior_stage, relaxed, vq
from vqzip.train.data import load_rgb
from vqzip.train.loop import Progress, is_first
from vqzip.train.loss import ms_ssim
from vqzip.train.precision import mix_precision
from vqzip.train.rungs import Rung

if TYPE_CHECKING:
    from vqzip.train.presets import Preset

LEVELS = (0.2, 0.5, 0.8)
"""Where on the model's range of rates the loss is measured."""

HEADER = "hours\tcrops\tstage\tquality\tbpp\tpsnr\tloss\tms_ssim\n"


def last_of_curve(curve: Path) -> tuple[float, int]:
    """Hours and crops at the end of a learning curve; nothing if there is none."""
    if not curve.exists():
        return 0.0, 0
    with curve.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return (float(rows[-1]["hours"]), int(rows[-1]["crops"])) if rows else (0.0, 0)


class Validation:
    """Measures a model on the middle of every held-out photo and appends to the curve."""

    def __init__(
        self, photos: list[Path], recipe: Preset, curve: Path, before: Path | None = None
    ) -> None:
        """`before` is the curve of the training that this one goes on from."""
        self.recipe, self.curve = recipe, curve
        if before is not None and before.exists() and not curve.exists() and is_first():
            curve.write_text(before.read_text(encoding="utf-8"), encoding="utf-8")
        self.hours, self.crops_before = (0.0, 0) if before is None else last_of_curve(before)
        size = recipe.data.crop // 64 * 64
        crops = [c for c in (_middle(path, size) for path in photos) if c is not None]
        self.crops = torch.stack(crops) if crops else None

    def of(self, stage: str) -> Callable[[Model, Progress, Callable[[str], None]], None]:
        """What measures the models of a stage."""
        known = {"relaxed": self.relaxed, "vq": self.vq, "prior": self.prior}
        return known.get(stage, self.joint)

    def relaxed(self, model: Model, progress: Progress, say: Callable[[str], None]) -> None:
        """Loss of the relaxed stage: rounding, and the Gaussian prior's bits (an estimate)."""

        def measure(image: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
            out = relaxed.forward(model, image, level)
            return out["image"], out["top"] + out["bottom"]

        self._measure(model, measure, progress, "relaxed", say)

    def joint(self, model: Model, progress: Progress, say: Callable[[str], None]) -> None:
        """Loss of the joint stage: the hard codes' cross-entropy."""

        def measure(image: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
            return joint.reconstruct(model, image, level)

        self._measure(model, measure, progress, "joint", say)

    def vq(self, model: Model, progress: Progress, say: Callable[[str], None]) -> None:
        """Loss of plain VQ-VAEs: nearest codes at a fixed rate, or by static frequencies."""
        static = isinstance(self.recipe, Rung) and self.recipe.static

        def measure(image: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG001
            return vq.reconstruct(model, image, static=static)

        self._measure(model, measure, progress, "vq", say)

    def prior(self, model: Model, progress: Progress, say: Callable[[str], None]) -> None:
        """Loss of a prior that is trained alone: the nearest codes' cross-entropy."""
        one_rate = isinstance(self.recipe, Rung) and self.recipe.one_rate

        def measure(image: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
            at = torch.zeros_like(level) if one_rate else level
            return prior_stage.reconstruct(model, image, at)

        self._measure(model, measure, progress, "prior", say)

    @torch.no_grad()
    def _measure(
        self,
        model: Model,
        measure: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        progress: Progress,
        stage: str,
        say: Callable[[str], None],
    ) -> None:
        if self.crops is None:
            return
        mix_precision(model, False)  # as it will code
        config = model.config.transform
        hours = self.hours + progress.seconds / 3600
        crops = self.crops_before + progress.crops
        losses = []
        lines = []
        one_rate = isinstance(self.recipe, Rung) and self.recipe.one_rate
        for share in (0.0,) if one_rate else LEVELS:
            level = torch.full((len(self.crops),), share * (config.levels - 1))
            decoded, bits = measure(self.crops, level)
            mse = (decoded.clamp(0, 1) - self.crops).square().mean((1, 2, 3))
            psnr = float(-10 * mse.log10().mean())
            bpp = float(bits.mean())
            structure = float(ms_ssim(decoded.clamp(0, 1), self.crops).mean())
            losses.append(float((config.lagrangian(level) * 255**2 * mse + bits).mean()))
            lines.append(
                f"{hours:.3f}\t{crops}\t{stage}\t{share}\t{bpp:.4f}\t{psnr:.3f}\t{losses[-1]:.4f}"
                f"\t{structure:.5f}\n"
            )
        if not self.curve.exists():
            self.curve.write_text(HEADER)
        with self.curve.open("a") as curve:
            curve.writelines(lines)
        shown = "  ".join(f"{loss:.4f}" for loss in losses)
        say(f"held-out loss  {shown}  after {hours:.2f} h")


def _middle(path: Path, size: int) -> Tensor | None:
    try:
        pixels = np.asarray(load_rgb(path))
    except (OSError, ValueError):
        return None
    if min(pixels.shape[:2]) < size:
        return None
    y, x = ((side - size) // 2 for side in pixels.shape[:2])
    crop = pixels[y : y + size, x : x + size]
    return torch.from_numpy(crop.copy()).permute(2, 0, 1).float() / 255
