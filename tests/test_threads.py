"""Work shared among threads."""

from __future__ import annotations

import threading

import pytest

from vqzip import threads


@pytest.fixture(autouse=True)
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "count", lambda: 2)


@pytest.mark.parametrize("rows", [0, 1, 255, 256, 257, 1001])
def test_slices_are_all_rows_once(rows: int) -> None:
    seen: list[int] = []
    threads.share(lambda part: seen.extend(range(part.start, part.stop)), rows)
    assert sorted(seen) == list(range(rows))


def test_pieces_are_worked_on_at_the_same_time() -> None:
    together = threading.Barrier(2, timeout=10)

    def work(_: slice) -> None:
        together.wait()

    threads.share(work, 2 * threads.LEAST)


def test_few_rows_are_one_piece() -> None:
    parts: list[slice] = []
    threads.share(parts.append, 2 * threads.LEAST - 1)
    assert parts == [slice(0, 2 * threads.LEAST - 1)]


@pytest.mark.parametrize("items", [[], [3], [3, 1, 2]])
def test_results_come_in_the_order_of_their_items(items: list[int]) -> None:
    assert threads.each(lambda item: -item, items) == [-item for item in items]


def test_items_are_worked_on_at_the_same_time() -> None:
    together = threading.Barrier(2, timeout=10)
    assert set(threads.each(lambda _: together.wait(), [0, 1])) == {0, 1}


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("items", [[], [3], [3, 1, 2, 5]])
def test_work_behind_takes_items_in_turn(
    items: list[int], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "count", lambda: count)
    seen: list[int] = []
    behind = threads.Behind(seen.append)
    for item in items:
        behind(item)
    behind.wait()
    assert seen == items


def test_an_item_is_worked_on_while_the_next_one_is_made() -> None:
    together = threading.Barrier(2, timeout=10)

    behind: threads.Behind[int] = threads.Behind(lambda _: together.wait())
    for item in range(4):
        behind(item)
        together.wait()
    behind.wait()


@pytest.mark.parametrize("bad", [0, 3])
def test_a_failure_behind_reaches_the_caller(bad: int) -> None:
    def work(item: int) -> None:
        if item == bad:
            raise ValueError("no")

    behind = threads.Behind(work)

    def all_of_it() -> None:
        for item in range(4):
            behind(item)
        behind.wait()

    with pytest.raises(ValueError, match="no"):
        all_of_it()


@pytest.mark.parametrize("first", [True, False])
def test_a_failure_reaches_the_caller(first: bool) -> None:
    def work(part: slice) -> None:
        if (part.start == 0) == first:
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        threads.share(work, 1000)


@pytest.mark.parametrize(("asked", "expected"), [("3", 3), ("1", 1)])
def test_the_number_of_threads_can_be_asked_for(
    asked: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    threads.count.cache_clear()
    assert threads.count() == expected
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    threads.count.cache_clear()
    assert threads.count() >= 1
    threads.count.cache_clear()
