"""The guess of code vectors that training chooses codes in the context of."""

from __future__ import annotations

import torch

from vqzip.train.guess import SAMPLED, SHRINKAGE, centre, guess


def test_centres_are_medians_of_channels() -> None:
    latent = torch.tensor([[[1.0, 9, 2], [-3, -4, 7]]])
    assert torch.equal(centre(latent), torch.tensor([[[2.0], [-3]]]))


def test_centres_of_many_positions_are_told_from_some() -> None:
    latent = torch.zeros(1, 2 * SAMPLED)
    latent[0, 1::2] = 5  # every second position, which are left out
    assert float(centre(latent)) == 0


def test_latents_are_drawn_to_the_middle_but_not_past_it() -> None:
    middle = torch.tensor([[1.0]])
    latent = torch.tensor([[1.0, 1 + SHRINKAGE / 2, 1 - SHRINKAGE / 2, 4.0, -2.0]])
    expected = torch.tensor([[1.0, 1, 1, 4 - SHRINKAGE, -2 + SHRINKAGE]])
    torch.testing.assert_close(guess(latent, middle), expected)
