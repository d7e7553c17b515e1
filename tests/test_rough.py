"""Convolutions in bytes against those of floats, and the decoder that is made of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from test_foresight import photo

from vqzip import bands, codec, encoding, native, store, windows
from vqzip.codec import CodecModel
from vqzip.convolution import convolution, convolve
from vqzip.integer import ACTIVATION_LEVELS
from vqzip.latents import Search
from vqzip.layout import causal
from vqzip.rough import RoughDecoder
from vqzip.vqvae import Transform, TransformConfig

fast = pytest.mark.skipif(not native.products_of_bytes(), reason="bytes are no faster here")

SQUARE = [(y, x) for y in range(3) for x in range(3)]
CAUSAL = [(2 + y, 2 + x) for y, x in causal(2, inclusive=False)]
BACK = [(1 - y, 1 - x) for y, x in causal(1, inclusive=True)]


@pytest.fixture(scope="module")
def shipped() -> CodecModel:
    return store.load_model()


def numbers(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Channels of different sizes."""
    generator = np.random.default_rng(seed)
    sizes = np.exp(generator.standard_normal(shape[-1]))
    return (generator.standard_normal(shape) * sizes).astype(np.float32)


def exact(
    kernel: NDArray[np.float32],
    bias: NDArray[np.float32],
    taps: list[tuple[int, int]],
    border: int,
    x: NDArray[np.float32],
) -> NDArray[np.float32]:
    """A convolution, tap by tap."""
    padded = np.pad(x, ((border, border), (border, border), (0, 0)))
    reach = 2 * border if border else max(map(max, taps))
    height, width = padded.shape[0] - reach, padded.shape[1] - reach
    parts = [
        padded[y : y + height, x : x + width] @ kernel[:, i].T for i, (y, x) in enumerate(taps)
    ]
    found: NDArray[np.float32] = np.sum(parts, axis=0) + bias
    return found


@fast
@pytest.mark.parametrize(
    ("outputs", "channels", "taps", "border"),
    [
        (96, 192, [(0, 0)], 0),
        (40, 16, SQUARE, 1),
        (48, 8, SQUARE, 0),
        (192, 64, [(0, 0), (0, 1), (1, 0), (1, 1)], 0),
        (33, 22, CAUSAL, 2),
        (7, 4, BACK, 1),
    ],
)
@pytest.mark.parametrize(("height", "width"), [(5, 41), (38, 3)])
def test_convolutions_are_those_of_floats_within_a_hundredth(
    outputs: int, channels: int, taps: list[tuple[int, int]], border: int, height: int, width: int
) -> None:
    kernel, bias = numbers((outputs, len(taps), channels), 1), numbers((outputs,), 2)
    x = numbers((height, width, channels), 3)
    layer = convolution(kernel, bias, taps, border)
    found, wanted = convolve(layer, x), exact(kernel, bias, taps, border, x)
    assert found.shape == wanted.shape
    assert (found - wanted).std() < 0.03 * wanted.std()
    for threads in (2, 3):
        np.testing.assert_array_equal(convolve(layer, x, threads=threads), found)


@fast
def test_activation_comes_first() -> None:
    kernel, bias = numbers((32, 1, 64), 1), numbers((32,), 2)
    layer = convolution(kernel, bias, [(0, 0)], 0)
    x = numbers((12, 9, 64), 3)
    found = convolve(layer, x, active=True)
    wanted = exact(kernel, bias, [(0, 0)], 0, F.silu(torch.from_numpy(x)).numpy())
    assert (found - wanted).std() < 0.02 * wanted.std()


@fast
def test_outputs_are_added_where_gates_are_open() -> None:
    kernel, bias = numbers((8, 1, 4), 1), numbers((8,), 2)
    layer = convolution(kernel, bias, [(0, 0)], 0)
    x, before = numbers((2, 3, 4), 3), numbers((2, 3, 8), 4)
    whole = convolve(layer, x)
    gate = np.resize(np.array([0, 1, 100, 239, ACTIVATION_LEVELS], np.uint8), before.shape)
    to = before.copy()
    assert convolve(layer, x, to=to, gate=gate) is to
    is_open = (gate > 0) & (gate < ACTIVATION_LEVELS)
    np.testing.assert_allclose(to, before + whole * is_open, rtol=1e-6)


