"""How much errors count in smooth places and in texture."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vqzip.masking import coarser, error_weight


def stripes(low: float, high: float, side: int = 48) -> Tensor:
    """An image (1, 3, side, side) of stripes one pixel wide."""
    return torch.tensor([low, high]).repeat(side // 2).expand(1, 3, side, side)


@pytest.mark.parametrize("brightness", [0.0, 0.3, 1.0])
def test_errors_count_most_where_there_is_nothing(brightness: float) -> None:
    image = torch.full((2, 3, 32, 16), brightness)
    torch.testing.assert_close(error_weight(image), torch.full((2, 1, 4, 2), 200**0.2))


def test_weight_falls_with_the_power_of_the_variance() -> None:
    """Stripes of 0.3 and 0.5 have a variance of 0.01, five times the typical one."""
    inner = error_weight(stripes(0.3, 0.5))[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(inner, torch.full_like(inner, 5**-0.2))
    inner = error_weight(stripes(0.0, 1.0))[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(inner, torch.full_like(inner, 125**-0.2))


def test_colour_alone_is_no_texture() -> None:
    image = stripes(0.3, 0.5)
    image = torch.stack([image[:, 0], 0.8 - image[:, 0], image[:, 2] * 0 + 0.4], 1)
    torch.testing.assert_close(error_weight(image), torch.full((1, 1, 6, 6), 200**0.2))


def test_a_position_sees_as_much_around_it_as_it_is_wide() -> None:
    """A spot in one block of 8 x 8 pixels changes the nearest half of those around it."""
    image = torch.full((1, 3, 40, 40), 0.5)
    image[..., 16:20, 16:20] = 1.0
    seen = error_weight(image)[0, 0] < 2.8
    expected = torch.zeros(5, 5, dtype=torch.bool)
    expected[1:3, 1:3] = True
    assert torch.equal(seen, expected)


def test_coarser_weights_are_means() -> None:
    weight = torch.arange(16.0).view(1, 1, 4, 4)
    assert coarser(weight)[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
