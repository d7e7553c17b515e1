"""The shipped model on pictures that are no photos: they come back, better ones at higher rates."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import vqzip
from vqzip.codec import CodecModel
from vqzip.rate import psnr_of
from vqzip.store import load_model

Pixels = NDArray[np.uint8]
SIDE = 128
Y, X = np.mgrid[:SIDE, :SIDE]


def gray(values: NDArray[np.generic]) -> Pixels:
    return np.repeat(values.astype(np.uint8)[..., None], 3, axis=2)


def noise() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def text() -> Pixels:
    page = Image.new("RGB", (SIDE, SIDE), "white")
    for line in range(8):
        words = "The quick brown fox"[line:]
        ImageDraw.Draw(page).text((4, 16 * line), words, "black", ImageFont.load_default(13))
    return np.asarray(page)


def gradients() -> Pixels:
    slow = np.stack([2 * X, 2 * Y, X + Y], axis=-1)
    return slow.astype(np.uint8)


def saturated() -> Pixels:
    """The eight colours at the corners, in fields of 32 pixels."""
    index = (X // 32 + 3 * (Y // 32)) % 8
    return np.stack([index & 1, index >> 1 & 1, index >> 2], axis=-1).astype(np.uint8) * 255


# Least PSNR in dB at qualities 25, 50 and 90: some 3 dB below what the first good model had, which
# is where colours break or letters are gone.  Noise and single pixels in turns have only their mean
# (9.2 and 6.02 dB) to lose.
KINDS: dict[str, tuple[Pixels, tuple[float, float, float]]] = {
    "noise": (noise(), (10, 11, 11)),
    "text": (text(), (16, 20, 23)),
    "chessboard of 8": (gray((X // 8 + Y // 8) % 2 * 255), (16, 18, 15)),
    "chessboard of 1": (gray((X + Y) % 2 * 255), (5.9, 5.9, 5.9)),
    "gradients": (gradients(), (33, 38, 43)),
    "saturated": (saturated(), (16, 20, 21)),
    "black": (gray(0 * X), (38, 40, 45)),
    "white": (gray(0 * X + 255), (38, 40, 45)),
}
FLAT_BYTES = 250
"""What a picture without anything takes at most, at any of these qualities."""
ALIKE = 0.06
"""By what share sizes may differ of what looks alike at two qualities, to a tenth of a dB."""


@pytest.fixture(scope="module")
def model() -> CodecModel:
    return load_model()


def psnr(pixels: Pixels, decoded: Image.Image) -> float:
    return psnr_of(pixels, np.asarray(decoded), grayscale=False)


@pytest.mark.parametrize("name", KINDS)
def test_whatever_it_is_comes_back(model: CodecModel, name: str) -> None:
    pixels, least = KINDS[name]
    sizes, found = [], []
    for quality, limit in zip((25, 50, 90), least, strict=True):
        data = vqzip.compress(Image.fromarray(pixels), quality, model)
        found.append(psnr(pixels, vqzip.decompress(data, model)))
        assert found[-1] >= limit
        sizes.append(len(data))
    if name in ("black", "white"):
        assert max(sizes) <= FLAT_BYTES
    elif name == "chessboard of 1":
        # The first two hold the mean alone, which costs the same, and a filter with next to no use.
        assert abs(sizes[1] - sizes[0]) <= ALIKE * sizes[0]
        assert found[1] == pytest.approx(found[0], abs=0.1)
        assert sizes[2] > sizes[1]
    else:
        assert all(a < b for a, b in pairwise(sizes))
        assert sizes[2] > FLAT_BYTES


SLACK = 1.0
"""What hard edges may lose in dB at a higher quality: its codebooks can be too narrow for them."""


@pytest.mark.parametrize(("kind", "slack"), [(text, SLACK), (gradients, 0), (saturated, SLACK)])
def test_a_higher_quality_is_no_worse(
    model: CodecModel, kind: Callable[[], Pixels], slack: float
) -> None:
    pixels, best = kind(), 0.0
    for quality in (10, 50, 75, 100):
        decoded = vqzip.decompress(vqzip.compress(Image.fromarray(pixels), quality, model), model)
        found = psnr(pixels, decoded)
        assert found >= best - slack
        best = max(best, found)
