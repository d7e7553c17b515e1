"""Fine latents of a trained model brought back to the scale that their codewords had.

Trained on, what makes the fine latents of a model went on growing, by a quarter in 4,500 steps, and
codewords moved with them, away from the labels that the prior knows them by.  A latent's scale is
nobody's business: it is multiplied here, channel by channel, so that latents are as large as those
of the model before, the decoder divides by as much, and codebooks and distortion weights are those
of the model before again.

    python results/rescale.py MODEL BEFORE PHOTOS OUT
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vqzip.integer import Tensors
from vqzip.store import load_tensors, save
from vqzip.train.data import find_photos, load_rgb, split
from vqzip.train.joint import pass_through
from vqzip.train.presets import PRESETS, Preset
from vqzip.train.restore import restore

EVERY = 80  # of the photos, one
LEVELS = (3.0, 6.0)
CORNER, SIDE = 64, 256  # of the part that is looked at


@torch.no_grad()
def energies(folders: list[Path], photos: list[Path], preset: Preset) -> list[Tensor]:
    """Sums of squares of each model's fine latents, by channel."""
    fine = preset.model.transform.fine_latents
    models = [restore(folder, preset.model).eval() for folder in folders]
    sums = [torch.zeros(fine) for _ in models]
    for photo in photos:
        box = (CORNER, CORNER, CORNER + SIDE, CORNER + SIDE)
        pixels = np.asarray(load_rgb(photo).crop(box), np.float32) / 255
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        for level in LEVELS:
            for i, model in enumerate(models):
                latent = pass_through(model, image, torch.tensor([level])).latents[1]
                sums[i] += latent[0, -fine:].flatten(1).square().sum(1)
    return sums


def rescale(tensors: Tensors, scale: Tensor) -> None:
    """Multiply the last latents of the bottom map, which the decoder divides by as much."""
    fine = len(scale)
    for layer in ("analysis", "bottom_project"):
        for kind in ("weight", "bias"):
            name = f"transform.{layer}.{kind}"
            found = tensors[name].astype(np.float32)
            found[-fine:] *= scale.numpy().reshape(-1, *[1] * (found.ndim - 1))
            tensors[name] = found.astype(tensors[name].dtype)
    name = "transform.bottom_ungain"
    ungain = tensors[name].astype(np.float32)
    ungain[:, -fine:] -= scale.log().numpy()
    tensors[name] = ungain.astype(tensors[name].dtype)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("model", "before", "photos", "out"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args()
    preset = PRESETS["photo-longer"]()
    photos, _ = split(find_photos(args.photos), preset.data.holdout)
    now, then = energies([args.model, args.before], photos[5::EVERY], preset)
    (tensors, config), (before, config_before) = map(load_tensors, (args.model, args.before))
    rescale(tensors, (then / now).sqrt())
    fine = len(now)
    weight = tensors["bottom.weight"].copy()
    weight[:, -fine:] = before["bottom.weight"][:, -fine:]
    tensors["bottom.weight"] = weight
    bottom, bottom_before = config["bottom"], config_before["bottom"]
    first = int(np.searchsorted(np.cumsum(bottom["slices"]), sum(bottom["slices"]) - fine)) + 1
    for level, groups in enumerate(bottom["groups"]):
        for i in range(first, len(groups)):
            groups[i] = bottom_before["groups"][level][i]
            for part in ("codewords", "labels", "bias"):
                name = f"bottom.codebook.{level}.{i}.{part}"
                tensors[name] = before[name]
    print(save(tensors, config, args.out).hex())


if __name__ == "__main__":
    main()
