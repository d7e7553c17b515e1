from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_model import picture

from vqzip import store
from vqzip.codec import CodecModel, worth
from vqzip.container import MAX_LEVEL
from vqzip.integer import Doubles
from vqzip.least_squares import Statistics
from vqzip.schema import check_tensors
from vqzip.terms import TERMS
from vqzip.train.filters import (
    FilterConfig,
    Sample,
    as_weights,
    best_filter,
    count_coefficients,
    learn_bank,
    learn_filters,
    learn_kernels,
)
from vqzip.wiener import FilterBank

pytest_plugins = ["tiny_fixtures"]

CONFIG = FilterConfig(pictures=3, side=48, kernels=2, largest=4, pixels=1000, ridge=1e-9)


def products() -> Doubles:
    """Squares of terms, of which no two are alike."""
    root = np.random.default_rng(0).normal(size=(TERMS, TERMS))
    return np.asarray(root @ root.T + np.eye(TERMS))


def samples_of(filters: list[Doubles]) -> list[Sample]:
    """Pictures that lack what these filters (3, TERMS) add."""
    squares = products()
    found = [Statistics(squares, squares @ f.T, 1000) for f in filters]
    return [Sample(f, level=20 * i, worth=1.0) for i, f in enumerate(found)]


def test_the_best_filter_is_the_one_that_is_lacking() -> None:
    wanted = np.random.default_rng(1).normal(size=(3, TERMS))
    (sample,) = samples_of([wanted])
    np.testing.assert_allclose(best_filter(sample, products(), 1e-9).T, wanted, atol=1e-5)
    np.testing.assert_allclose(best_filter(sample, products(), 1e9).T, 0, atol=1e-5)


def test_kernels_are_what_filters_have_in_common() -> None:
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=(2, 3, TERMS))
    mixed = [a * one + b * other for a, b in ((1, 0), (-3, 0.1), (2, 0.3), (0.5, -0.2))]
    kernels = learn_kernels(samples_of(mixed), CONFIG)
    assert kernels.shape == (2, 3, TERMS)
    # They span what the filters do, and are orthogonal in what they do to pictures.
    for wanted in mixed:
        flat = kernels.reshape(2, -1)
        found = np.linalg.lstsq(flat.T, wanted.ravel(), rcond=None)[0] @ flat
        np.testing.assert_allclose(found, wanted.ravel(), atol=1e-6)
    gram = np.einsum("kct,tu,lcu->kl", kernels, products(), kernels)
    np.testing.assert_allclose(gram, np.eye(2), atol=1e-6)


def test_weights_are_whole_numbers_up_to_the_coders() -> None:
    share = np.array([[0.25, 0.5, 0.25], [0.0, 1.0, 0.0]])
    found = as_weights(share, 0.03)
    assert found.tolist() == [
        [round(0.2525 / 0.495 * 2**28), 2**28, round(0.2525 / 0.495 * 2**28)],
        [round(0.01 / 0.98 * 2**28), 2**28, round(0.01 / 0.98 * 2**28)],
    ]
    assert as_weights(share, 0.0)[1].tolist() == [1, 2**28, 1]


def test_frequencies_are_those_of_what_is_chosen() -> None:
    """A coefficient that is 1 or -1 in all pictures, and one that is 0 in all of them."""
    kernels = np.random.default_rng(3).normal(size=(2, 3, TERMS)).astype(np.float32)
    steps = np.ones(MAX_LEVEL + 1, np.float32)
    bank = FilterBank(kernels, steps, as_weights(np.ones((2, 5)), 0.0))
    taken = samples_of([sign * kernels[0] for sign in (1, -1, 1)])
    weights = count_coefficients(bank, taken, spare=0.0).weights
    share = weights / weights.sum(1, keepdims=True)
    np.testing.assert_allclose(share[0], [0, 0.4, 0.2, 0.4, 0], atol=1e-6)
    np.testing.assert_allclose(share[1], [0, 0.1, 0.8, 0.1, 0], atol=1e-6)


def test_a_bank_is_learned(model: CodecModel) -> None:
    one = 0.1 * np.random.default_rng(4).normal(size=(3, TERMS))
    taken = [
        replace(sample, worth=worth(model, sample.level) * CONFIG.pixels)
        for sample in samples_of([one, -2 * one, 3 * one])
    ]
    bank = learn_bank(taken, model, CONFIG)
    assert bank.kernels.shape == (2, 3, TERMS)
    assert bank.steps.shape == (MAX_LEVEL + 1,)
    assert bank.steps[64] ** 2 * worth(model, 64) * CONFIG.pixels == pytest.approx(CONFIG.worth)
    assert bank.weights.shape == (2, 2 * CONFIG.largest + 1)
    # The first has a coefficient of its own in each picture, the second none.
    assert bank.weights[0].argmax() != CONFIG.largest or bank.weights[0].min() > 1
    assert bank.weights[1].argmax() == CONFIG.largest


def test_filters_are_tensors_of_a_model(model: CodecModel, exported: Path, tmp_path: Path) -> None:
    photos = []
    for i in range(3):
        photos.append(tmp_path / f"{i}.png")
        Image.fromarray(picture(60, 50, seed=i)).save(photos[-1])
    lines: list[str] = []
    found = learn_filters(model, photos, replace(CONFIG, report=2), lines.append)
    assert lines == ["filters: 2 of 3 photos"]
    assert sorted(found) == ["wiener.kernels", "wiener.steps", "wiener.weights"]
    tensors, config = store.load_tensors(exported)
    check_tensors(tensors | found, config)
    again = learn_filters(model, photos, CONFIG, lines.append)
    assert all((found[name] == again[name]).all() for name in found)


def test_without_pictures_there_are_no_filters(model: CodecModel) -> None:
    assert learn_filters(model, [], CONFIG, print) == {}
