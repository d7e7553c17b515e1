"""How far a batch has come: counts, a bar on a terminal, and the summary at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import click

from vqzip.jobs import Job, Row
from vqzip.report import Report


class Tally:
    """Counts what became of the files."""

    def __init__(self) -> None:
        self.count = {"ok": 0, "failed": 0, "skipped": 0, "planned": 0}
        self.bytes_in = self.bytes_out = self.pixels = 0
        self._start = time.perf_counter()

    def add(self, row: Row) -> None:
        """Count a file; sizes are those of the files that were done."""
        self.count[row.status] += 1
        if row.status == "ok":
            self.bytes_in += row.bytes_in or 0
            self.bytes_out += row.bytes_out or 0
            self.pixels += (row.width or 0) * (row.height or 0)

    @property
    def speed(self) -> str:
        """Megapixels of a second."""
        return f"{self.pixels / 1e6 / (time.perf_counter() - self._start):.2f} MP/s"

    def summary(self, foreign: int) -> str:
        """One line on all files, `foreign` being how many of other kinds were passed over."""
        parts = [f"{count:,} {status}" for status, count in self.count.items() if count]
        if foreign:
            parts.append(f"{foreign:,} of other kinds passed over")
        line = ", ".join(parts) or "no files"
        if self.bytes_out:
            line += f"; {_size(self.bytes_in)} to {_size(self.bytes_out)}"
        if self.pixels:
            line += f", {self.speed}"
        return line


@contextmanager
def progress(report: Report, tally: Tally, jobs: Sequence[Job]) -> Iterator[Callable[[Row], None]]:
    """Show a bar on standard error while the block runs, if that is a terminal.

    The block calls what it gets for each row, after its messages, and once the row is counted.
    """
    if not (sys.stderr.isatty() and len(jobs) > 1):
        yield lambda _: None
        return

    def state(_: object) -> str:
        done = sum(tally.count.values())
        words = [f"{done:,}/{len(jobs):,} files", tally.speed]
        if tally.bytes_in > tally.bytes_out > 0:
            words.append(f"{_size(tally.bytes_in - tally.bytes_out)} saved")
        return "  ".join(words)

    # By bytes, as the files of a folder may differ a hundredfold in size, and so does their time.
    length = sum(max(1, job.size) for job in jobs)
    report.over_progress = True
    try:
        with click.progressbar(
            length=length, file=sys.stderr, width=16, item_show_func=state
        ) as bar:
            yield lambda row: bar.update(max(1, row.bytes_in or 0))
    finally:
        report.over_progress = False


def _size(count: int) -> str:
    if count < 1000:
        return f"{count} bytes"
    power = min(len(str(count)) - 1, 12) // 3
    return f"{count / 1000**power:,.1f} {' kMGT'[power]}B"
