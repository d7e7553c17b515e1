"""A command on many files: find them, plan, run, and tell what became of each."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from dataclasses import asdict, dataclass

from vqzip.errors import printable
from vqzip.inputs import Inputs, find
from vqzip.jobs import Job, Row, Work
from vqzip.plan import Outputs, Plan, make_plan
from vqzip.pool import run, tidy_termination
from vqzip.progress import Tally, progress
from vqzip.report import Report

_MOST_REFUSALS = 10


@dataclass(frozen=True)
class Running:
    """How to run and what to tell.

    Attributes:
        processes: How many, 0 for one a processor; the bytes that are written do not depend on it.
        dry_run: Plan, but do nothing.
        as_json: Print the rows, in the order in which files are done.
        quiet: Print errors only.
        verbose: Print a line about every file.
    """

    processes: int = 1
    dry_run: bool = False
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False


def process(
    work: Work,
    inputs: Inputs,
    suffixes: frozenset[str],
    running: Running,
    outputs: Outputs | None = None,
    suffix: str = "",
) -> int:
    """Run a command and return its exit code.

    Args:
        work: What to do with each file.
        inputs: Which files.
        suffixes: Of the files to take in folders.
        running: How to run.
        outputs: Where outputs go, if there are any.
        suffix: Of the outputs.

    Raises:
        VqzError: The list of files cannot be read, or standard output not written to.
    """
    found = find(inputs, suffixes)
    plan = make_plan(found, outputs, suffix)
    alone = len(plan.jobs) == 1 and sys.stderr.isatty()
    report = Report(verbose=running.verbose or alone, quiet=running.quiet)
    tally = Tally()

    def tell(row: Row) -> None:
        tally.add(row)
        _tell(report, row, running)

    for path in found.foreign:
        report.detail(f"{printable(path)}: of another kind, passed over")
    for row in (*plan.failed, *plan.skipped):
        tell(row)
    if plan.refused:
        _tell_refusals(report, plan, running)
        return report.exit_code
    if running.dry_run:
        for job in plan.jobs:
            tell(_planned(job))
    else:
        with (
            tidy_termination(),
            progress(report, tally, plan.jobs) as advance,
            closing(run(work, plan.jobs, running.processes)) as rows,
        ):
            for row in rows:
                tell(row)
                advance(row)
    if sum(tally.count.values()) + len(found.foreign) != 1:
        report.notice(tally.summary(len(found.foreign)))
    return report.exit_code


def _tell(report: Report, row: Row, running: Running) -> None:
    name, output = printable(row.input), printable(row.output or "")
    if row.error is not None:
        report.error(row.error)
    if row.notices:
        report.notice(f"{name}: {', '.join(row.notices)}")
    if row.status == "skipped":
        report.detail(f"{name}: skipped, as {output} exists")
    elif row.status == "ok":
        report.detail(f"{name}: {_outcome(row)}")
    if running.as_json:
        report.output(json.dumps(asdict(row)))
    elif row.status == "planned":
        report.output(f"{name} -> {output}" if output else name)
    elif row.status == "ok" and row.output is None and not running.quiet:
        report.output(f"{name}: ok")


def _outcome(row: Row) -> str:
    sizes = f"{row.bytes_in:,} bytes"
    if row.bytes_out is not None:
        sizes = f"{row.bytes_in:,} to {row.bytes_out:,} bytes"
    return f"{sizes}, {row.bpp:.3f} bpp, {row.seconds:.1f} s"


def _tell_refusals(report: Report, plan: Plan, running: Running) -> None:
    for row in plan.refused[:_MOST_REFUSALS]:
        report.error(row.error or "")
    if len(plan.refused) > _MOST_REFUSALS:
        report.error(f"and {len(plan.refused) - _MOST_REFUSALS:,} more")
    if plan.jobs or len(plan.refused) > 1:
        report.error("nothing was done")
    if running.as_json:
        for row in (*plan.refused, *map(_planned, plan.jobs)):
            report.output(json.dumps(asdict(row)))


def _planned(job: Job) -> Row:
    return Row(job.source, job.target, "planned", bytes_in=job.size or None)
