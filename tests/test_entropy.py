import hashlib
import random
from decimal import Decimal, localcontext
from itertools import pairwise

import numpy as np
import pytest
import reference_prior
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_stream import RangeDecoder

from vqzip.entropy import EXP2, CodebookTable, Decoder, Encoder
from vqzip.errors import VqzError
from vqzip.integer import Doubles, Ints


def random_codebook(groups: int, size: int, dim: int, seed: int) -> tuple[Ints, Ints, Ints]:
    """Codewords, labels near them within five code units, and biases within 4 bits."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(-320, 321, (groups, size, dim))
    codewords = labels + rng.integers(-20, 21, labels.shape)
    return codewords, labels, rng.integers(-(2**14), 2**14, (groups, size))


def random_features(positions: int, channels: int, seed: int) -> Doubles:
    """Features as the prior gives them, flat to steep."""
    rng = np.random.default_rng(seed)
    mean = rng.integers(-(2**15), 2**15 + 1, (positions, channels)) >> rng.integers(0, 15)
    precision = rng.integers(0, 2**21, (positions, channels)) >> rng.integers(0, 20)
    tails = rng.integers(-(2**28), 2**28 + 1, (positions, channels, 2)) >> rng.integers(0, 20)
    features = np.stack([2 * precision * mean, precision, tails[..., 0], tails[..., 1]], axis=2)
    return features.astype(np.float64)


seeds = st.integers(0, 2**32)
codebooks = st.builds(
    random_codebook, st.integers(1, 3), st.integers(1, 40), st.integers(1, 4), seeds
)
tables = codebooks.map(lambda codebook: CodebookTable(*codebook))


# The exponential table.


def test_exp2_is_pinned() -> None:
    digest = hashlib.sha256(EXP2.astype("<u4").tobytes()).hexdigest()
    assert digest == "d4568c411c01b006ea77ca8269868773eacb71b42076c0273e12c70a456348b6"


def test_exp2_is_rounded_to_nearest() -> None:
    assert EXP2.tolist() == reference_prior.exp2()


def test_no_entry_of_exp2_is_left_to_the_machine() -> None:
    """None is so close to a half that an inexact power function could round it to the other side.

    Power functions are within a few units in the last place, 2^-53; this leaves a thousand.
    """
    with localcontext() as context:
        context.prec = 30
        exact = [Decimal(2) ** (28 - Decimal(i) / 256) for i in range(len(EXP2))]
        slack = min(abs(x % 1 - Decimal("0.5")) / x for x in exact)
    assert slack > 1000 * Decimal(2) ** -53


# Counts.


@settings(deadline=None)
@given(tables, seeds)
def test_counts_are_integers_that_sum_to_the_total(book: CodebookTable, seed: int) -> None:
    counts = book.counts(random_features(5, book.groups * book.dim, seed))
    assert counts.shape == (5 * book.groups, book.size)
    assert (counts == np.floor(counts)).all()
    assert (counts >= 0).all()
    assert (counts.sum(1) == 2**24 - book.size).all()


@settings(deadline=None, max_examples=50)
@given(codebooks, seeds)
def test_counts_agree_with_the_reference(codebook: tuple[Ints, Ints, Ints], seed: int) -> None:
    _, labels, bias = codebook
    groups, _, dim = labels.shape
    features = random_features(2, groups * dim, seed)
    found = CodebookTable(*codebook).counts(features).reshape(2, groups, -1)
    grouped = features.astype(np.int64).reshape(2, groups, dim, 4)
    for n in range(2):
        for g in range(groups):
            expected = reference_prior.counts(labels[g], bias[g], grouped[n, g])
            assert found[n, g].tolist() == expected


def gaussian(labels: list[int], mean: float, scale: float) -> list[float]:
    """Frequencies of a Gaussian's density at labels in code units, as the coder has them."""
    precision = round(0.5 / scale**2 / np.log(2) * 2**16)
    features = np.array([[[2 * precision * round(64 * mean), precision, 0, 0]]], np.float64)
    points = 64 * np.array(labels)[None, :, None]
    book = CodebookTable(points, points, np.zeros((1, len(labels)), np.int64))
    frequencies: list[float] = ((book.counts(features)[0] + 1) / 2**24).tolist()
    return frequencies


def test_counts_of_a_gaussian() -> None:
    labels = list(range(-6, 7))
    density = np.exp(-0.5 * (np.array(labels) - 0.75) ** 2 / 1.5**2)
    assert gaussian(labels, 0.75, 1.5) == pytest.approx(density / density.sum(), rel=0.004)


def test_codewords_without_hope_have_the_least_frequency() -> None:
    assert gaussian([-100, 0, 100], 0, 0.5) == [2**-24, 1 - 2**-23, 2**-24]


