"""Jobs on several processes, such that whatever happens to one of them, the others are done.

Not concurrent.futures, where a process that is killed, as by a system that is short of memory,
takes all other jobs down with it, and where an interruption has to wait for the jobs under way.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from types import FrameType

from vqzip.errors import VqzError
from vqzip.jobs import Job, Models, Row, Work, attempt, failed
from vqzip.process import prepare, processors

# Not fork: the threads of numerical libraries do not survive it.
_CONTEXT = get_context("spawn")


def run(work: Work, jobs: Sequence[Job], processes: int) -> Generator[Row, None, None]:
    """Do all jobs and yield their rows as they are done.

    On one process, this one, in the order of `jobs`; 0 processes are one for each processor.  Each
    has an equal share of the processors for its threads, unless OMP_NUM_THREADS is set.  Closing
    the generator, or an exception such as KeyboardInterrupt, ends the other processes; they leave
    no partial file.
    """
    processes = min(processes or processors(), len(jobs))
    if processes > 1:
        yield from _run_in_processes(work, jobs, processes)
    else:
        prepare()
        models = Models()
        yield from (attempt(work, job, models) for job in jobs)


@contextmanager
def tidy_termination() -> Iterator[None]:
    """Let the signals that ask a program to end do so by SystemExit, for `finally` to be run.

    The exit code is the usual one, 128 + signal.
    """
    names = ("SIGTERM", "SIGHUP")
    signals = [getattr(signal, name) for name in names if hasattr(signal, name)]
    ours = [number for number in signals if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _exit)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _exit(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


class _Worker:
    """A process, and the job that it is doing."""

    def __init__(self, work: Work, threads: int) -> None:
        self.connection, theirs = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(target=_serve, args=(theirs, work, threads), daemon=True)
        # An interruption at the terminal goes to all processes.  It is for this one to act on it,
        # and what is ignored here is ignored by the new one from its start.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self.process.start()
        finally:
            signal.signal(signal.SIGINT, handler)
        theirs.close()

    def give(self, job: Job) -> None:
        self.job = job
        with suppress(OSError):  # that the process is gone is found when its row is waited for
            self.connection.send(job)

    def row(self) -> Row:
        try:
            row: Row = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            how = f"signal {-code}, perhaps for want of memory" if code < 0 else f"exit code {code}"
            error = VqzError(f"its process ended abruptly ({how})", self.job.source)
            row = failed(self.job, error)
        return row


def _run_in_processes(work: Work, jobs: Sequence[Job], processes: int) -> Iterator[Row]:
    threads = max(1, processors() // processes)
    waiting = iter(jobs)
    idle: list[_Worker] = []
    busy: dict[object, _Worker] = {}

    def start_next() -> None:
        job = next(waiting, None)
        if job is None:
            return
        worker = idle.pop() if idle else _Worker(work, threads)
        busy[worker.connection] = worker
        worker.give(job)

    try:
        for _ in range(processes):
            start_next()
        while busy:
            for connection in wait([worker.connection for worker in busy.values()]):
                worker = busy.pop(connection)
                row = worker.row()
                if worker.process.is_alive():
                    idle.append(worker)
                start_next()
                yield row
    finally:
        everyone = [*idle, *busy.values()]
        for worker in everyone:
            worker.process.terminate()
        for worker in everyone:
            worker.process.join()


def _serve(connection: Connection, work: Work, threads: int) -> None:
    """What a process does: jobs come in and rows go out, until the first process is gone."""
    # Before the numerical libraries are imported, who read it once.
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    prepare()
    models = Models()
    with tidy_termination(), suppress(EOFError, ConnectionError):
        while True:
            connection.send(attempt(work, connection.recv(), models))
