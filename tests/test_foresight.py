"""What codes cost those after them, and choices that reckon with it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from tiny_model import picture

from vqzip import codec, codemap, encoding, store
from vqzip.choice import choose, choose_looking
from vqzip.codec import CodecModel
from vqzip.codemap import CodeMap
from vqzip.coding import Coding
from vqzip.entropy import Codes
from vqzip.foresight import Foresight
from vqzip.latents import Search
from vqzip.layout import Layout
from vqzip.slices import Slice

pytest_plugins = ["tiny_fixtures"]

LEVEL = 88


def photo() -> NDArray[np.uint8]:
    with Image.open("examples/photo.png") as image:
        return np.asarray(image.convert("RGB"))[100:228, 150:310]


def bits_of(
    ahead: Foresight, code_map: CodeMap, vectors: torch.Tensor, codes: list[Codes]
) -> float:
    """Bits of codes in the context of vectors (1, C, H, W), in floating point."""
    total = 0.0
    given = torch.zeros(1, 8, *vectors.shape[2:]) if code_map.prior.condition else None
    with torch.no_grad():
        features = ahead.features(vectors, given)
    for book, part, chosen in zip(code_map.books(LEVEL), features, codes, strict=True):
        if book.size > 1:
            logits = book.logits(part.flatten(0, 2).double().numpy())  # (n, G, K), in 1/256 bits
            logits -= logits.max(2, keepdims=True)
            whole = np.log2(np.exp2(logits / 256).sum(2))
            total += (whole - np.take_along_axis(logits, chosen[:, :, None], 2)[..., 0] / 256).sum()
    return total


@pytest.fixture(scope="module")
def chosen(model: CodecModel) -> codec.Codes:
    return encoding.analyse(model, picture(64, 48), LEVEL)


def test_features_are_those_of_the_integer_prior_up_to_rounding(
    model: CodecModel, chosen: codec.Codes
) -> None:
    code_map, shape = model.bottom, chosen.bottom_shape
    condition = codec.condition_of(model, chosen.top, chosen.shape, LEVEL)
    vectors = code_map.vectors(chosen.bottom, LEVEL)
    ahead = Foresight(code_map, LEVEL)
    with torch.no_grad():
        found = ahead.features(
            torch.tensor(vectors.reshape(*shape, -1), dtype=torch.float32).permute(2, 0, 1)[None],
            torch.tensor(condition.reshape(*shape, -1), dtype=torch.float32).permute(2, 0, 1)[None],
        )
    coding = Coding(code_map.prior, Layout(*shape, code_map.tile), LEVEL, condition)
    cells, places, _ = coding.layout.order
    inputs = code_map.prior.inputs(vectors, LEVEL)[places]
    coding.put(cells, inputs)
    hidden = coding.hidden(cells, coding.start(places))
    for i, part in enumerate(found):
        exact = Slice(code_map.prior, i, LEVEL).features(hidden, inputs)
        near = part.flatten(0, 2)[torch.from_numpy(places)].numpy()
        for k in range(4):
            assert np.corrcoef(near[..., k].ravel(), exact[..., k].ravel())[0, 1] > 0.95
        assert np.abs(near - exact).mean() < 0.02 * np.abs(exact).max()


def test_costs_are_the_steepest_slope_of_all_bits(model: CodecModel, chosen: codec.Codes) -> None:
    condition = np.zeros((chosen.bottom[0].shape[0], 8), np.uint8)
    maps = (
        (model.top, chosen.top, chosen.shape, None),
        (model.bottom, chosen.bottom, chosen.bottom_shape, condition),
    )
    for code_map, codes, shape, given in maps:
        ahead = Foresight(code_map, LEVEL)
        costs = torch.tensor(ahead.costs(codes, shape, given).T / 64)
        vectors = torch.tensor(code_map.vectors(codes, LEVEL).T, dtype=torch.float32)
        up = costs / costs.norm()
        ends = [
            bits_of(ahead, code_map, (vectors + by * up).reshape(1, -1, *shape), codes)
            for by in (-0.5, 0.5)
        ]
        assert float(costs.norm()) == pytest.approx(ends[1] - ends[0], rel=0.03)


def test_nothing_crosses_tiles_nor_goes_back(model: CodecModel) -> None:
    """Two tiles side by side cost what both do alone, and the last code has no one after it."""
    generator = np.random.default_rng(1)
    code_map = model.bottom
    side = code_map.tile
    books = code_map.books(LEVEL)
    shape = (3, 2 * side)
    codes = [generator.integers(b.size, size=(*shape, b.groups)).astype(np.uint16) for b in books]
    condition = generator.integers(200, size=(*shape, 8)).astype(np.uint8)
    ahead = Foresight(code_map, LEVEL)

    def costs(columns: slice) -> NDArray[np.float32]:
        parts = [c[:, columns].reshape(-1, c.shape[2]) for c in codes]
        width = condition[:, columns].shape[1]
        found = ahead.costs(parts, (3, width), condition[:, columns].reshape(-1, 8))
        return found.reshape(3, width, -1)

    whole = costs(slice(None))
    halves = [costs(slice(side)), costs(slice(side, None))]
    np.testing.assert_allclose(whole, np.concatenate(halves, 1), rtol=1e-4, atol=1e-4)
    last_slice = slice(int(code_map.prior.starts[-2]), None)
    assert (whole[-1, -1, last_slice] == 0).all()
    assert (whole[0, 0] != 0).any()


def test_maps_without_codes_cost_nothing(model: CodecModel) -> None:
    codes = [np.zeros((4, b.groups), np.uint16) for b in model.bottom.books(LEVEL)]
    ahead = Foresight(model.bottom, LEVEL)
    ahead._books = [
        type(b)(b.codewords[:, :1], b.codewords[:, :1], np.zeros((b.groups, 1)))
        for b in ahead._books
    ]
    costs = ahead.costs(codes, (2, 2), np.zeros((4, 8), np.uint8))
    np.testing.assert_array_equal(costs, 0)


Analyse = Callable[[NDArray[np.uint8], int], codec.Codes]


def fewer_bits(model: CodecModel, before: Analyse, *after: Analyse) -> list[float]:
    """By how much fewer a photo takes at the same PSNR, as logarithms, means over five levels."""
    crop = photo()
    height, width, _ = crop.shape

    def measure(analyse: Analyse, level: int) -> tuple[float, float]:
        codes = analyse(crop, level)
        decoded = codec.synthesise(model, codes, width, height, level).astype(float)
        bits = sum(codec.cross_entropy(model, codes, level))
        return math.log(bits), -10 * math.log10(np.square(decoded - crop).mean())

    levels = (48, 56, 64, 72, 80)
    rates, quality = zip(*(measure(before, level) for level in levels), strict=True)
    curve = np.polyfit(quality, rates, 2)

    def less(analyse: Analyse) -> float:
        found = [measure(analyse, level) for level in levels]
        return float(np.mean([rate - np.polyval(curve, psnr) for rate, psnr in found]))

    return [less(analyse) for analyse in after]


def test_each_pass_makes_a_photo_smaller_at_the_same_quality() -> None:
    model = store.load_model()

    def analyse(passes: int) -> Analyse:
        return lambda pixels, level: encoding.analyse(model, pixels, level, Search(passes=passes))

    once, often = fewer_bits(model, analyse(0), analyse(1), analyse(4))
    assert often < once < -0.003


@pytest.mark.parametrize("seeing", [True, False])
def test_more_passes_never_find_worse_codes(seeing: bool) -> None:
    """By what they leave of the picture, or of the latents, and bits together."""
    model = store.load_model()
    begun = encoding.begin(model, photo(), LEVEL, Search(passes=1))
    latents, look = begun.bottom, begun.look
    assert look is not None
    given = latents.shape, LEVEL, latents.condition

    def cost(passes: int) -> float:
        search = Search(passes=passes)
        codes = choose(latents, search)
        if seeing and passes:
            codes, left = choose_looking(latents, search, begun.glance, look)
            assert left.error == look(codes).error
        vectors = model.bottom.vectors(codes, LEVEL)[:, : latents.points.shape[1]] / 64
        weight = model.bottom.distortion_weight(LEVEL)[: latents.points.shape[1]]
        errors = weight * latents.emphasis * np.square(latents.points - vectors)
        found = float(errors.sum(dtype=np.float64))
        assert latents.distortion(codes, Search(passes=passes)) == pytest.approx(found, rel=1e-5)
        if seeing:
            found = look(codes).error
        return found + codemap.cross_entropy(model.bottom, codes, *given)

    costs = [cost(passes) for passes in range(7)]
    assert all(after <= before for before, after in pairwise(costs))
    assert costs[-1] < costs[0]


def test_a_stream_has_the_codes_that_were_kept(model: CodecModel) -> None:
    search, pixels = Search(passes=3), picture(64, 48)
    stream = encoding.encode(model, pixels, LEVEL, search)
    found, wanted = (
        codec.unpack(model, stream, 64, 48, LEVEL),
        encoding.analyse(model, pixels, LEVEL, search),
    )
    for a, b in zip([*found.top, *found.bottom], [*wanted.top, *wanted.bottom], strict=True):
        np.testing.assert_array_equal(a, b)


def test_distortion_may_count_nothing(model: CodecModel) -> None:
    free = replace(model, bottom=replace(model.bottom, weight=np.zeros_like(model.bottom.weight)))
    codes = encoding.analyse(free, picture(40, 24), LEVEL, Search(passes=1))
    bits = sum(codec.cross_entropy(free, codes, LEVEL))
    assert bits <= sum(
        codec.cross_entropy(model, encoding.analyse(model, picture(40, 24), LEVEL), LEVEL)
    )


def test_effort_is_passes() -> None:
    assert Search.at_effort(0) == Search(by_bits=False, filters=False)
    assert Search.at_effort(1) == Search()
    assert Search.at_effort(2, 1.5) == Search(fidelity=1.5, passes=1)
    assert Search.at_effort(9) == Search(passes=8)
