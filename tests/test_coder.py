"""The range coder: against a reference, and by intervals against by weights."""

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_stream import RangeDecoder
from test_entropy import random_features, seeds, tables

from vqzip.coder import Counter, Decoder, Encoder, frequencies, intervals_of, sums_of
from vqzip.entropy import CodebookTable, Codes
from vqzip.errors import VqzError
from vqzip.integer import Doubles
from vqzip.layout import Ints


def random_codes(weights: Doubles, seed: int) -> Codes:
    """Codes about as frequent as their weights say, with some that are not."""
    rng = np.random.default_rng(seed)
    likely = (rng.random((len(weights), 1)) > frequencies(weights).cumsum(1) / 2**24).sum(1)
    anything = rng.integers(0, weights.shape[1], len(weights))
    return np.where(rng.random(len(weights)) < 0.8, likely, anything).astype(np.uint16)


batches = st.lists(st.tuples(tables.filter(lambda book: book.size > 1), seeds), max_size=5)


@settings(deadline=None)
@given(batches)
def test_round_trip(batches: list[tuple[CodebookTable, int]]) -> None:
    encoder, expected = Encoder(), []
    for book, seed in batches:
        weights = book.weights(random_features(4, book.groups * book.dim, seed))
        codes = random_codes(weights, seed)
        encoder.put(codes, weights)
        expected.append((codes, weights))
    decoder = Decoder(encoder.finish())
    for codes, weights in expected:
        assert decoder.get(weights).tolist() == codes.tolist()
    decoder.finish()


@settings(deadline=None, max_examples=50)
@given(batches)
def test_the_reference_decodes_the_stream(batches: list[tuple[CodebookTable, int]]) -> None:
    encoder = Encoder()
    expected: list[tuple[int, list[int]]] = []
    for book, seed in batches:
        weights = book.weights(random_features(4, book.groups * book.dim, seed))
        codes = random_codes(weights, seed)
        encoder.put(codes, weights)
        counts = frequencies(weights).astype(np.int64) - 1
        expected += zip(codes.tolist(), counts.tolist(), strict=True)
    decoder = RangeDecoder(encoder.finish())
    for code, row in expected:
        assert decoder.get(row) == code


@settings(deadline=None)
@given(batches)
def test_intervals_are_those_of_frequencies(batches: list[tuple[CodebookTable, int]]) -> None:
    for book, seed in batches:
        weights = book.weights(random_features(4, book.groups * book.dim, seed))
        codes = random_codes(weights, seed)
        counts = frequencies(weights).astype(np.int64)
        starts, ends = intervals_of(codes, sums_of(codes, weights), book.size)
        for row, code, start, end in zip(counts, codes, starts, ends, strict=True):
            assert (start, end) == (row[:code].sum(), row[: code + 1].sum())


def both_streams(batches: list[tuple[Codes, Doubles]]) -> tuple[bytes, bytes]:
    """By weights, and by intervals, of all batches at once."""
    by_weights, by_intervals = Encoder(), Encoder()
    found = []
    for codes, weights in batches:
        by_weights.put(codes, weights)
        found.append(intervals_of(codes, sums_of(codes, weights), weights.shape[1]))
    starts, ends = (np.concatenate(part) for part in zip(*found, strict=True))
    by_intervals.put_intervals((starts, ends))
    return by_weights.finish(), by_intervals.finish()


@settings(deadline=None)
@given(batches.filter(len))
def test_intervals_make_the_same_stream(batches: list[tuple[CodebookTable, int]]) -> None:
    chosen = []
    for book, seed in batches:
        weights = book.weights(random_features(4, book.groups * book.dim, seed))
        chosen.append((random_codes(weights, seed), weights))
    by_weights, by_intervals = both_streams(chosen)
    assert by_intervals == by_weights


