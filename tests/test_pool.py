"""Jobs on processes, with work that is none."""

import os
import signal
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from vqzip import pool
from vqzip.errors import VqzError
from vqzip.jobs import Job, Models, Row, Work

# Work must be importable from another process, where this module is a new one.


def count_threads(job: Job, models: Models) -> Row:
    return Row(job.source, os.environ["OMP_NUM_THREADS"], "ok", bytes_in=os.getpid())


def misbehave(job: Job, models: Models) -> Row:
    if job.source == "bad":
        raise VqzError("is bad")
    if job.source == "bug":
        raise ValueError("a bug")
    if job.source == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if job.source == "exit":
        os._exit(3)
    return Row(job.source, None, "ok")


def linger(job: Job, models: Models, folder: str) -> Row:
    """Leave a file while at work, which takes a minute unless the job is "quick"."""
    if job.source == "quick":
        return Row(job.source, None, "ok")
    marker = Path(folder, job.source)
    try:
        marker.touch()
        time.sleep(60)
    finally:
        marker.unlink()
    return Row(job.source, None, "ok")


def jobs(*names: str) -> list[Job]:
    return [Job(name, size=7) for name in names]


def run(work: Work, names: list[str], processes: int) -> dict[str, Row]:
    rows = list(pool.run(work, jobs(*names), processes))
    assert len(rows) == len(names)
    return {row.input: row for row in rows}


def test_one_process_is_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    names = [str(i) for i in range(5)]
    rows = list(pool.run(count_threads, jobs(*names), 1))
    assert [row.input for row in rows] == names
    assert {(row.bytes_in, row.output) for row in rows} == {(os.getpid(), "5")}
    assert list(pool.run(count_threads, [], 4)) == []
    monkeypatch.setattr(pool, "processors", lambda: 1)
    assert [row.input for row in pool.run(count_threads, jobs("a", "b"), 0)] == ["a", "b"]


def test_processes_share_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(pool, "processors", lambda: 7)
    rows = run(count_threads, [str(i) for i in range(20)], 2)
    assert {row.output for row in rows.values()} == {"3"}
    assert 1 <= len({row.bytes_in for row in rows.values()} - {os.getpid()}) <= 2


@pytest.mark.parametrize("processes", [1, 2])
def test_whatever_happens_to_one_job_the_others_are_done(
    processes: int, capfd: pytest.CaptureFixture[str]
) -> None:
    fatal = ["killed", "exit"] if processes > 1 else []
    rows = run(misbehave, ["a", "bad", "bug", *fatal, "b", "c"], processes)
    assert {name for name, row in rows.items() if row.status == "ok"} == {"a", "b", "c"}
    expected = {
        "bad": "bad: is bad",
        "bug": "bug: internal error: ValueError: a bug",
        "killed": "killed: its process ended abruptly (signal 9, perhaps for want of memory)",
        "exit": "exit: its process ended abruptly (exit code 3)",
    }
    for name in ("bad", "bug", *fatal):
        assert (rows[name].status, rows[name].error) == ("failed", expected[name])
        assert rows[name].bytes_in == 7
    err = capfd.readouterr().err
    assert err.count("Traceback") == 1
    assert "ValueError: a bug" in err


def test_closing_ends_the_processes(tmp_path: Path) -> None:
    work = partial(linger, folder=str(tmp_path))
    with closing(pool.run(work, jobs("quick", "b", "c"), 2)) as rows:
        assert next(rows).input == "quick"
        while len(os.listdir(tmp_path)) < 2:
            time.sleep(0.02)
    assert os.listdir(tmp_path) == []


def test_tidy_termination() -> None:
    """Asked to end, a program runs its `finally`; an ignored request stays ignored."""
    tidied = []

    def asked_to_end() -> None:
        with pool.tidy_termination():
            signal.raise_signal(signal.SIGHUP)
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                tidied.append(True)

    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit) as caught:
            asked_to_end()
    finally:
        signal.signal(signal.SIGHUP, handler)
    assert (caught.value.code, tidied) == (143, [True])
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
