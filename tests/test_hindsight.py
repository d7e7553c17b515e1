"""What codes leave of a picture, against the whole picture decoded at once."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from test_foresight import photo
from tiny_model import picture
from torch import Tensor

from vqzip import bands, codec, encoding, hindsight, store
from vqzip.bands import Positions
from vqzip.codec import CodecModel
from vqzip.integer import Floats
from vqzip.latents import Search
from vqzip.similarity import ms_ssim

LEVEL = 70


def vectors_of(rows: int, channels: int, seed: int) -> Floats:
    return np.random.default_rng(seed).normal(0, 1, (rows, channels)).astype(np.float32)


def given(array: Floats, positions: Positions) -> Floats:
    return array[positions]


def as_whole(vectors: Floats, width: int) -> Tensor:
    return torch.from_numpy(vectors).view(1, -1, width, vectors.shape[1]).permute(0, 3, 1, 2)


def finish(image: Tensor) -> Tensor:
    return image * 0.75


@pytest.mark.parametrize(
    ("width", "height", "structure"), [(48, 64, 100), (41, 600, 0), (530, 35, 0), (9, 7, 100)]
)
@pytest.mark.parametrize("dimmed", [False, True])
def test_error_and_slope_are_those_of_the_whole_picture(
    monkeypatch: pytest.MonkeyPatch,
    model: CodecModel,
    width: int,
    height: int,
    structure: int,
    dimmed: bool,
) -> None:
    """In one band with one part for MS-SSIM, without that in several bands, and in none."""
    monkeypatch.setattr(bands, "BAND", 64)
    monkeypatch.setattr(hindsight, "STRUCTURE", structure)
    pixels = picture(width, height)
    rows, columns = codec.top_shape(width, height)
    t, level = model.transform, torch.tensor([LEVEL / model.top.steps])
    top = vectors_of(rows * columns, t.config.top_latents, 1)
    bottom = vectors_of(4 * rows * columns, t.config.bottom_latents, 2)
    emphasis = np.random.default_rng(3).random((len(bottom), 1), np.float32) + 0.5

    look = hindsight.Hindsight(t, pixels, level, 1000.0, emphasis)
    last = finish if dimmed else None
    left, slope = look(partial(given, top), partial(given, bottom), last)

    vectors = as_whole(bottom, 2 * columns).clone().requires_grad_()
    h = t.decode_top(as_whole(top, columns), level)
    image = t.decode(vectors, h, level).clamp(0, 1)[:, :, :height, :width]
    image = finish(image) if dimmed else image
    original = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    weights = as_whole(emphasis, 2 * columns).repeat_interleave(8, 2).repeat_interleave(8, 3)
    error = (weights[:, :, :height, :width] * (image - original).square()).sum()
    if structure and min(width, height) >= 11:
        area = structure * 3 / 255**2 * width * height
        error = error + area * (1 - ms_ssim(image, original)).sum()
    (gradient,) = torch.autograd.grad(1000 * error, vectors)
    expected = gradient[0].flatten(1).T.numpy()
    assert left == pytest.approx(1000 * float(error.detach()), rel=1e-4)
    np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_large_pictures_are_compared_in_parts(model: CodecModel) -> None:
    """Structure is that of parts of about 512 pixels, as wide as they are."""
    pixels = picture(1100, 20)
    rows, columns = codec.top_shape(1100, 20)
    t = model.transform
    top = vectors_of(rows * columns, t.config.top_latents, 1)
    bottom = vectors_of(4 * rows * columns, t.config.bottom_latents, 2)
    nothing = np.zeros((len(bottom), 1), np.float32)
    look = hindsight.Hindsight(t, pixels, torch.tensor([1.0]), 1.0, nothing)
    left, _ = look(partial(given, top), partial(given, bottom), None)
    with torch.no_grad():
        h = t.decode_top(as_whole(top, columns), torch.tensor([1.0]))
        image = t.decode(as_whole(bottom, 2 * columns), h, torch.tensor([1.0])).clamp(0, 1)
        original = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        halves = [
            550 * 20 * float(1 - ms_ssim(image[:, :, :20, part], original[..., part]))
            for part in (slice(550), slice(550, 1100))
        ]
    assert left == pytest.approx(100 * 3 / 255**2 * sum(halves), rel=1e-4)


def test_codes_are_better_with_hindsight() -> None:
    """Of a photo, by what they leave of it and bits together."""
    model = store.load_model()
    search = Search(passes=1)
    begun = encoding.begin(model, photo(), LEVEL, search)
    look = begun.look
    assert look is not None
    costs = []
    for each in (replace(begun, glance=None, look=None), begun):
        codes = each.finish(model, search)
        costs.append(sum(codec.cross_entropy(model, codes, LEVEL)) + look(codes.bottom).error)
    assert costs[1] < 0.995 * costs[0]
