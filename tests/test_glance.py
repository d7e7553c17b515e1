"""What a first look at a decoded picture tells, against the decoder itself."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from test_foresight import photo
from test_hindsight import as_whole, given, vectors_of
from tiny_model import picture

from vqzip import codec, encoding, glance, store, windows
from vqzip.codec import CodecModel
from vqzip.coder import Counter
from vqzip.glance import Glance, kernels
from vqzip.latents import Search
from vqzip.least_squares import Statistics
from vqzip.vqvae import Transform, TransformConfig
from vqzip.wiener import FilterBank

pytest_plugins = ["tiny_fixtures"]

LEVEL = 64


@pytest.fixture(scope="module")
def shipped() -> CodecModel:
    return store.load_model()


@pytest.fixture(scope="module")
def linear() -> Transform:
    """A decoder without blocks and layers at stride 4, which is linear, its weights by chance."""
    config = TransformConfig(top_blocks=0, decoder_blocks=0, encoder_blocks=0, bottom_blocks=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transform = Transform(config)
        for weight in transform.parameters():
            weight.data.normal_(0, 0.1 if weight.ndim > 1 else 0)
    return transform.eval().requires_grad_(False)


def test_kernels_of_a_linear_decoder_are_what_units_do(linear: Transform) -> None:
    found = kernels(linear, 4.0, 5)
    assert found.shape == (5, 3, 24, 24)
    level, h = torch.tensor([4.0]), torch.zeros(1, 192, 9, 9)
    for channel in range(5):
        units = torch.zeros(1, linear.config.bottom_latents, 9, 9)
        units[0, channel, 4, 4] = 1
        change = linear.decode(units, h, level) - linear.decode(torch.zeros_like(units), h, level)
        inside = change[0, :, 24:48, 24:48]
        torch.testing.assert_close(found[channel], inside, rtol=1e-4, atol=1e-5)
        assert inside.square().sum() == pytest.approx(float(change.square().sum()), rel=1e-4)


@pytest.mark.parametrize(("width", "height"), [(70, 41), (33, 130), (300, 210)])
def test_the_slope_of_a_linear_decoder_is_its_gradient(
    monkeypatch: pytest.MonkeyPatch, linear: Transform, width: int, height: int
) -> None:
    """However many windows there are, and without a filter."""
    monkeypatch.setattr(windows, "PART", 16)
    monkeypatch.setattr(FilterBank, "fit", lambda *_: None)
    pixels = picture(width, height)
    rows, columns = codec.top_shape(width, height)
    level = torch.tensor([4.0])
    # Small enough for no pixel to be cut off.
    small = np.float32(0.002)
    top = small * vectors_of(rows * columns, linear.config.top_latents, 1)
    bottom = small * vectors_of(4 * rows * columns, linear.config.bottom_latents, 2)
    emphasis = np.random.default_rng(3).random((len(bottom), 1), np.float32) + 0.5
    bank = FilterBank(np.zeros((1, 3, 53), np.float32), np.ones(129, np.float32), np.ones((1, 3)))
    look = Glance(linear, bank, pixels, level, LEVEL, 1000.0, emphasis, 40)
    found = look(partial(given, top), partial(given, bottom))
    assert found.filter is None

    vectors = as_whole(bottom, 2 * columns).clone().requires_grad_()
    h = linear.decode_top(as_whole(top, columns), level)
    image = linear.decode(vectors, h, level)[:, :, :height, :width]
    assert 0 < float(image.detach().min()) < float(image.detach().max()) < 1
    original = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    weights = as_whole(emphasis, 2 * columns).repeat_interleave(8, 2).repeat_interleave(8, 3)
    error = 1000 * (weights[:, :, :height, :width] * (image - original).square()).sum()
    (gradient,) = torch.autograd.grad(error, vectors)
    expected = gradient[0, :40].flatten(1).T.numpy()
    # Pixels at the edges are repeated by the synthesis, which kernels know nothing of.
    inner = np.zeros((2 * rows, 2 * columns), bool)
    inner[2:-2, 2:-2] = True
    assert found.error == pytest.approx(float(error.detach()), rel=1e-4)
    slope, expected = (x.reshape(*inner.shape, 40)[inner] for x in (found.slope, expected))
    np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("level", [24, 64, 112])
def test_the_shipped_decoder_is_close_to_linear(shipped: CodecModel, level: int) -> None:
    pixels = photo()
    search = Search(filters=False)
    codes = encoding.analyse(shipped, pixels, level, search)
    channels = shipped.bottom.coded(level)
    top, bottom = (
        partial(given, m.vectors(c, level) * np.float32(1 / 64))
        for m, c in ((shipped.top, codes.top), (shipped.bottom, codes.bottom))
    )
    at = torch.tensor([level / shipped.top.steps])
    even = np.ones((20 * 16, 1), np.float32)
    assert shipped.bank is not None
    worth = codec.worth(shipped, level)
    look = Glance(shipped.transform, shipped.bank, pixels, at, level, worth, even, channels)
    left = look(top, bottom)
    filter_, slope = left.filter, left.slope
    with_filter = encoding.with_filter(shipped, pixels, codes, level)
    assert (filter_ is None) == (with_filter.filter is None)
    if filter_ is not None:
        np.testing.assert_array_equal(filter_, with_filter.filter)

    vectors = as_whole(bottom(slice(None)), 20).clone().requires_grad_()
    t = shipped.transform
    with torch.enable_grad():
        image = t.decode(vectors, t.decode_top(as_whole(top(slice(None)), 10), at), at).clamp(0, 1)
        if filter_ is not None:
            image = shipped.bank.filtered(image, filter_, level).clamp(0, 1)
        original = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
        error = worth * (image - original).square().sum()
        (gradient,) = torch.autograd.grad(error, vectors)
    expected = gradient[0, :32].flatten(1).T.numpy()
    off = np.square(slope[:, :32] - expected).sum() / np.square(expected).sum()
    assert off < 0.35


@pytest.mark.parametrize("level", [24, 64, 112])
def test_codes_that_were_looked_at_are_better(shipped: CodecModel, level: int) -> None:
    """By bits and error: a lower rate at the same quality, or better at the same rate.

    By the bits of codes and filter: streams are rounded up to four bytes.
    """
    pixels = photo()
    plain = replace(shipped, bank=None)
    first = encoding.analyse(plain, pixels, level)
    assert shipped.bank is not None
    codes = (
        encoding.with_filter(shipped, pixels, first, level),
        encoding.analyse(shipped, pixels, level),
    )
    costs = []
    for each in codes:
        decoded = codec.synthesise(shipped, each, 160, 128, level).astype(float)
        error = np.square((decoded - pixels) / 255).sum() * codec.worth(shipped, level)
        counter = Counter()
        shipped.bank.put(each.filter, counter)
        costs.append(sum(codec.cross_entropy(shipped, each, level)) + counter.bits + error)
    assert costs[1] < costs[0]


def test_filters_that_do_harm_are_not_taken(
    shipped: CodecModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a chessboard of which too few pixels are looked at."""
    monkeypatch.setattr(windows, "DRAWN", 20)
    y, x = np.mgrid[:96, :96] // 3
    pixels = np.repeat(((x + y) % 2 * 255).astype(np.uint8)[..., None], 3, 2)
    codes = encoding.analyse(shipped, pixels, 112)
    assert codes.filter is None
    assert encoding.with_filter(shipped, pixels, codes, 112).filter is None
    seen = encoding.decoded_windows(shipped, pixels, codes, 112)
    found = Statistics.joined([each.statistics for each in seen])
    assert shipped.bank is not None
    harmful = shipped.bank.fit(found, 112, codec.worth(shipped, 112) * 96 * 96)
    errors = []
    for filter_ in (None, harmful):
        decoded = codec.synthesise(shipped, replace(codes, filter=filter_), 96, 96, 112)
        errors.append(np.square(decoded - pixels.astype(float)).sum())
    assert harmful is not None
    assert errors[0] < errors[1]


def test_nearest_codes_are_not_chosen_again(shipped: CodecModel) -> None:
    """But have a filter, and the codes that they have in a model without filters."""
    search, pixels = Search(by_bits=False), photo()
    codes = encoding.analyse(shipped, pixels, LEVEL, search)
    plain = encoding.analyse(replace(shipped, bank=None), pixels, LEVEL, search)
    for a, b in zip([*codes.top, *codes.bottom], [*plain.top, *plain.bottom], strict=True):
        np.testing.assert_array_equal(a, b)
    assert codes.filter is not None


def test_large_pictures_are_not_looked_at(
    monkeypatch: pytest.MonkeyPatch, model: CodecModel
) -> None:
    pixels = picture(64, 48)
    looks = []
    monkeypatch.setattr(glance.Glance, "__call__", lambda *_: looks.append(1))
    monkeypatch.setattr(encoding, "LARGE", 11)
    encoding.analyse(model, pixels, LEVEL)
    monkeypatch.setattr(encoding, "LARGE", 12)
    encoding.analyse(model, pixels, LEVEL, Search(passes=1))
    encoding.analyse(model, pixels, LEVEL, Search(filters=False))
    encoding.analyse(replace(model, bank=None), pixels, LEVEL)
    assert not looks
