"""Distortion weights of a trained model as lines over the levels, and calibrated on.

Weights that were calibrated level by level are uneven: a level's neighbours may count an error five
times as much, and files of single pictures are larger than at the next quality.  Here their ratios
to the weights of the model BEFORE calibration become lines (of logarithms, channel by channel, by
least squares), which is what `train/calibrate.py` finds by now, and go on from there.

    torchrun --nproc-per-node 2 results/steady.py MODEL BEFORE PHOTOS OUT
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray

from vqzip.store import assemble, load_tensors, save
from vqzip.train.calibrate import CalibrateConfig, calibrate
from vqzip.train.data import find_photos, split
from vqzip.train.loop import is_first
from vqzip.train.presets import PRESETS

CALIBRATED = range(1, 8)  # levels; the lowest and the highest had not been
CONFIG = CalibrateConfig(steps=(1.3,))


def steady(weight: NDArray[np.float32], before: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights (levels, channels) with ratios to those before that lie on lines."""
    ratio = np.log(weight / before)[list(CALIBRATED)]
    slope, middle = np.polyfit(CALIBRATED, ratio, 1)
    lines = np.outer(np.arange(len(weight)), slope) + middle
    found: NDArray[np.float32] = (before * np.exp(lines)).astype(np.float32)
    return found


def say(text: str) -> None:
    """Tell how far it is, once."""
    if is_first():
        print(text, flush=True)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("model", "before", "photos", "out"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args()
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group("gloo")
    (tensors, config), (before, _) = map(load_tensors, (args.model, args.before))
    names = "top.weight", "bottom.weight"
    for name in names:
        tensors[name] = steady(tensors[name].astype(np.float32), before[name].astype(np.float32))
    photos, _ = split(find_photos(args.photos), PRESETS["photo"]().data.holdout)
    found = calibrate(assemble(tensors, config), photos, CONFIG, say)
    for name, weight in zip(names, found, strict=True):
        tensors[name] = weight
    if is_first():
        print(save(tensors, config, args.out).hex())
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
