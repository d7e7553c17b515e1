"""The numbers and pictures of docs/ladder.md.

python results/ladder.py           puts the tables into the page and draws docs/ladder/rate.svg
python results/ladder.py kodak     measures the models on the pictures in `kodak` first, and draws
                                   all other pictures, too; what is in the tables is not measured
                                   again
python results/ladder.py kodak build/vqvae-ema-plain ...     the same with more models
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import numpy as np
from ladder_measure import Usage, add_rows, add_usage, latest, read_usage
from matplotlib.figure import Figure

from vqzip.bench.metrics import METRICS
from vqzip.bench.plots import to_svg
from vqzip.bench.rows import Row, RowFile

ROOT = Path(__file__).parents[1]
HERE, PAGE = ROOT / "results", ROOT / "docs" / "ladder"
PHOTO = ROOT / "examples" / "photo.png"
ROWS, USAGE = HERE / "ladder.tsv", HERE / "ladder_codes.tsv"

RUNGS = {
    "kmeans-colours": "k-means, colours",
    "kmeans": "k-means, 4x4 blocks",
    "kmeans-prior": "the same, PixelCNN",
    "vqvae-loss": "VQ-VAE, codebook loss",
    "vqvae-ema": "VQ-VAE, moving averages",
    "vqvae2": "VQ-VAE-2, fixed rate",
    "vqvae2-prior": "the same, PixelCNN",
}
STARTS = {
    "vqvae-ema-plain": ("random", "no"),
    "vqvae-ema-revive": ("random", "yes"),
    "vqvae-ema-kmeans": ("k-means", "no"),
    "vqvae-ema-short": ("k-means", "yes"),
}
_COLOURS = ("#999999", "#56b4e9", "#0072b2", "#e69f00", "#cc79a7", "#009e73", "#006d4e")
_MARKERS = ("v", "s", "o", "D", "P", "^", "*")

CODEWORDS = {1: 4, 26: 16, 50: 64, 75: 256, 100: 1024}
"""Of `kmeans` at each quality."""

Curve = list[tuple[float, float, float, float]]  # bpp, PSNR, MS-SSIM in dB, setting


def markdown(lines: list[list[str]]) -> str:
    """A table, the first line its head."""
    head, *body = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, f"|{' --- |' * len(lines[0])}", *body])


def put(page: str, name: str, table: str) -> str:
    """The page with a table below the comment `<!-- name -->`, in place of the one there."""
    mark = f"<!-- {name} -->\n\n"
    before, after = page.split(mark)
    rest = after.splitlines(keepends=True)
    while rest and rest[0].startswith("|"):
        del rest[0]
    return before + mark + table + "\n" + "".join(rest)


def curve(rows: list[Row]) -> Curve:
    """Means over the pictures at each setting, by rate."""
    scale = METRICS["ms_ssim"].scale
    points = []
    pictures = {row.picture for row in rows}
    for setting in {row.setting for row in rows}:
        group = [row for row in rows if row.setting == setting]
        if len(group) < len(pictures):
            continue  # the measuring was interrupted
        structure = scale(fmean(row.ms_ssim or 0 for row in group))
        rate, quality = fmean(r.bpp for r in group), fmean(r.psnr for r in group)
        points.append((rate, quality, structure, setting))
    return sorted(points)


def at_rate(known: Curve, bpp: float) -> str:
    """PSNR of a curve at a rate, between its points on a logarithmic scale of rates."""
    rates, psnrs, *_ = zip(*known, strict=True)
    if not rates[0] <= bpp <= rates[-1]:
        return "-"
    return f"{np.interp(np.log(bpp), np.log(rates), psnrs):.2f}"


def rungs(curves: dict[str, Curve]) -> Iterator[list[str]]:
    """Every rung at all its rates, beside JPEG and the shipped model at the same rate."""
    yield ["rung", "bpp", "PSNR (dB)", "MS-SSIM (dB)", "JPEG there", "vqzip there"]
    for name in RUNGS:
        for bpp, psnr, structure, _ in curves.get(name, []):
            others = [at_rate(curves[other], bpp) for other in ("jpeg", "photo")]
            yield [f"`{name}`", f"{bpp:.3f}", f"{psnr:.2f}", f"{structure:.2f}", *others]


def savings(curves: dict[str, Curve], usage: list[Usage]) -> Iterator[list[str]]:
    """Bits per pixel of the same codes, coded in three ways."""
    yield ["codes", "fixed rate", "static frequencies", "PixelCNN", "saves", "of static"]
    ways: list[tuple[str, float, float, float]] = []
    static = {setting: bpp for bpp, *_, setting in curves.get("kmeans", [])}
    for bpp, *_, setting in curves.get("kmeans-prior", []):
        k = CODEWORDS[int(setting)]
        ways.append((f"`kmeans`, K = {k}", np.log2(k) / 16, static[setting], bpp))
    maps = [row for row in usage if row.model == "vqvae2"]
    if maps and "vqvae2-prior" in curves:
        pixels = maps[0].pixels
        known = sum(row.static_bits for row in maps) / pixels
        ways.append(("`vqvae2`", curves["vqvae2"][0][0], known, curves["vqvae2-prior"][0][0]))
    for name, fixed, static_, coded in ways:
        numbers = [f"{x:.3f}" for x in (fixed, static_, coded)]
        shares = [f"{100 * (1 - coded / x):.0f} %" for x in (fixed, static_)]
        yield [name, *numbers, *shares]


def codebooks(usage: list[Usage]) -> Iterator[list[str]]:
    """How many codewords are in use."""
    yield ["model", "map", "codebooks", "codewords", "perplexity", "dead"]
    for name in RUNGS:
        for row in usage:
            if row.model == name and not name.endswith("-prior"):
                numbers = row.codebooks, row.size, row.perplexity, row.dead
                yield [f"`{name}`", row.map, *(f"{number:.0f}" for number in numbers)]


def starts(curves: dict[str, Curve], usage: list[Usage]) -> Iterator[list[str]]:
    """The same with and without k-means and revival."""
    yield ["preset", "start", "revival", "perplexity", "dead", "bpp", "PSNR (dB)"]
    for name, (start, revival) in STARTS.items():
        for row in usage:
            if row.model == name and name in curves:
                bpp, psnr, *_ = curves[name][0]
                used = f"{row.perplexity:.0f}", f"{row.dead:.0f}"
                yield [f"`{name}`", start, revival, *used, f"{bpp:.3f}", f"{psnr:.2f}"]


def figure(curves: dict[str, Curve]) -> Figure:
    """PSNR over rate of all rungs, JPEG and the shipped model."""
    result = Figure(figsize=(8, 5.4), layout="constrained")
    axes = result.subplots()
    for name, label, colour in (("jpeg", "JPEG", "#000000"), ("photo", "vqzip", "#d55e00")):
        rates, psnrs, *_ = zip(*curves[name], strict=True)
        axes.plot(rates, psnrs, label=label, color=colour, linewidth=1.6)
    for (name, label), colour, marker in zip(RUNGS.items(), _COLOURS, _MARKERS, strict=True):
        if name in curves:
            rates, psnrs, *_ = zip(*curves[name], strict=True)
            axes.plot(rates, psnrs, label=label, color=colour, marker=marker, markersize=8)
    axes.set_xscale("log")
    ticks = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("bits per pixel")
    axes.set_ylabel("PSNR (dB)")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return result


def measure(kodak: Path, more: list[Path]) -> None:
    """Add to the tables what they lack."""
    pictures = sorted(kodak.glob("*.png"))
    table = RowFile(ROWS)
    for folder in [*(PAGE / "models" / name for name in RUNGS), *more]:
        add_usage(USAGE, pictures, folder)
        add_rows(table, pictures, folder)


def draw() -> None:
    """All pictures but the plot."""
    from ladder_pictures import (
        block_codebook,
        block_map,
        decoded_codebook,
        grid,
        latent_maps,
        side_by_side,
    )

    models = PAGE / "models"
    shown = [
        ("k-means, colours", models / "kmeans-colours", 50),
        ("k-means, 4x4", models / "kmeans-prior", 100),
        ("VQ-VAE", models / "vqvae-ema", 50),
        ("VQ-VAE-2", models / "vqvae2-prior", 50),
        ("vqzip", ROOT / "models" / "photo", 30),
    ]
    side_by_side(PHOTO, shown).save(PAGE / "side_by_side.jpg", quality=88, subsampling=0)
    block_codebook(models / "kmeans-colours", 100, 1).save(PAGE / "colours.png")
    block_codebook(models / "kmeans", 75, 4).save(PAGE / "blocks.png")
    decoded_codebook(models / "vqvae-ema", 0).save(PAGE / "decoded.png")
    maps = [
        ("kmeans, K = 256", block_map(models / "kmeans", 75, PHOTO)),
        ("vqvae-ema, first code", latent_maps(models / "vqvae-ema", PHOTO, "bottom", 0)),
        ("vqvae2, top map, first code", latent_maps(models / "vqvae2", PHOTO, "top", 0)),
        ("vqvae2, bottom map, first code", latent_maps(models / "vqvae2", PHOTO, "bottom", 0)),
    ]
    grid(maps, 2).save(PAGE / "code_maps.png")


def main(arguments: list[str]) -> None:
    """Measure and draw as asked, then plot, and put the tables into the page."""
    if arguments:
        measure(Path(arguments[0]), [Path(name) for name in arguments[1:]])
        draw()
    rows = latest(RowFile(ROWS).rows.values())
    photo = list(RowFile(HERE / "kodak.tsv").rows.values())
    anchors = RowFile(HERE / "anchors_kodak.tsv").rows.values()
    curves = {name: curve([r for r in rows if r.codec == name]) for name in {r.codec for r in rows}}
    curves["photo"] = curve(photo)
    curves["jpeg"] = curve([row for row in anchors if row.codec == "jpeg"])
    usage = read_usage(USAGE)
    (PAGE / "rate.svg").write_text(to_svg(figure(curves)), encoding="utf-8")
    tables = {
        "rungs": rungs(curves),
        "savings": savings(curves, usage),
        "codebooks": codebooks(usage),
        "starts": starts(curves, usage),
    }
    page = PAGE.with_suffix(".md")
    text = page.read_text(encoding="utf-8")
    for name, table in tables.items():
        text = put(text, name, markdown(list(table)))
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
