"""Work shared out among threads: NumPy and torch leave the interpreter free while they work.

Results do not depend on the number of threads.  Pieces are kept large: on few rows the hand-over
takes longer than the work.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Generic, TypeVar

from vqzip.process import processors

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

LEAST = 128
"""Rows of a piece at least."""


@lru_cache
def count() -> int:
    """Threads to use: OMP_NUM_THREADS, as torch and BLAS take it, else all processors."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    return processors()


@lru_cache
def _libraries() -> ThreadpoolController:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def products_on_one_thread() -> Iterator[None]:
    """Have NumPy's products on one thread, its own ones asleep.

    After each they look for more for a while, and take the processors from the threads here: it all
    takes up to twice as long.
    """
    with _libraries().limit(limits=1, user_api="blas"):
        yield


@lru_cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count(), thread_name_prefix="vqzip")


def share(work: Callable[[slice], None], rows: int) -> None:
    """Call `work` with slices that together are all `rows`, at the same time if that pays."""
    pieces = min(count(), rows // LEAST)
    if pieces < 2:
        work(slice(0, rows))
        return
    ends = [rows * i // pieces for i in range(pieces + 1)]
    mine, *others = (slice(a, b) for a, b in pairwise(ends))
    waiting = [_pool().submit(work, rows) for rows in others]
    work(mine)
    for future in waiting:
        future.result()


def each(work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Call `work` with each of the items, as many at a time as there are threads."""
    if min(count(), len(items)) < 2:
        return [work(item) for item in items]
    return list(_pool().map(work, items))


class Behind(Generic[_Item]):
    """Calls `work` with one item after the other, while the next one is made here."""

    def __init__(self, work: Callable[[_Item], object]) -> None:
        self._work = work
        self._waiting: Future[object] | None = None

    def __call__(self, item: _Item) -> None:
        """The next item; waits for the work on the one before."""
        self.wait()
        if count() < 2:
            self._work(item)
        else:
            self._waiting = _pool().submit(self._work, item)

    def wait(self) -> None:
        """Wait for the work on the last item."""
        if self._waiting is not None:
            self._waiting.result()
