"""`vqzip bench`, from its options to the files it writes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from vqzip import files
from vqzip.errors import VqzError
from vqzip.process import prepare
from vqzip.report import Report

if TYPE_CHECKING:
    from vqzip.bench.plan import Plan
    from vqzip.bench.rates import Comparison
    from vqzip.bench.rows import Row

T = TypeVar("T")

CODECS = "vqz,jpeg,webp,avif,jxl,jp2"


class _Notes(Report):
    """What is printed during the run is told again in the HTML report."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def notice(self, message: str) -> None:
        super().notice(message)
        self.lines.append(message)

    def error(self, message: str) -> None:
        super().error(message)
        self.lines.append(message)


@click.command(
    epilog="\n".join(
        [
            "\b",
            "Examples:",
            "  vqzip bench photos",
            "  vqzip bench photos --codecs vqz,jpeg --qualities vqz=20,40,60,80 -o build/bench",
        ]
    )
)
@click.argument("folder", metavar="FOLDER")
@click.option("--codecs", metavar="LIST", default=CODECS, show_default=True, help="To be compared.")
@click.option(
    "--qualities",
    metavar="CODEC=LIST",
    multiple=True,
    help="Settings of a codec, instead of those it has by default. Can be given for each.",
)
@click.option(
    "--anchor", help="Codec to compare with.  [default: jpeg, or the first of those there are]"
)
@click.option(
    "-o", "--output", metavar="DIR", default="bench", show_default=True, help="Where to write."
)
@click.option(
    "-j", "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes."
)
@click.option(
    "--model", metavar="DIR", help="Folder of a model.  [default: the one that comes with vqzip]"
)
@click.option(
    "--crops",
    type=click.IntRange(min=0),
    default=4,
    show_default=True,
    help="Pictures to show side by side.",
)
@click.option(
    "--crop-bpp",
    type=click.FloatRange(min=0, min_open=True),
    default=0.3,
    show_default=True,
    help="Bits per pixel of these.",
)
def bench(
    folder: str,
    codecs: str,
    qualities: tuple[str, ...],
    anchor: str | None,
    output: str,
    jobs: int,
    model: str | None,
    crops: int,
    crop_bpp: float,
) -> int:
    """Compare codecs on the pictures below FOLDER.

    Writes rows.tsv (bytes, quality and seconds of each picture, codec and setting), report.html,
    and a plot for each metric. Rows that are there are not measured again: the same command
    resumes a run that was interrupted.
    """
    prepare()
    report = _Notes()
    with report.about(folder):
        from vqzip.bench.plan import make

        plan = make(Path(folder), Path(output), codecs, qualities, anchor, model)
        for name, reason in plan.left_out.items():
            report.notice(f"{name}: left out, {reason}")
        can_evaluate = _can_evaluate(report)
        rows = _measure(plan, Path(output), jobs, report)
        if can_evaluate:
            _evaluate(plan, rows, Path(output), (crops, crop_bpp), jobs, report)
    return report.exit_code


def _can_evaluate(report: Report) -> bool:
    """Known before hours of measuring, not after."""
    from vqzip.bench.extras import extra

    try:
        for name in ("bjontegaard", "jinja2", "matplotlib"):
            extra(name)
    except VqzError as error:
        report.notice(f"report.html: left out, {error.message}")
        return False
    return True


def _measure(plan: Plan, output: Path, jobs: int, report: Report) -> list[Row]:
    """Measure what is not in the table yet; all rows that belong to the plan."""
    from vqzip.bench.rows import RowFile
    from vqzip.bench.run import Failure, measure_all

    table = RowFile(output / "rows.tsv")
    tasks = plan.tasks(table)
    failures: dict[Failure, None] = {}
    with closing(measure_all(tasks, jobs)) as results, _progress(results, len(tasks)) as shown:
        for result in shown:
            if isinstance(result, Failure):
                failures[result] = None  # once, though a broken picture fails for every codec
            else:
                table.append(result)
    for failure in failures:
        about = "" if failure.codec is None else f"{plan.codecs[failure.codec].label}: "
        report.error(f"{failure.picture}: {about}{failure.reason}")
    rows = plan.rows(table)
    if not rows:
        raise VqzError("nothing could be measured")
    return rows


def _evaluate(
    plan: Plan,
    rows: list[Row],
    output: Path,
    look: tuple[int, float],
    jobs: int,
    report: _Notes,
) -> None:
    """Print BD-rates; write the page, with so many scenes of such bits per pixel, and the plots."""
    from vqzip.bench import plots
    from vqzip.bench.crops import evenly, scene
    from vqzip.bench.page import Page, render
    from vqzip.bench.rates import compare

    comparisons = [compare(rows, metric, plan.anchor) for metric in plan.metrics]
    if len(plan.codecs) > 1:
        click.echo(_table(comparisons, plan.labels, plan.anchor))

    count, bpp = look
    names = evenly(comparisons[0].pictures, count)
    scenes = []
    with _progress(names, len(names)) as shown:
        for name in shown:
            with report.about(name):
                scenes.append(scene(name, plan.pictures[name], plan.codecs.values(), rows, bpp))
    page = render(Page(plan, rows, comparisons, scenes, bpp, report.lines, jobs))
    files.write(str(output / "report.html"), page.encode(), force=True)
    for comparison in comparisons:
        figure = plots.figure([comparison], plan.labels)
        path = str(output / comparison.metric.name)
        files.write(path + ".svg", plots.to_svg(figure).encode(), force=True)
        files.write(path + ".png", plots.to_png(figure), force=True)
    click.echo(output / "report.html")


def _progress(items: Iterable[T], length: int) -> AbstractContextManager[Iterable[T]]:
    """The items, with a bar on a terminal."""
    if not length or not sys.stderr.isatty():
        return nullcontext(items)
    return click.progressbar(items, length, show_pos=True, file=sys.stderr)


def _table(comparisons: list[Comparison], labels: Mapping[str, str], anchor: str) -> str:
    """BD-rates for a terminal."""
    head = [f"BD-rate against {labels[anchor]}", *(c.metric.label for c in comparisons)]
    body = (
        [labels[name], *(str(c.rates.get(name, "")) for c in comparisons)]
        for name in comparisons[0].rates
    )
    lines = [head, *body]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([name.ljust(widths[0]), *map(str.rjust, rates, widths[1:])])
        for name, *rates in lines
    )