@pytest.mark.parametrize("weights", [[2**28, 0], [0, 2**28]])
def test_intervals_of_all_but_the_least_frequency(weights: list[int]) -> None:
    two = np.array([weights, [3, 1], weights], np.float64)
    four = np.array([[2**28, 0, 1, 5]] * 4, np.float64)
    for codes in ([0, 0, 1], [1, 1, 0]):
        batches = [(np.array(codes, np.uint16), two), (np.arange(4, dtype=np.uint16), four)]
        by_weights, by_intervals = both_streams(batches)
        assert by_intervals == by_weights


def test_bits_are_those_of_frequencies() -> None:
    counter = Counter()
    counter.put(np.array([0, 1]), np.array([[2.0**28, 0], [1, 3]]))
    quarter = 1 + (2**24 - 2) // 4
    assert counter.bits == -np.log2(1 - 2**-24) - np.log2(1 - quarter / 2**24)


def golden_input() -> tuple[Doubles, Ints]:
    """Counts (40, 7) and codes that are the same everywhere and forever."""
    source = random.Random(1)  # promises the same numbers from `random` in all versions
    counts = []
    for _ in range(40):
        cuts = sorted(int(source.random() * (2**24 - 6)) for _ in range(6))
        counts.append([b - a for a, b in pairwise([0, *cuts, 2**24 - 7])])
    codes = [int(source.random() * 7) for _ in range(40)]
    return np.array(counts, np.float64), np.array(codes)


GOLDEN = "a460cdd47c67fcba8f1836072b62c38613748a64"


def test_golden_words() -> None:
    counts, codes = golden_input()
    assert (counts.sum(1) == 2**24 - 7).all()
    encoder = Encoder()
    encoder.put(codes, counts)
    assert encoder.finish().hex() == GOLDEN
    assert Decoder(bytes.fromhex(GOLDEN)).get(counts).tolist() == codes.tolist()


def test_nothing_is_an_empty_stream() -> None:
    assert Encoder().finish() == b""


@pytest.mark.parametrize("length", [1, 2, 3, 5, 4095])
def test_streams_of_half_words_are_refused(length: int) -> None:
    with pytest.raises(VqzError) as caught:
        Decoder(bytes(length))
    assert str(caught.value) == "corrupt code stream: its length is not a multiple of four"


def test_a_stream_that_no_encoder_writes_is_refused() -> None:
    decoder = Decoder(b"\xff" * 12)
    with pytest.raises(VqzError, match=r"^corrupt code stream: Tried to decode"):
        decoder.get(np.full((5, 2), 2.0**23 - 1))


@settings(deadline=None)
@given(st.binary(max_size=60).map(lambda b: b[: len(b) // 4 * 4]), tables, seeds)
def test_any_words_are_some_codes_or_refused(stream: bytes, book: CodebookTable, seed: int) -> None:
    if book.size == 1:
        return
    weights = book.weights(random_features(20, book.groups * book.dim, seed))
    decoder = Decoder(stream)
    try:
        codes = decoder.get(weights)
    except VqzError as error:
        assert str(error).startswith("corrupt code stream: ")  # noqa: PT017
    else:
        assert codes.shape == (20 * book.groups,)
        assert (codes >= 0).all()
        assert (codes < book.size).all()


@pytest.mark.parametrize("words", [2, 3, 100])  # the last one read may be partly looked at
def test_words_after_the_last_code_are_refused(words: int) -> None:
    counts, codes = golden_input()
    decoder = Decoder(bytes.fromhex(GOLDEN) + b"\1\2\3\4" * words)
    assert decoder.get(counts).tolist() == codes.tolist()
    with pytest.raises(VqzError) as caught:
        decoder.finish()
    assert str(caught.value) == "corrupt code stream: it goes on after the last code"


def test_the_range_decoder_of_the_reference_refuses_the_same() -> None:
    decoder = RangeDecoder(b"\xff" * 12)
    with pytest.raises(ValueError, match="not a stream"):
        decoder.get([2**23 - 1] * 2)
