"""Rate and quality as plots."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from vqzip.bench.rates import Comparison

# Okabe and Ito's, which the colour-blind can tell apart.
_COLOURS = {
    "vqz": "#d55e00",
    "jpeg": "#000000",
    "webp": "#0072b2",
    "avif": "#009e73",
    "jxl": "#cc79a7",
    "jp2": "#e69f00",
}
_MARKERS = {"vqz": "o", "jpeg": "s", "webp": "^", "avif": "D", "jxl": "v", "jp2": "P"}


def figure(comparisons: Sequence[Comparison], labels: Mapping[str, str]) -> Figure:
    """One panel for each comparison, side by side; `labels` is what to call codecs."""
    result = Figure(figsize=(4.6 * len(comparisons), 3.7), layout="constrained")
    panels = result.subplots(1, len(comparisons), squeeze=False)[0]
    for axes, comparison in zip(panels, comparisons, strict=True):
        _draw(axes, comparison, labels)
    return result


def _draw(axes: Axes, comparison: Comparison, labels: Mapping[str, str]) -> None:
    for codec, curve in comparison.curves.items():
        points = [point for point in curve if math.isfinite(point.value)]
        axes.plot(
            [point.bpp for point in points],
            [point.value for point in points],
            label=labels[codec],
            color=_COLOURS[codec],
            marker=_MARKERS[codec],
            markersize=4.5,
            linewidth=2.4 if codec == "vqz" else 1.3,
            zorder=3 if codec == "vqz" else 2,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda bpp, _: f"{bpp:g}"))
    axes.set_xlabel("bits per pixel")
    axes.set_ylabel(comparison.metric.label)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if comparison.curves:
        axes.legend(frameon=False)


def to_svg(figure: Figure) -> str:
    """The `<svg>` element, the same for the same figure."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "vqzip"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def to_png(figure: Figure) -> bytes:
    """A PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160)
    return buffer.getvalue()
