"""What --effort costs in time and gains in rate.

    python results/effort.py FOLDER [--model DIR] [--out DIR] [--pictures N]
        [--qualities 15,35,...] [--efforts 0,1,...] [--jobs N]

Writes effort.tsv, a row for each effort and quality, and effort.md, the table of the README.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path
from statistics import fmean, median

from vqzip.process import prepare

prepare()

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402
from plot import markdown  # noqa: E402

from vqzip import api  # noqa: E402
from vqzip.bench.crops import evenly  # noqa: E402
from vqzip.bench.metrics import decibel, ms_ssim, psnr  # noqa: E402
from vqzip.bench.rates import Point, bd_rate  # noqa: E402
from vqzip.image import load  # noqa: E402
from vqzip.quality import DEFAULT_EFFORT  # noqa: E402
from vqzip.rate import Rate  # noqa: E402
from vqzip.store import load_model  # noqa: E402


@dataclass(frozen=True)
class Row:
    """Means over pictures; of the seconds, which are those of all threads, the median."""

    effort: int
    quality: int
    bpp: float
    psnr: float
    ms_ssim: float  # dB
    seconds: float


model_in = functools.cache(load_model)


def begin(folder: Path | None) -> None:
    """Do once in a process what takes its time but once."""
    api.compress(Image.new("RGB", (64, 64)), model=model_in(folder))


def measure(name: str, folder: Path | None, effort: int, quality: int) -> tuple[float, ...]:
    """Bits per pixel, PSNR, MS-SSIM and seconds of a picture with the model in a folder."""
    picture, model = load(name), model_in(folder)
    start = time.process_time()
    data = api.compress_picture(picture, Rate(quality), model, effort)
    seconds = time.process_time() - start
    pair = picture.pixels, np.asarray(api.decompress(data, model).convert("RGB"))
    bpp = 8 * len(data) / picture.pixels[..., 0].size
    return bpp, psnr(*pair), decibel(ms_ssim(*pair)), seconds


def table(rows: list[Row], efforts: list[int]) -> list[list[str]]:
    """A line for each effort."""
    groups = {effort: [row for row in rows if row.effort == effort] for effort in efforts}
    curves = {e: [Point(r.quality, r.bpp, r.psnr) for r in g] for e, g in groups.items()}
    similar = {e: [Point(r.quality, r.bpp, r.ms_ssim) for r in g] for e, g in groups.items()}
    head = [f"BD-rate against {DEFAULT_EFFORT}, PSNR", "MS-SSIM"]
    lines = [["effort", "seconds to encode", *head, "larger and worse than above, at qualities"]]
    above = curves[efforts[0]]
    for effort, group in groups.items():
        worse = [
            f"{here.setting:g}"
            for here, there in zip(curves[effort], above, strict=True)
            if here.bpp > there.bpp and here.value < there.value
        ]
        above = curves[effort]
        seconds = f"{median(row.seconds for row in group):.2f}"
        rates = (str(bd_rate(kind[DEFAULT_EFFORT], kind[effort])) for kind in (curves, similar))
        lines.append([str(effort), seconds, *rates, ", ".join(worse) or "none"])
    return lines


def numbers(text: str) -> list[int]:
    """Of a list with commas, in order."""
    return sorted({int(part) for part in text.split(",")})


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--pictures", type=int, help="so many, spread evenly; without it, all")
    parser.add_argument("--qualities", type=numbers, default=[15, 35, 65, 90])
    parser.add_argument("--jobs", type=int, default=1, help="pictures that are worked on at once")
    parser.add_argument("--efforts", type=numbers, default=list(range(10)))
    arguments = parser.parse_args()
    if DEFAULT_EFFORT not in arguments.efforts:
        parser.error(f"effort {DEFAULT_EFFORT} has to be among --efforts")
    names = [str(path) for path in sorted(arguments.folder.glob("*.png"))]
    pictures = evenly(names, arguments.pictures or len(names))
    rows = []
    pool = Pool(arguments.jobs, begin, (arguments.model,))
    with pool, (arguments.out / "effort.tsv").open("w", encoding="utf-8") as file:
        file.write("effort\tquality\tbpp\tpsnr\tms_ssim_db\tseconds\n")
        for effort in arguments.efforts:
            for quality in arguments.qualities:
                tasks = [(name, arguments.model, effort, quality) for name in pictures]
                found = pool.starmap(measure, tasks, chunksize=1)
                bpp, plain, similar, seconds = zip(*found, strict=True)
                means = fmean(bpp), fmean(plain), fmean(similar)
                row = Row(effort, quality, *means, median(seconds))
                print(row, file=sys.stderr)
                rows.append(row)
                file.write(f"{effort}\t{quality}\t{row.bpp:.6f}\t{row.psnr:.4f}")
                file.write(f"\t{row.ms_ssim:.4f}\t{row.seconds:.3f}\n")
    qualities = ", ".join(map(str, arguments.qualities))
    about = (
        f"Model `{model_in(arguments.model).fingerprint.hex()}`, "
        f"{len(pictures)} of the {len(names)} pictures in `{arguments.folder.name}`, "
        f"qualities {qualities}.\n"
        "Seconds are those of the processor, all threads together, medians over pictures and "
        "qualities;\nBD-rates are of means over pictures.\n\n"
    )
    text = about + markdown(table(rows, arguments.efforts)) + "\n"
    (arguments.out / "effort.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
