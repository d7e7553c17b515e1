"""Rows to curves, and curves to BD-rates.

A point of a curve is a mean over pictures at one setting, the same pictures for all points of all
codecs.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from vqzip.bench.extras import extra
from vqzip.bench.metrics import Metric
from vqzip.bench.rows import Row

FEWEST_POINTS = 4
LEAST_OVERLAP = 0.4


@dataclass(frozen=True)
class Point:
    """Means over pictures at a setting; `value` is on the scale of the metric."""

    setting: float
    bpp: float
    value: float


@dataclass(frozen=True)
class BDRate:
    """How many more bytes a codec needs than the anchor for the same quality.

    Attributes:
        percent: Negative if it needs fewer; None if the number would mean little.
        reason: Why there is no number, else empty.
        interval: The lowest and the highest quality that both curves reach.
        overlap: The interval as a share of all that either curve reaches.
    """

    percent: float | None
    reason: str = ""
    interval: tuple[float, float] = (math.nan, math.nan)
    overlap: float = 0.0

    @property
    def where(self) -> str:
        """Interval and overlap in words."""
        return "{:.1f} to {:.1f}, {:.0f} %".format(*self.interval, 100 * self.overlap)

    def __str__(self) -> str:
        return "refused" if self.percent is None else f"{self.percent:+.1f} %"


def common_pictures(rows: Collection[Row], metric: Metric) -> list[str]:
    """The pictures that have a value from every codec at every setting, sorted."""
    have: dict[str, set[tuple[str, float]]] = {}
    for row in rows:
        if getattr(row, metric.name) is not None:
            have.setdefault(row.picture, set()).add((row.codec, row.setting))
    wanted = set().union(*have.values())
    return sorted(picture for picture, points in have.items() if points == wanted)


def curves(rows: Iterable[Row], metric: Metric, pictures: Iterable[str]) -> dict[str, list[Point]]:
    """Curve of each codec over these pictures, by its name, from the lowest rate to the highest."""
    chosen = set(pictures)
    groups: dict[str, dict[float, list[Row]]] = {}
    for row in rows:
        if row.picture in chosen:
            groups.setdefault(row.codec, {}).setdefault(row.setting, []).append(row)
    return {
        codec: sorted((_mean(group, metric) for group in settings.values()), key=lambda p: p.bpp)
        for codec, settings in groups.items()
    }


def _mean(rows: list[Row], metric: Metric) -> Point:
    value = fmean(getattr(row, metric.name) for row in rows)
    return Point(rows[0].setting, fmean(row.bpp for row in rows), metric.scale(value))


def bd_rate(anchor: Iterable[Point], test: Iterable[Point]) -> BDRate:
    """Bjontegaard's delta rate: monotone cubics (pchip) of log rate over quality.

    It is refused for fewer than 4 points, for a curve that falls anywhere and for curves that share
    less than 40 % of the qualities that either of them reaches.
    """
    # Points without any loss lie on no curve.
    curves = [[p for p in curve if math.isfinite(p.value)] for curve in (anchor, test)]
    for name, curve in zip(("the anchor", "the codec"), curves, strict=True):
        if len(curve) < FEWEST_POINTS:
            return BDRate(None, f"{name} has {len(curve)} points, {FEWEST_POINTS} are needed")
        if any(a.bpp >= b.bpp or a.value >= b.value for a, b in pairwise(curve)):
            return BDRate(None, f"{name}'s quality does not always rise with the rate")
    lows, highs = ([curve[end].value for curve in curves] for end in (0, -1))
    interval = max(lows), min(highs)
    overlap = max(0.0, (interval[1] - interval[0]) / (max(highs) - min(lows)))
    if overlap < LEAST_OVERLAP:
        share = f"{100 * overlap:.0f} % of their range, {100 * LEAST_OVERLAP:.0f} % are needed"
        return BDRate(None, f"the curves share {share}", interval, overlap)
    arguments = [[getattr(p, name) for p in c] for c in curves for name in ("bpp", "value")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on importing; of the overlap it is told not to warn
        library = extra("bjontegaard")
        percent = library.bd_rate(*arguments, "pchip", require_matching_points=False, min_overlap=0)
    return BDRate(float(percent), "", interval, overlap)


@dataclass(frozen=True)
class Comparison:
    """All codecs in terms of one metric.

    Attributes:
        metric: The metric.
        pictures: Names of those that the means are over.
        curves: Curve of each codec.
        rates: BD-rate of each codec but the anchor.
        by_picture: The same on single pictures, by their names.
    """

    metric: Metric
    pictures: list[str]
    curves: dict[str, list[Point]]
    rates: dict[str, BDRate]
    by_picture: dict[str, dict[str, BDRate]]


def compare(rows: Collection[Row], metric: Metric, anchor: str) -> Comparison:
    """Compare the codecs in `rows` with one of them."""
    pictures = common_pictures(rows, metric)
    mean = curves(rows, metric, pictures)
    alone = {name: curves(rows, metric, [name]) for name in pictures}
    return Comparison(
        metric,
        pictures,
        mean,
        _rates(mean, anchor),
        {k: _rates(v, anchor) for k, v in alone.items()},
    )


def _rates(curves: dict[str, list[Point]], anchor: str) -> dict[str, BDRate]:
    reference = curves.get(anchor, [])
    return {name: bd_rate(reference, curve) for name, curve in curves.items() if name != anchor}
