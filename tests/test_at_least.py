"""Qualities whose files are those of better ones that take no more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import vqzip
from vqzip import encoding
from vqzip.at_least import CLEARLY, LARGEST, LOOKS, SMOOTH, encode_at_least
from vqzip.quality import HIGHEST_QUALITY, level_of_quality
from vqzip.store import load_model

PIXELS = 10**5
LIMIT = round(SMOOTH * PIXELS / 8)  # bytes of a picture that is looked at


def look(
    sizes: dict[int, int], quality: int = 10, pixels: int = PIXELS, rest: int = 10**6
) -> tuple[int, int, list[int]]:
    """Level and size of what is taken, and the qualities that are encoded."""
    quality_of = {level_of_quality(q): q for q in range(1, HIGHEST_QUALITY + 1)}
    seen: list[int] = []

    def encode(level: int) -> bytes:
        seen.append(quality_of[level])
        return bytes(sizes.get(seen[-1], rest))

    level, stream = encode_at_least(encode, quality, pixels)
    return quality_of[level], len(stream), seen


def test_a_picture_with_much_in_it_is_encoded_once() -> None:
    assert look({10: LIMIT, 11: 1}) == (10, LIMIT, [10])
    assert look({10: LIMIT - 1, 11: 1, 12: 2})[:2] == (11, 1)


def test_a_large_picture_is_encoded_once() -> None:
    assert look({10: 1000, 11: 900}, pixels=LARGEST + 1) == (10, 1000, [10])
    assert look({10: 1000, 11: 900}, pixels=LARGEST) == (11, 900, [10, 11, 12])


@pytest.mark.parametrize("other", [999, 1000])
def test_a_better_one_is_taken_that_takes_no_more(other: int) -> None:
    assert look({10: 1000, 11: other}) == (11, other, [10, 11, 12])


def test_one_that_is_clearly_larger_ends_the_search() -> None:
    assert look({10: 1000, 11: 1037, 12: 900}) == (10, 1000, [10, 11])
    assert look({10: 1000, 11: 1036, 12: 900}) == (12, 900, [10, 11, 12, 13])


def test_it_looks_so_far_above_the_best_one() -> None:
    flat = dict.fromkeys(range(11, 101), 1001) | {10: 1000}
    assert look(flat) == (10, 1000, list(range(10, 11 + LOOKS)))
    flat[10 + LOOKS] = 999
    assert look(flat) == (10 + LOOKS, 999, list(range(10, 11 + 2 * LOOKS)))


def test_nothing_is_above_the_best_quality() -> None:
    assert look({}, quality=100, rest=1) == (100, 1, [100])
    assert look({}, quality=98, rest=1) == (100, 1, [98, 99, 100])


@given(st.lists(st.integers(1, LIMIT - 1), min_size=20, max_size=20), st.integers(1, 20))
def test_it_is_never_worse_or_larger(sizes: list[int], quality: int) -> None:
    table = {1 + i: size for i, size in enumerate(sizes)}
    found, size, _ = look(table, quality)
    assert found >= quality
    assert size <= table[quality]
    assert size == table[found]


@given(st.lists(st.integers(0, 20), min_size=20, max_size=20))
def test_larger_qualities_are_not_smaller_where_steps_back_are_short(rises: list[int]) -> None:
    """Sizes that rise clearly, but for every third, which is up to a fiftieth smaller."""
    sizes, size = {}, 1000.0
    for i, rise in enumerate(rises):
        size *= 0.98 + rise / 1000 if i % 3 == 2 else CLEARLY + 0.03 + rise / 1000
        sizes[1 + i] = round(size)
    taken = [look(sizes, q, pixels=LARGEST)[1] for q in sizes]
    assert taken == sorted(taken)


def test_a_file_says_which_level_it_is() -> None:
    model, pixels = load_model(), np.full((64, 64, 3), (40, 90, 160), np.uint8)
    for quality in range(20, 24):
        file = vqzip.info(vqzip.compress(Image.fromarray(pixels), quality, model))
        own, taken = level_of_quality(quality), file.level
        streams = [len(encoding.encode(model, pixels, level)) for level in (own, taken)]
        assert taken >= own
        assert file.chunks["C"] == streams[1] <= streams[0]
