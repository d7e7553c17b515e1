"""What the ladder's models do to pictures: rate and quality, and which codes they use."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vqzip.bench.codecs import all_codecs
from vqzip.bench.rows import Row, RowFile
from vqzip.bench.run import Failure, Task, measure
from vqzip.encoding import analyse
from vqzip.image import load
from vqzip.latents import Search
from vqzip.quality import level_of_quality
from vqzip.store import load_model

ONE_RATE = (50,)
FIVE_RATES = (50, 100, 1, 75, 26)
"""In the order in which they are measured: an interrupted run soon has something of a curve."""


@dataclass(frozen=True)
class Usage:
    """How a model codes one map of all pictures at one quality.

    Attributes:
        model: Name of the preset.
        fingerprint: Of the model.
        setting: Quality.
        map: `top` or `bottom`.
        size: Codewords of a codebook.
        codebooks: How many there are.
        pixels: Of all pictures.
        codes: Of all pictures.
        static_bits: Their entropy if each codebook's frequencies in these very pictures are known.
        perplexity: Mean over the codebooks of 2 to that entropy.
        dead: Codewords that no picture uses, a mean over the codebooks.
    """

    model: str
    fingerprint: str
    setting: int
    map: str
    size: int
    codebooks: int
    pixels: int
    codes: int
    static_bits: float
    perplexity: float
    dead: float


def settings(folder: Path) -> tuple[int, ...]:
    """Qualities that show all that a model has to offer."""
    levels = json.loads((folder / "config.json").read_text())["transform"]["levels"]
    return ONE_RATE if levels == 2 else FIVE_RATES


def add_rows(table: RowFile, pictures: Iterable[Path], folder: Path) -> None:
    """Measure what is not in the table yet of the model in `folder`, named by the folder."""
    name, version = folder.name, all_codecs(str(folder))["vqz"].version()
    pictures = list(pictures)
    for setting in settings(folder):
        for path in pictures:
            if (path.name, name, version, float(setting)) in table.rows:
                continue
            task = Task(path, path.name, "vqz", setting, ("psnr", "ms_ssim"), str(folder))
            result = measure(task)
            if isinstance(result, Failure):
                raise SystemExit(f"{name}: {result.picture}: {result.reason}")
            nan = float("nan")  # seconds of a machine that may have other work to do
            table.append(dataclasses.replace(result, codec=name, encode_s=nan, decode_s=nan))
            print(name, path.name, setting, f"{result.bpp:.3f} bpp {result.psnr:.2f} dB")


def usage(pictures: Iterable[Path], folder: Path, setting: int) -> list[Usage]:
    """The use of the codebooks of both maps, those not coded left out."""
    model, level = load_model(folder), level_of_quality(setting)
    counts: dict[str, list[NDArray[np.int64]]] = {"top": [], "bottom": []}
    pixels = 0
    for path in pictures:
        picture = load(path).pixels
        codes = analyse(model, picture, level, Search(by_bits=False))
        pixels += picture.shape[0] * picture.shape[1]
        for which, code_map, found in (
            ("top", model.top, codes.top),
            ("bottom", model.bottom, codes.bottom),
        ):
            new = [
                np.bincount(column, minlength=book.size)
                for book, part in zip(code_map.books(level), found, strict=True)
                for column in part.T
                if book.size > 1
            ]
            old = counts[which] or [np.zeros_like(count) for count in new]
            counts[which] = [a + b for a, b in zip(old, new, strict=True)]
    return [
        _summary(folder.name, model.fingerprint.hex(), setting, which, pixels, found)
        for which, found in counts.items()
        if found
    ]


def _summary(
    name: str,
    fingerprint: str,
    setting: int,
    which: str,
    pixels: int,
    counts: list[NDArray[np.int64]],
) -> Usage:
    shares = [count / count.sum() for count in counts]
    entropies = [-float((p[p > 0] * np.log2(p[p > 0])).sum()) for p in shares]
    total = [int(count.sum()) for count in counts]
    return Usage(
        model=name,
        fingerprint=fingerprint,
        setting=setting,
        map=which,
        size=len(counts[0]),
        codebooks=len(counts),
        pixels=pixels,
        codes=sum(total),
        static_bits=round(sum(n * h for n, h in zip(total, entropies, strict=True)), 1),
        perplexity=round(float(np.mean([2**h for h in entropies])), 2),
        dead=round(float(np.mean([(count == 0).sum() for count in counts])), 2),
    )


def read_usage(path: Path) -> list[Usage]:
    """Rows that `write_usage` wrote; none if there is no file."""
    if not path.exists():
        return []
    kinds = {"str": str, "int": int, "float": float}
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Usage(**{f.name: kinds[str(f.type)](row[f.name]) for f in dataclasses.fields(Usage)})
            for row in csv.DictReader(file, delimiter="\t")
        ]


def write_usage(path: Path, rows: Iterable[Usage]) -> None:
    """A table of tab-separated values."""
    with path.open("w", encoding="utf-8", newline="") as file:
        names = [field.name for field in dataclasses.fields(Usage)]
        writer = csv.DictWriter(file, names, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(dataclasses.asdict(row) for row in rows)


def add_usage(path: Path, pictures: list[Path], folder: Path) -> None:
    """Count the codes of the model in `folder` unless that is done; of five rates, the fourth."""
    rows = read_usage(path)
    offered = settings(folder)
    setting = offered[min(3, len(offered) - 1)]
    fingerprint = load_model(folder).fingerprint.hex()
    if any((row.model, row.fingerprint) == (folder.name, fingerprint) for row in rows):
        return
    rows = [row for row in rows if row.model != folder.name]
    write_usage(path, rows + usage(pictures, folder, setting))
    print(folder.name, "codes counted")


def latest(rows: Iterable[Row]) -> list[Row]:
    """Rows without those of models that others of the same name have followed."""
    rows = list(rows)
    version = {row.codec: row.version for row in rows}
    return [row for row in rows if row.version == version[row.codec]]
