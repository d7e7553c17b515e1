"""What filters are found from: pixels that tell most are drawn most, and means stay as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_codec import any_codes
from test_wiener import image
from tiny_model import picture
from torch import Tensor

from vqzip import encoding, least_squares
from vqzip.codec import CodecModel
from vqzip.least_squares import Statistics
from vqzip.terms import REACH, TERMS, terms, terms_at

pytest_plugins = ["tiny_fixtures"]


def flat_with_an_edge(height: int = 200, width: int = 120) -> tuple[Tensor, Tensor]:
    """A picture that is off at the edge alone, and what it should be."""
    decoded = torch.full((3, height, width), 0.25)
    decoded[:, :, width // 2 :] = 0.75
    original = decoded.clone()
    original[:, :, width // 2 - 1 : width // 2 + 1] += 0.01 * image(height, 2)
    return decoded, original


def test_terms_at_some_pixels_are_those_of_all() -> None:
    x = image(15, 20)
    some = torch.tensor([0, 13, 14, 9 * 14 - 1, 50])
    torch.testing.assert_close(
        terms_at(x, some), terms(x).flatten(1)[:, some], rtol=1e-5, atol=1e-5
    )


def test_all_pixels_are_drawn_if_the_share_is_infinite() -> None:
    x, y = image(20, 30), image(20, 30, 1)
    found, inside = Statistics.of(x, y), terms(x).flatten(1)
    lacking = (y - x)[:, REACH:-REACH, REACH:-REACH].flatten(1)
    assert found.count == inside.shape[1] == 14 * 24
    np.testing.assert_allclose(found.products, inside @ inside.T / found.count, rtol=1e-5)
    np.testing.assert_allclose(found.wanted, inside @ lacking.T / found.count, atol=1e-6)


@pytest.mark.parametrize("share", [1 / 9, 1 / 3, 1.0])
def test_about_as_many_pixels_are_drawn_as_asked_for(
    monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    counts = []

    def counted(x: Tensor, drawn: Tensor) -> Tensor:
        counts.append(len(drawn))
        return terms_at(x, drawn)

    monkeypatch.setattr(least_squares, "terms_at", counted)
    x = image(206, 306)
    Statistics.of(x, x + 0.01 * image(206, 306, 1), share)
    limit = 200 * 300 * share
    assert 0.85 * limit < counts[0] <= 1.01 * limit


def test_means_stay_what_they_are() -> None:
    """Whatever is drawn: of 6,667 pixels of noise, to one part in the root of that."""
    x, y = image(206, 306), image(206, 306, 1)
    some, every = Statistics.of(x, y, 1 / 9), Statistics.of(x, y)
    assert some.count == every.count == 200 * 300
    sizes = np.sqrt(np.diag(every.products))
    off = np.abs(some.products - every.products) / np.outer(sizes, sizes)
    assert off.mean() < 6667**-0.5
    assert off.max() < 0.1
    assert (np.abs(some.wanted - every.wanted) / sizes[:, None]).mean() < 0.5 * 6667**-0.5


def test_where_edges_are_and_what_is_off_is_drawn_more_often() -> None:
    """Of one column in twenty, all pixels: what they lack is known as if all others were, too."""
    some, every = (Statistics.of(*flat_with_an_edge(), share) for share in (1 / 9, np.inf))
    np.testing.assert_allclose(some.wanted, every.wanted, rtol=1e-4, atol=1e-9)


def test_statistics_of_parts_are_those_of_all_their_pixels() -> None:
    x, y = image(30, 16), image(30, 16, seed=1)
    whole = Statistics.of(x, y)
    # Inner rows are 3 to 26: these parts have 3 to 11 and 12 to 26.
    parts = [Statistics.of(x[:, :15], y[:, :15]), Statistics.of(x[:, 9:], y[:, 9:])]
    joined = Statistics.joined([*parts, Statistics.of(x[:, :6], y[:, :6])])
    assert joined.count == whole.count == 24 * 10
    np.testing.assert_allclose(joined.products, whole.products, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(joined.wanted, whole.wanted, atol=1e-6)


def test_an_image_without_inner_pixels_tells_nothing() -> None:
    found = Statistics.of(image(6, 100), image(6, 100), 0.5)
    assert found.count == 0
    assert found.products.shape == (TERMS, TERMS)
    assert not found.products.any()


def test_a_picture_without_edges_that_is_right_is_drawn_from_evenly() -> None:
    x = torch.full((3, 106, 106), 0.5)
    found = Statistics.of(x, x, 0.1)
    assert found.products[0, 0] == pytest.approx(1 / 64, rel=0.02)
    assert not found.wanted.any()


def test_pixels_of_a_small_picture_are_all_looked_at(model: CodecModel) -> None:
    """Those that are drawn are about as many whatever the size."""
    pixels, codes = picture(60, 40), any_codes(model, 60, 40, 64)
    seen = encoding.decoded_windows(model, pixels, codes, 64)
    assert seen
    for each in seen:
        whole = Statistics.of(each.image, each.original)
        np.testing.assert_array_equal(each.statistics.products, whole.products)
