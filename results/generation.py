"""The pictures of docs/generation.md, by the default model, and the page's table.

python results/generation.py

Writes docs/seeds.jpg, docs/temperature.jpg and docs/complete.jpg, and prints the table.  Nothing is
chosen by looks: seeds count from 0.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from statistics import fmean

from PIL import Image

import vqzip
from vqzip import api
from vqzip.codec import CodecModel
from vqzip.container import DEFAULT_MAX_PIXELS
from vqzip.sampling import Drawn
from vqzip.store import load_model

ROOT = Path(__file__).parents[1]
PHOTO = ROOT / "examples" / "photo.png"

SIZE = 256, 192
QUALITIES = 10, 25, 50, 80
SEEDS = range(4)
TEMPERATURES = 0.7, 0.8, 0.9, 1.0
USUAL = 0.8
COMPLETED_QUALITY = 25
GAP = 4  # pixels between pictures


def save(rows: list[list[Image.Image]], name: str) -> None:
    """Write pictures of one size side by side, as a JPEG of the page."""
    width, height = rows[0][0].size
    across, down = len(rows[0]), len(rows)
    size = across * (width + GAP) - GAP, down * (height + GAP) - GAP
    sheet = Image.new("RGB", size, "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            sheet.paste(image, (x * (width + GAP), y * (height + GAP)))
    sheet.save(ROOT / "docs" / name, quality=70, optimize=True)


def draw(model: CodecModel, quality: int, seed: int, temperature: float) -> Drawn:
    """A sample of the page's size."""
    return api.draw(*SIZE, quality, model, seed, temperature, DEFAULT_MAX_PIXELS)


def completions(model: CodecModel) -> list[list[Image.Image]]:
    """The photo, decoded; its top map alone; and that with bottom maps at each temperature."""
    data = vqzip.compress(PHOTO, COMPLETED_QUALITY, model)
    first = [vqzip.decompress(data, model), vqzip.decompress(data, model, preview=True)]
    pictures = [*first, *(vqzip.complete(data, model, temperature=t) for t in TEMPERATURES)]
    width, height = pictures[0].size
    small = iter([p.resize((width * 3 // 4, height * 3 // 4)) for p in pictures])
    return [list(islice(small, 2)) for _ in range(len(pictures) // 2)]


def main() -> None:
    """Draw, write and print."""
    model = load_model(None)
    photo = {q: vqzip.info(vqzip.compress(PHOTO, q, model)).bpp for q in QUALITIES}
    by_seed: list[list[Image.Image]] = []
    by_temperature: list[list[Image.Image]] = []
    print(f"| quality | photo | {' | '.join(f'T = {t}' for t in TEMPERATURES)} |")
    print("| --- |" + " --- |" * (1 + len(TEMPERATURES)))
    for quality in QUALITIES:
        drawn = {t: [draw(model, quality, seed, t) for seed in SEEDS] for t in TEMPERATURES}
        by_seed.append([api.image_of(one) for one in drawn[USUAL]])
        by_temperature.append([api.image_of(several[0]) for several in drawn.values()])
        rates = (fmean(vqzip.info(d.pack()).bpp for d in several) for several in drawn.values())
        cells = " | ".join(f"{bpp:.2f}" for bpp in rates)
        print(f"| {quality} | {photo[quality]:.2f} | {cells} |", flush=True)
    save(by_seed, "seeds.jpg")
    save(by_temperature[1:3], "temperature.jpg")
    save(completions(model), "complete.jpg")


if __name__ == "__main__":
    main()
