"""README's plot and tables, from the rows in this folder.

python results/plot.py

Writes results/kodak.svg and prints the tables: qualities, BD-rates over the whole overlap of the
curves, and BD-rates of those qualities alone that take 0.12 to 1.3 bits per pixel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

from vqzip.bench.codecs import all_codecs
from vqzip.bench.metrics import METRICS
from vqzip.bench.plots import figure, to_svg
from vqzip.bench.rates import bd_rate, compare
from vqzip.bench.rows import Row, RowFile

HERE = Path(__file__).parent

USUAL = 0.12, 1.3
"""Bits per pixel that most pictures are kept at."""


def markdown(lines: list[list[str]]) -> str:
    """A table, the first line its head."""
    head, *body = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, f"|{' --- |' * len(lines[0])}", *body])


def qualities(rows: list[Row]) -> Iterator[list[str]]:
    """Means over the pictures at each quality of vqz."""
    yield ["quality", "bytes", "bpp", "PSNR (dB)", "MS-SSIM", "MS-SSIM (dB)", "SSIMULACRA2"]
    for quality in sorted({row.setting for row in rows}):
        group = [row for row in rows if row.setting == quality]
        ms_ssim = fmean(row.ms_ssim or 0 for row in group)
        yield [
            f"{quality:g}",
            f"{fmean(row.bytes for row in group):.0f}",
            f"{fmean(row.bpp for row in group):.3f}",
            f"{fmean(row.psnr for row in group):.2f}",
            f"{ms_ssim:.4f}",
            f"{METRICS['ms_ssim'].scale(ms_ssim):.2f}",
            f"{fmean(row.ssimulacra2 or 0 for row in group):.1f}",
        ]


def main() -> None:
    """Draw and print."""
    vqz = list(RowFile(HERE / "kodak.tsv").rows.values())
    rows = [*vqz, *RowFile(HERE / "anchors_kodak.tsv").rows.values()]
    labels = {name: codec.label for name, codec in all_codecs().items()}
    metrics = [
        metric
        for metric in METRICS.values()
        if all(getattr(row, metric.name) is not None for row in rows)
    ]
    comparisons = [compare(rows, metric, "vqz") for metric in metrics]
    (HERE / "kodak.svg").write_text(to_svg(figure(comparisons, labels)), encoding="utf-8")

    print(markdown(list(qualities(vqz))), end="\n\n")
    anchors = [name for name in labels if name != "vqz" and name in comparisons[0].curves]

    def rates(head: str, least: float = 0, most: float = math.inf) -> Iterator[list[str]]:
        yield [head, *(comparison.metric.label for comparison in comparisons)]
        for anchor in anchors:
            found = []
            for curves in (comparison.curves for comparison in comparisons):
                points = [point for point in curves["vqz"] if least <= point.bpp <= most]
                found.append(str(bd_rate(curves[anchor], points)))
            yield [labels[anchor], *found]

    print(markdown(list(rates("vqzip against"))), end="\n\n")
    print(markdown(list(rates("at {} to {} bpp against".format(*USUAL), *USUAL))))


if __name__ == "__main__":
    main()
