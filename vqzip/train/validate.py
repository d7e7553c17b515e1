"""The learning curve: the rate-distortion loss on photos held out of training.

On whole photos.  On their middles, as large as training's crops, one model was 4 to 7 % better than
another that was 6 % better in files.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vqzip.model import Model
from vqzip.similarity import ms_ssim
from vqzip.train import joint, prior_stage, relaxed, vq
from vqzip.train.data import load_rgb
from vqzip.train.file_codes import FileEncoder
from vqzip.train.loop import Progress, is_first
from vqzip.train.precision import mix_precision
from vqzip.train.rungs import Rung

if TYPE_CHECKING:
    from vqzip.train.presets import Preset

LEVELS = (0.2, 0.5, 0.8)
"""Where on the model's range of rates the loss is measured."""

PHOTOS = 10
"""How many of the held-out photos are measured at most, evenly spaced."""

MULTIPLE = 64
"""Sides are cut to this, for all scales of MS-SSIM to fit."""

HEADER = "hours\tcrops\tstage\tquality\tbpp\tpsnr\tloss\tms_ssim\n"


def last_of_curve(curve: Path) -> tuple[float, int]:
    """Hours and crops at the end of a learning curve; nothing if there is none."""
    if not curve.exists():
        return 0.0, 0
    with curve.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return (float(rows[-1]["hours"]), int(rows[-1]["crops"])) if rows else (0.0, 0)


class Validation:
    """Measures a model on held-out photos and appends to the curve."""

    def __init__(
        self, photos: list[Path], recipe: Preset, curve: Path, before: Path | None = None
    ) -> None:
        """`before` is the curve of the training that this one goes on from."""
        self.recipe, self.curve = recipe, curve
        if before is not None and before.exists() and not curve.exists() and is_first():
            curve.write_text(before.read_text(encoding="utf-8"), encoding="utf-8")
        self.hours, self.crops_before = (0.0, 0) if before is None else last_of_curve(before)
        self.photos = photos[:: max(1, len(photos) // PHOTOS)]

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
        own = isinstance(self.recipe, Rung) or not self.recipe.joint.file_codes
        encode = None if own else FileEncoder(model)

        def measure(image: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
            return joint.reconstruct(model, image, level, encode)

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
        photos = [photo for photo in map(_whole, self.photos) if photo is not None]
        if not photos:
            return
        mix_precision(model, False)  # as it will code
        config = model.config.transform
        hours = self.hours + progress.seconds / 3600
        crops = self.crops_before + progress.crops
        losses = []
        lines = []
        one_rate = isinstance(self.recipe, Rung) and self.recipe.one_rate
        for share in (0.0,) if one_rate else LEVELS:
            level = torch.tensor([share * (config.levels - 1)])
            lam = float(config.lagrangian(level))
            found = [_figures(measure, photo, level) for photo in photos]
            bpp, mse, psnr, structure = torch.tensor(found).mean(0).tolist()
            losses.append(lam * 255**2 * mse + bpp)
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


def _figures(
    measure: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], photo: Tensor, level: Tensor
) -> tuple[float, float, float, float]:
    """Bits per pixel, mean squared error, PSNR and MS-SSIM of a photo."""
    decoded, bits = measure(photo, level)
    decoded = decoded.clamp(0, 1)
    mse = (decoded - photo).square().mean()
    return float(bits), float(mse), float(-10 * mse.log10()), float(ms_ssim(decoded, photo))


def _whole(path: Path) -> Tensor | None:
    """A photo (1, 3, H, W), or None if it is unreadable or too small to measure."""
    try:
        pixels = np.asarray(load_rgb(path))
    except (OSError, ValueError):
        return None
    height, width = (side // MULTIPLE * MULTIPLE for side in pixels.shape[:2])
    if min(height, width) < MULTIPLE:
        return None
    cut = torch.from_numpy(pixels[:height, :width].copy())
    return cut.permute(2, 0, 1)[None].float() / 255
