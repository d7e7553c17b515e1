"""Photos from a folder to an endless stream of training crops."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif"}


@dataclass(frozen=True)
class DataConfig:
    """How crops are drawn."""

    crop: int = 192
    batch: int = 8
    smallest_scale: float = 0.55
    crops_per_photo: int = 6
    pool: int = 400
    """Crops held in memory and drawn from at random, so that a batch mixes many photos."""
    holdout: int = 40
    """Photos kept out for validation, evenly spaced over the sorted list."""


def find_photos(folder: Path) -> list[Path]:
    """All picture files below `folder`, sorted."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


def split(photos: list[Path], holdout: int) -> tuple[list[Path], list[Path]]:
    """Training and validation photos; nothing is held out of a folder that is too small for it."""
    if len(photos) < 4 * holdout or holdout == 0:
        return photos, []
    held = {photos[(2 * i + 1) * len(photos) // (2 * holdout)] for i in range(holdout)}
    return [p for p in photos if p not in held], sorted(held)


def load_rgb(path: Path) -> Image.Image:
    """A photo as it is meant to be seen: EXIF rotation applied, RGB."""
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image)
        return upright.convert("RGB")


class Crops(IterableDataset[Tensor]):
    """Endless random crops (3, crop, crop), uint8: random scale, place and mirroring."""

    def __init__(self, photos: list[Path], config: DataConfig, seed: int) -> None:
        self.photos, self.config, self.seed = photos, config, seed

    def _from_photo(self, path: Path, rng: random.Random) -> list[np.ndarray]:
        size = self.config.crop
        image = load_rgb(path)
        scale = max(rng.uniform(self.config.smallest_scale, 1.0), (size + 1) / min(image.size))
        if scale != 1:
            width, height = (max(size, round(side * scale)) for side in image.size)
            image = image.resize((width, height), Image.Resampling.BICUBIC)
        pixels = np.asarray(image)
        crops = []
        for _ in range(self.config.crops_per_photo):
            y = rng.randrange(pixels.shape[0] - size + 1)
            x = rng.randrange(pixels.shape[1] - size + 1)
            crop = pixels[y : y + size, x : x + size]
            crops.append(crop[:, ::-1] if rng.random() < 0.5 else crop)
        return crops

    def __iter__(self) -> Iterator[Tensor]:
        worker = torch.utils.data.get_worker_info()
        rng = random.Random(f"{self.seed}/{worker.id if worker else 0}")
        pool: list[np.ndarray] = []
        unreadable: set[Path] = set()
        while True:
            path = rng.choice(self.photos)
            try:
                fresh = self._from_photo(path, rng)
            except (OSError, ValueError, Image.DecompressionBombError):
                if path not in unreadable:
                    unreadable.add(path)
                    click.echo(f"vqzip: {path}: skipped, unreadable ({len(unreadable)})", err=True)
                if len(unreadable) == len(self.photos):
                    return
                continue
            for crop in fresh:
                if len(pool) < self.config.pool:
                    pool.append(crop.copy())
                    continue
                index = rng.randrange(len(pool))
                yield torch.from_numpy(pool[index]).permute(2, 0, 1)
                pool[index] = crop.copy()


def batches(photos: list[Path], config: DataConfig, seed: int) -> Iterator[Tensor]:
    """Endless batches (batch, 3, crop, crop), float in [0, 1], decoded ahead in a worker."""
    loader = DataLoader(
        Crops(photos, config, seed), batch_size=config.batch, num_workers=1, prefetch_factor=8
    )
    for batch in loader:
        yield batch.float().div_(255)