def test_equal_logits_have_equal_counts_but_for_the_remainder() -> None:
    points = np.zeros((1, 3, 1), np.int64)
    book = CodebookTable(points, points, np.zeros((1, 3), np.int64))
    free = 2**24 - 3
    assert book.counts(np.ones((1, 1, 4))).tolist() == [
        [free // 3 + free % 3, free // 3, free // 3]
    ]


def test_a_bias_of_one_bit_doubles_the_frequency() -> None:
    points = np.zeros((1, 2, 1), np.int64)
    book = CodebookTable(points, points, np.array([[4096, 0]]))
    low, high = sorted(book.counts(np.zeros((1, 1, 4)))[0].tolist())
    assert low == (2**24 - 2) // 3
    assert high == 2**24 - 2 - low


def test_the_tails_shape_the_distribution() -> None:
    """Half a bit less for a whole unit of |c|, one bit more for everything but the origin."""
    points = 64 * np.array([[[0], [1], [-2], [4]]])
    book = CodebookTable(points, points, np.zeros((1, 4), np.int64))
    features = np.array([[[0, 0, -(2**21), 2**22]]], np.float64)  # 28 fraction bits, sixty-fourths
    logits = book.logits(features)[0, 0] / 2**28
    assert logits.tolist() == [0, 0.5, 0, -1]


def test_a_codebook_whose_logits_are_not_exact_is_refused() -> None:
    far = np.full((1, 2, 1), 2**15 - 1)
    CodebookTable(far, far // 2, np.zeros((1, 2), np.int64))
    with pytest.raises(VqzError) as caught:
        CodebookTable(far, far, np.zeros((1, 2), np.int64))
    assert str(caught.value) == "model: a codebook's logits are not exact"


@settings(deadline=None)
@given(tables, seeds)
def test_vectors_look_codes_up(book: CodebookTable, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, book.size, (4, book.groups))
    found = book.vectors(codes)
    assert found.shape == (4, book.groups * book.dim)
    for n in range(4):
        rows = [book.codewords[g, codes[n, g]] for g in range(book.groups)]
        assert found[n].tolist() == np.concatenate(rows).tolist()


@settings(deadline=None)
@given(tables, seeds)
def test_closeness_falls_with_the_squared_error(book: CodebookTable, seed: int) -> None:
    points = np.random.default_rng(seed).integers(-400, 401, (3, book.groups * book.dim))
    error = np.zeros((*points.shape, 4))
    error[..., 0], error[..., 1] = 2 * points, 1
    difference = points.reshape(3, book.groups, 1, book.dim) - book.codewords
    squares = (difference**2).sum(3)
    origin = (points.reshape(3, book.groups, 1, book.dim) ** 2).sum(3)
    np.testing.assert_array_equal(book.closeness(error), origin - squares)


# The coder.


def random_codes(counts: Doubles, seed: int) -> Ints:
    """Codes about as frequent as their counts say, with some that are not."""
    rng = np.random.default_rng(seed)
    likely = (rng.random((len(counts), 1)) > (counts + 1).cumsum(1) / 2**24).sum(1)
    anything = rng.integers(0, counts.shape[1], len(counts))
    return np.where(rng.random(len(counts)) < 0.8, likely, anything)


batches = st.lists(st.tuples(tables.filter(lambda book: book.size > 1), seeds), max_size=5)


@settings(deadline=None)
@given(batches)
def test_round_trip(batches: list[tuple[CodebookTable, int]]) -> None:
    encoder, expected = Encoder(), []
    for book, seed in batches:
        counts = book.counts(random_features(4, book.groups * book.dim, seed))
        codes = random_codes(counts, seed)
        encoder.put(codes, counts)
        expected.append((codes, counts))
    decoder = Decoder(encoder.finish())
    for codes, counts in expected:
        assert decoder.get(counts).tolist() == codes.tolist()


@settings(deadline=None, max_examples=50)
@given(batches)
def test_the_reference_decodes_the_stream(batches: list[tuple[CodebookTable, int]]) -> None:
    encoder = Encoder()
    expected: list[tuple[int, list[int]]] = []
    for book, seed in batches:
        counts = book.counts(random_features(4, book.groups * book.dim, seed))
        codes = random_codes(counts, seed)
        encoder.put(codes, counts)
        expected += zip(codes.tolist(), counts.astype(np.int64).tolist(), strict=True)
    decoder = RangeDecoder(encoder.finish())
    for code, row in expected:
        assert decoder.get(row) == code


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
    counts = book.counts(random_features(20, book.groups * book.dim, seed))
    decoder = Decoder(stream)
    try:
        codes = decoder.get(counts)
    except VqzError as error:
        assert str(error).startswith("corrupt code stream: ")  # noqa: PT017
    else:
        assert codes.shape == (20 * book.groups,)
        assert (codes >= 0).all()
        assert (codes < book.size).all()


def test_the_range_decoder_of_the_reference_refuses_the_same() -> None:
    decoder = RangeDecoder(b"\xff" * 12)
    with pytest.raises(ValueError, match="not a stream"):
        decoder.get([2**23 - 1] * 2)
