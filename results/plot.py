"""README's plot and tables, from the rows in this folder.

python results/plot.py

Writes results/kodak.svg and prints the tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

from vqzip.bench.codecs import all_codecs
from vqzip.bench.metrics import METRICS
from vqzip.bench.plots import figure, to_svg
from vqzip.bench.rates import compare
from vqzip.bench.rows import Row, RowFile

HERE = Path(__file__).parent


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
    table = [["vqzip against", *(metric.label for metric in metrics)]]
    measured = {row.codec for row in rows} - {"vqz"}
    for anchor in (name for name in labels if name in measured):
        rates = (compare(rows, metric, anchor).rates["vqz"] for metric in metrics)
        table.append([labels[anchor], *map(str, rates)])
    print(markdown(table))


if __name__ == "__main__":
    main()