@fast
def test_nothing_comes_of_nothing() -> None:
    """Steps are found for channels and weights that are all zeros, too."""
    layer = convolution(np.zeros((8, 9, 4), np.float32), np.ones(8, np.float32), SQUARE, 1)
    found = convolve(layer, np.zeros((2, 3, 4), np.float32))
    np.testing.assert_array_equal(found, np.ones((2, 3, 8), np.float32))


def decoded(transform: Transform, level: float) -> float:
    """How exact a picture of chance is, by what it is itself, in dB."""
    generator = torch.Generator().manual_seed(0)
    config = transform.config
    vectors = torch.randn(1, config.bottom_latents, 10, 14, generator=generator)
    at, top = torch.tensor([level]), torch.randn(1, config.top_latents, 5, 7, generator=generator)
    with torch.inference_mode():
        h = transform.decode_top(top, at)
        wanted = transform.decode(vectors, h, at).clamp(0, 1)[0]
        found = RoughDecoder(transform, at)(vectors, h)
    assert found.shape == wanted.shape
    assert found.min() >= 0
    assert found.max() <= 1
    return float(10 * (wanted.var() / (found - wanted).square().mean()).log10())


@fast
@pytest.mark.parametrize(
    "change",
    [
        {"refine_width": 6, "graded": True, "modulated": True, "fine_latents": 4},
        {"refine_width": 0, "fine_latents": 0},
    ],
)
def test_every_decoder_has_a_rough_one(change: dict[str, int | bool]) -> None:
    config = TransformConfig(decoder_blocks=2, top_blocks=1, **change)  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        transform = Transform(config).eval().requires_grad_(False)
        for name, weight in transform.named_parameters():
            if "ends" in name or "modulation" in name or "residual" in name or "scale" in name:
                weight.data.normal_(0, 0.05)
    assert decoded(transform, 0.0) > 25
    assert decoded(transform, 5.3) > 25


def looked_at(
    model: CodecModel, level: int, known: bool = False
) -> tuple[list[windows.Seen], torch.Tensor]:
    """What a photo's codes decode to, seen while encoding and decoded, (3, H, W) in [0, 1]."""
    pixels, at = photo(), codec.level_of(model, level)
    codes = encoding.analyse(model, pixels, level, Search(filters=False))
    top, bottom = (codec.vectors_of(m, c, level) for m, c in codec.maps_of(model, codes))
    analysis = bands.Analysis(model.transform, pixels, at)
    analysis.bottom_latent(top, 1, keep=True)
    h = analysis.known if known else None
    every = windows.see(pixels, model.transform, top, bottom, at, h)
    height, width, _ = pixels.shape
    decoded = codec.synthesise(model, codes, width, height, level)
    return every, torch.from_numpy(decoded).permute(2, 0, 1) / 255


@fast
@pytest.mark.parametrize("level", [16, 64, 112])
def test_a_picture_is_decoded_far_better_than_its_codes_tell(
    shipped: CodecModel, level: int
) -> None:
    every, decoded = looked_at(shipped, level)
    left = 0
    for seen in every:
        width = seen.image.shape[2]
        exactly = decoded[:, :, left : left + width] if left == 0 else decoded[:, :, -width:]
        left += width
        # Pixels are rounded there, and are not here.
        rough = (seen.image - exactly).square().mean() - 1 / 12 / 255**2
        assert 0 < rough < 0.02 * (seen.original - exactly).square().mean()


def test_windows_are_parts_of_the_picture_if_the_top_map_is_known(
    monkeypatch: pytest.MonkeyPatch, shipped: CodecModel
) -> None:
    monkeypatch.setattr(native, "products_of_bytes", lambda: False)
    every, decoded = looked_at(shipped, 64, known=True)
    assert len(every) == 2
    ends = decoded[:, :, : every[0].image.shape[2]], decoded[:, :, -every[1].image.shape[2] :]
    for seen, exactly in zip(every, ends, strict=True):
        torch.testing.assert_close(seen.image, exactly, rtol=0, atol=0.51 / 255)
