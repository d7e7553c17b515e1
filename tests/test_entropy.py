import hashlib
from decimal import Decimal, localcontext

import numpy as np
import pytest
import reference_prior
from hypothesis import given, settings
from hypothesis import strategies as st

from vqzip.coder import frequencies
from vqzip.entropy import EXP2, CodebookTable, error_terms
from vqzip.errors import VqzError
from vqzip.integer import Doubles
from vqzip.layout import Ints


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
    digest = hashlib.sha256(EXP2[:-1].astype("<u4").tobytes()).hexdigest()
    assert digest == "d4568c411c01b006ea77ca8269868773eacb71b42076c0273e12c70a456348b6"


def test_exp2_is_rounded_to_nearest() -> None:
    assert EXP2.tolist() == [*reference_prior.exp2(), 0]


def test_no_entry_of_exp2_is_left_to_the_machine() -> None:
    """None is so close to a half that an inexact power function could round it to the other side.

    Power functions are within a few units in the last place, 2^-53; this leaves a thousand.
    """
    with localcontext() as context:
        context.prec = 30
        exact = [Decimal(2) ** (28 - Decimal(i) / 256) for i in range(len(EXP2) - 1)]
        slack = min(abs(x % 1 - Decimal("0.5")) / x for x in exact)
    assert slack > 1000 * Decimal(2) ** -53


# Weights and frequencies.


@settings(deadline=None)
@given(tables, seeds)
def test_weights_are_integers_and_frequencies_sum_to_the_total(
    book: CodebookTable, seed: int
) -> None:
    weights = book.weights(random_features(5, book.groups * book.dim, seed))
    assert weights.shape == (5 * book.groups, book.size)
    assert (weights == np.floor(weights)).all()
    assert (weights >= 0).all()
    assert (weights.max(1) == 2**28).all()
    found = frequencies(weights)
    assert (found >= 1).all()
    assert (found.sum(1) == 2**24).all()


@settings(deadline=None, max_examples=50)
@given(codebooks, seeds)
def test_frequencies_agree_with_the_reference(codebook: tuple[Ints, Ints, Ints], seed: int) -> None:
    _, labels, bias = codebook
    groups, _, dim = labels.shape
    features = random_features(2, groups * dim, seed)
    found = frequencies(CodebookTable(*codebook).weights(features)).reshape(2, groups, -1)
    grouped = features.astype(np.int64).reshape(2, groups, dim, 4)
    for n in range(2):
        for g in range(groups):
            likely = reference_prior.weights(labels[g], bias[g], grouped[n, g])
            expected = reference_prior.counts(likely)
            assert (found[n, g] - 1).tolist() == expected


@given(st.integers(1, 9), seeds)
def test_weights_do_not_depend_on_how_positions_are_blocked(rows: int, seed: int) -> None:
    book = CodebookTable(*random_codebook(2, 9, 2, seed))
    features = random_features(20, 4, seed)
    whole = book.weights(features)
    book.rows = rows
    np.testing.assert_array_equal(book.weights(features), whole)


def gaussian(labels: list[int], mean: float, scale: float) -> list[float]:
    """Frequencies of a Gaussian's density at labels in code units, as the coder has them."""
    precision = round(0.5 / scale**2 / np.log(2) * 2**16)
    features = np.array([[[2 * precision * round(64 * mean), precision, 0, 0]]], np.float64)
    points = 64 * np.array(labels)[None, :, None]
    book = CodebookTable(points, points, np.zeros((1, len(labels)), np.int64))
    found: list[float] = (frequencies(book.weights(features))[0] / 2**24).tolist()
    return found


def test_counts_of_a_gaussian() -> None:
    labels = list(range(-6, 7))
    density = np.exp(-0.5 * (np.array(labels) - 0.75) ** 2 / 1.5**2)
    assert gaussian(labels, 0.75, 1.5) == pytest.approx(density / density.sum(), rel=0.004)


def test_codewords_without_hope_have_the_least_frequency() -> None:
    assert gaussian([-100, 0, 100], 0, 0.5) == [2**-24, 1 - 2**-23, 2**-24]


def test_equal_logits_have_equal_frequencies_but_for_rounding() -> None:
    points = np.zeros((1, 3, 1), np.int64)
    book = CodebookTable(points, points, np.zeros((1, 3), np.int64))
    third = (2**24 - 3) // 3
    assert (2**24 - 3) % 3 == 1
    found = frequencies(book.weights(np.ones((1, 1, 4))))
    assert found.tolist() == [[third + 1, third + 1, third + 2]]


def test_a_bias_of_one_bit_doubles_the_frequency() -> None:
    points = np.zeros((1, 2, 1), np.int64)
    book = CodebookTable(points, points, np.array([[4096, 0]]))
    weights = book.weights(np.zeros((1, 1, 4)))
    assert weights.tolist() == [[2**28, 2**27]]
    first = (2**24 - 2) * 2 // 3 + 1
    assert frequencies(weights).tolist() == [[first, 2**24 - first]]


def test_a_weight_may_be_zero_and_has_the_least_frequency() -> None:
    found = frequencies(np.array([[0, 1, 0, 0.0], [2**28, 0, 0, 2**28]]))
    assert found.tolist() == [[1, 2**24 - 3, 1, 1], [2**23 - 1, 1, 1, 2**23 - 1]]


def test_the_tails_shape_the_distribution() -> None:
    """Half a bit less for a whole unit of |c|, one bit more for everything but the origin."""
    points = 64 * np.array([[[0], [1], [-2], [4]]])
    book = CodebookTable(points, points, np.zeros((1, 4), np.int64))
    features = np.array([[[0, 0, -(2**21), 2**22]]], np.float64)  # 28 fraction bits, sixty-fourths
    logits = book.logits(features)[0, 0] / 2**8
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
    codes = np.random.default_rng(seed).integers(0, book.size, (4, book.groups), np.uint16)
    found = book.vectors(codes)
    assert found.shape == (4, book.groups * book.dim)
    for n in range(4):
        rows = [book.codewords[g, codes[n, g]] for g in range(book.groups)]
        assert found[n].tolist() == np.concatenate(rows).tolist()


@settings(deadline=None)
@given(tables, seeds)
def test_closeness_falls_with_the_squared_error(book: CodebookTable, seed: int) -> None:
    rng = np.random.default_rng(seed)
    channels = book.groups * book.dim
    points = rng.integers(-400, 401, (3, channels)) / 64
    weight = rng.integers(1, 100, (3, channels)) / 4
    difference = points.reshape(3, book.groups, 1, book.dim) - book.codewords / 64
    squares = (weight.reshape(3, book.groups, 1, book.dim) * difference**2).sum(3)
    origin = (weight * points**2).reshape(3, book.groups, 1, book.dim).sum(3)
    found = book.closeness(error_terms(points.astype(np.float32), weight.astype(np.float32)))
    np.testing.assert_allclose(found / 256, origin - squares, rtol=1e-9, atol=1e-6)
