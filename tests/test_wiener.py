import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reference_stream
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_codec import SIZES, any_codes, assert_equal, use_threads
from tiny_model import picture
from torch import Tensor

from vqzip import bands, codec, encoding, native, schema, store, windows
from vqzip.bands import Band
from vqzip.codec import CodecModel
from vqzip.coder import Counter, Decoder, Encoder
from vqzip.integer import Doubles, Tensors
from vqzip.latents import Search
from vqzip.least_squares import Statistics
from vqzip.terms import (
    PLAIN_TERMS,
    REACH,
    TAPS,
    TERMS,
    TONED_TERMS,
    of_all_terms,
)
from vqzip.wiener import FilterBank
from vqzip.windows import Window

pytest_plugins = ["tiny_fixtures"]

KERNELS, LARGEST = 6, 5


def bank_of(kernels: int = KERNELS, seed: int = 0) -> FilterBank:
    """Filters that change pictures by some hundredths."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(2**20, 2**27, (kernels, 2 * LARGEST + 1)).astype(float)
    weights[:, LARGEST] = 2**28
    drawn = rng.normal(0, 0.02, (kernels, 3, TERMS))
    drawn[:, :, PLAIN_TERMS:] *= 0.1  # for some of them are one in grey
    drawn[:, :, TONED_TERMS:] *= 0.5
    made = drawn.astype(np.float16).astype(np.float32)
    return FilterBank(made, np.linspace(1, 0.5, 129, dtype=np.float32), weights)


@pytest.fixture(scope="module")
def bank() -> FilterBank:
    return bank_of()


@pytest.fixture(scope="module")
def filters(bank: FilterBank) -> Tensors:
    return {
        "wiener.kernels": bank.kernels.astype(np.float16),
        "wiener.steps": bank.steps,
        "wiener.weights": bank.weights.astype(np.int32),
    }


@pytest.fixture(scope="module")
def filtering(model: CodecModel, bank: FilterBank) -> CodecModel:
    """The tiny model with filters."""
    return replace(model, bank=bank)


def image(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def products_of(r: Tensor, g: Tensor, b: Tensor, x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    """Terms of colours and their details as FORMAT.md lists them."""
    m, d = (r + g + b) / 3, (x + y + z) / 3
    pairs = [r * r, r * g, r * b, g * g, g * b, b * b]
    plain = [*pairs, r * d, g * d, b * d, r**3, g**3, b**3, m**3]
    mixed = [r * r * g, r * r * b, g * g * r, g * g * b, b * b * r, b * b * g]

    def chebyshev(degree: int, tone: Tensor) -> Tensor:
        return torch.cos(degree * torch.acos(2 * tone))

    tones = [chebyshev(degree, t) for degree in (4, 5) for t in (r, g, b, m)]
    sharp = [x * m, y * m, z * m, x * r, y * g, z * b, *((4 * t) ** 3 for t in (x, y, z, d))]
    return [*plain, *(pair * d for pair in pairs), *mixed, *tones, chebyshev(6, m), *sharp]


def edges_of(pairs: list[tuple[Tensor, Tensor]], products: list[Tensor]) -> list[Tensor]:
    """Terms of differences to pairs of neighbours, and of products, as FORMAT.md lists them."""
    limited = [x.clamp(-1 / 32, 1 / 32) + y.clamp(-1 / 32, 1 / 32) for x, y in pairs]
    sizes = [abs(x.mean()) + abs(y.mean()) for x, y in pairs]
    a = torch.stack(sizes).mean()
    s = a / (a + 1 / 16)
    differences = [x.mean() + y.mean() for x, y in pairs]
    shared = [s * term for term in (*products, *differences)]
    return [*limited, *(term[None] for term in (*sizes, *shared))]


def corrected(bank: FilterBank, x: Tensor, coefficients: list[int], level: int) -> Tensor:
    """A filtered image as FORMAT.md says it, pixel by pixel."""
    f = np.tensordot(np.array(coefficients) * bank.steps[level].astype(float), bank.kernels, 1)
    out, image = x.clone().double(), x.double()
    pairs = [(0, 1), (0, 2), (0, 3), *((1, dx) for dx in range(-2, 3))]
    pairs += [(2, -1), (2, 0), (2, 1), (3, 0)]
    for i in range(3, x.shape[1] - 3):
        for j in range(3, x.shape[2] - 3):
            here = image[:, i, j]
            ends = [(image[:, i + a, j + b], image[:, i - a, j - b]) for a, b in pairs]
            both = [(one - here, other - here) for one, other in ends]
            around = [one + other for one, other in both]
            details = torch.stack(around).sum(0) / 24
            products = products_of(*(here - 0.5), *details)
            linear = [torch.tensor([0.125]), here - 0.5, *around]
            terms = torch.cat([*linear, torch.stack(products), *edges_of(both, products)])
            out[:, i, j] += torch.from_numpy(f) @ terms
    return out


def test_there_are_as_many_terms_as_the_format_says() -> None:
    assert schema.TERMS == (PLAIN_TERMS, TONED_TERMS, TERMS) == (53, 84, 188)
    assert len(TAPS) == 12


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(("height", "width"), [(7, 7), (9, 14), (20, 11), (8, 71)])
def test_a_filtered_image_is_what_the_format_says(
    monkeypatch: pytest.MonkeyPatch, bank: FilterBank, height: int, width: int, compiled: bool
) -> None:
    if not compiled:
        monkeypatch.setattr(native, "library", lambda: None)
    x, coefficients = image(height, width), np.array([3, -5, 0, 1, -2, 4], np.int32)
    found = bank.filtered(x[None], coefficients, 64)[0]
    torch.testing.assert_close(
        found, corrected(bank, x, coefficients.tolist(), 64).float(), rtol=1e-5, atol=2e-6
    )
    assert (found != x)[:, 3:-3, 3:-3].all()
    found[:, 3:-3, 3:-3] = x[:, 3:-3, 3:-3]
    assert torch.equal(found, x)


def test_a_filter_of_an_image_with_gradients_passes_them_on(bank: FilterBank) -> None:
    x, coefficients = image(9, 14)[None], np.array([3, -5, 0, 1, -2, 4], np.int32)
    wanted = image(9, 14, seed=1)[None]
    step = 1e-3 * wanted
    x.requires_grad_(True)
    found = bank.filtered(x, coefficients, 64)
    (slope,) = torch.autograd.grad((found * wanted).sum(), x)
    with torch.no_grad():
        up, down = (bank.filtered(x + sign * step, coefficients, 64) for sign in (1, -1))
    change = float(((up - down) * wanted).sum()) / 2
    assert change == pytest.approx(float((slope * step).sum()), rel=1e-3)


@pytest.mark.parametrize("terms", [PLAIN_TERMS, TONED_TERMS])
def test_kernels_of_the_first_terms_leave_the_others_out(bank: FilterBank, terms: int) -> None:
    found = of_all_terms(bank.kernels[:, :, :terms])
    assert found.shape == bank.kernels.shape
    assert np.array_equal(found[:, :, :terms], bank.kernels[:, :, :terms])
    assert not found[:, :, terms:].any()


@pytest.mark.parametrize(("height", "width"), [(6, 100), (100, 6), (1, 1)])
def test_an_image_without_inner_pixels_stays_as_it_is(
    bank: FilterBank, height: int, width: int
) -> None:
    x = image(height, width)[None]
    assert torch.equal(bank.filtered(x, np.full(KERNELS, 5, np.int32), 0), x)


def test_statistics_are_those_of_the_terms_that_a_filter_is_linear_in(bank: FilterBank) -> None:
    """Filtered, an image lacks what they say."""
    x, y = image(20, 30), image(20, 30, seed=1)
    found, coefficients = Statistics.of(x, y), np.array([2, -1, 0, 5, -3, 1], np.int32)
    assert found.count == 14 * 24
    f = np.tensordot(coefficients * bank.steps[9].astype(float), bank.kernels, 1)
    predicted = np.einsum("ct,tu,cu", f, found.products, f) - 2 * np.einsum(
        "ct,tc", f, found.wanted
    )
    inner = slice(REACH, -REACH)
    before, after = (
        float((z - y)[:, inner, inner].double().square().sum()) / found.count
        for z in (x, bank.filtered(x[None], coefficients, 9)[0])
    )
    assert after - before == pytest.approx(predicted, rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_the_filter_that_a_picture_was_made_with_is_found(bank: FilterBank, seed: int) -> None:
    x = image(40, 40, seed)
    coefficients = np.random.default_rng(seed).integers(-LARGEST, LARGEST + 1, KERNELS)
    coefficients[0] = LARGEST  # not none
    wanted = bank.filtered(x[None], coefficients.astype(np.int32), 30)[0]
    found = bank.fit(Statistics.of(x, wanted), 30, worth=1e9)
    assert found is not None
    assert found.dtype == np.int32
    assert found.tolist() == coefficients.tolist()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("worth", [1e3, 1e5])
def test_no_other_filter_costs_a_bit_less(seed: int, worth: float) -> None:
    """Kernels of a few that are all but the same: rounding the best real numbers fails."""
    rng, bank = np.random.default_rng(seed), bank_of(3, seed)
    mixed = np.array([[1, 0, 0], [0.9, 0.3, 0], [0.8, -0.3, 0.3]]) @ bank.kernels.reshape(3, -1)
    bank = replace(bank, kernels=mixed.reshape(bank.kernels.shape).astype(np.float32))
    x, drawn = image(40, 40, seed), rng.integers(-LARGEST, LARGEST + 1, 3)
    wanted = bank.filtered(x[None], drawn.astype(np.int32), 30)[0] + 0.1 * image(40, 40, seed + 100)
    statistics = Statistics.of(x, wanted)

    scaled = bank.kernels * bank.steps[30].astype(float)
    squares = np.einsum("kct,tu,lcu->kl", scaled, statistics.products, scaled, optimize=True)
    gains = np.einsum("kct,tc->k", scaled, statistics.wanted)

    def costs(coefficients: NDArray[np.int32]) -> Doubles:
        errors = ((coefficients @ squares - 2 * gains) * coefficients).sum(-1)
        return np.asarray(worth * errors + bank.bits[range(3), coefficients + LARGEST].sum(-1))

    every = np.stack(np.meshgrid(*[np.arange(-LARGEST, LARGEST + 1)] * 3), -1).reshape(-1, 3)
    found = bank.fit(statistics, 30, worth)
    assert found is not None
    assert costs(found) < costs(every.astype(np.int32)).min() + 1  # bit


def test_a_filter_that_is_not_worth_its_bits_is_none(bank: FilterBank) -> None:
    statistics = Statistics.of(image(40, 40), image(40, 40, seed=1))
    assert bank.fit(statistics, 30, worth=1e-3) is None
    assert (
        bank.fit(Statistics.joined([Statistics.of(image(6, 9), image(6, 9))]), 30, worth=1e9)
        is None
    )


@pytest.mark.parametrize("worth", [1e6, 1e9, 1e12])
def test_rounding_does_not_matter_where_pixels_are_fewer_than_kernels(worth: float) -> None:
    """Squares are those of two pixels, and of next to no others."""
    bank = bank_of(40)
    x = image(7, 8)
    found = Statistics.of(x, image(7, 8, seed=1))
    noise = np.random.default_rng(0).normal(0, 1e-8, found.products.shape)
    scale = np.sqrt(np.diag(found.products))
    off = replace(found, products=found.products + (noise + noise.T) * np.outer(scale, scale))
    assert np.linalg.eigvalsh(off.products)[0] < 0
    best = bank.fit(off, 30, worth)
    assert best is not None
    wanted, changed = (
        (z - x).double().numpy()[:, 3, 3:5]
        for z in (image(7, 8, seed=1), bank.filtered(x[None], best, 30)[0])
    )
    assert np.square(wanted - changed).sum() < 0.1 * np.square(wanted).sum()


@pytest.mark.parametrize("worth", [100.0, 1000.0, 10000.0])
def test_a_filter_costs_less_than_it_gains(bank: FilterBank, worth: float) -> None:
    x = image(40, 40)
    y = bank.filtered(x[None], np.array([2, 1, 0, -3, 0, 1], np.int32), 30)[0]
    y = y + 0.05 * image(40, 40, seed=2)
    found = bank.fit(Statistics.of(x, y), 30, worth)
    assert found is not None
    counter = Counter()
    bank.put(found, counter)
    inner = slice(REACH, -REACH)
    before, after = (
        float((z - y)[:, inner, inner].square().sum()) / 34**2
        for z in (x, bank.filtered(x[None], found, 30)[0])
    )
    # A bit of these says that there is one.
    assert counter.bits - 1 < worth * (before - after)


@given(st.lists(st.integers(-LARGEST, LARGEST), min_size=KERNELS, max_size=KERNELS) | st.none())
def test_any_filter_survives(coefficients: list[int] | None) -> None:
    bank, encoder = bank_of(), Encoder()
    bank.put(None if coefficients is None else np.array(coefficients, np.int32), encoder)
    found = bank.get(Decoder(encoder.finish()))
    assert (None if found is None else found.tolist()) == coefficients


# In the codec.


@pytest.mark.parametrize("level", [0, 64, 128])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_filters_of_pictures_survive(
    filtering: CodecModel, width: int, height: int, level: int
) -> None:
    pixels = picture(width, height)
    codes = encoding.analyse(filtering, pixels, level)
    stream = codec.pack(filtering, codes, level)
    found = codec.unpack(filtering, stream, width, height, level)
    assert_equal(found, codes)
    assert (found.filter is None) == (codes.filter is None)
    if found.filter is not None and codes.filter is not None:
        assert found.filter.tolist() == codes.filter.tolist()
    assert encoding.encode(filtering, pixels, level) == stream
    decoded = codec.decode(filtering, stream, width, height, level)
    assert (decoded == codec.synthesise(filtering, codes, width, height, level)).all()


def test_a_filter_takes_error_away(filtering: CodecModel) -> None:
    pixels = picture(150, 100)
    codes = encoding.analyse(filtering, pixels, 100)
    assert codes.filter is not None
    errors = [
        np.square(codec.synthesise(filtering, c, 150, 100, 100).astype(float) - pixels).mean()
        for c in (codes, replace(codes, filter=None))
    ]
    assert errors[0] < 0.99 * errors[1]


def test_the_lowest_effort_looks_for_none(filtering: CodecModel) -> None:
    pixels = picture(60, 40)
    found = [
        encoding.analyse(filtering, pixels, 100, Search.at_effort(e)).filter for e in (0, 1, 2)
    ]
    assert [f is None for f in found] == [True, False, False]


def test_without_filters_nothing_is_added(model: CodecModel, filtering: CodecModel) -> None:
    codes = any_codes(model, 40, 24, 64)
    plain, flagged = codec.pack(model, codes, 64), codec.pack(filtering, codes, 64)
    assert len(flagged) - len(plain) in (0, 4)
    assert_equal(codec.unpack(filtering, flagged, 40, 24, 64), codes)
    decoded = [codec.decode(m, s, 40, 24, 64) for m, s in ((model, plain), (filtering, flagged))]
    assert (decoded[0] == decoded[1]).all()


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(-LARGEST, LARGEST), min_size=KERNELS, max_size=KERNELS))
def test_the_reference_decodes_filters(
    exported: Path,
    tensors: Tensors,
    filters: Tensors,
    filtering: CodecModel,
    coefficients: list[int],
) -> None:
    codes = replace(any_codes(filtering, 20, 17, 64), filter=np.array(coefficients, np.int32))
    stream = codec.pack(filtering, codes, 64)
    config = json.loads((exported / "config.json").read_text())
    *_, found = reference_stream.decode(tensors | filters, config, stream, 20, 17, 64)
    assert found == coefficients


def test_filters_do_not_depend_on_the_number_of_threads(
    filtering: CodecModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, streams = picture(150, 100, seed=4), set()
    for count in (1, 2, 3):
        use_threads(monkeypatch, count)
        streams.add(encoding.encode(filtering, pixels, 90))
    assert len(streams) == 1


def test_bands_are_filtered_as_the_whole_picture_is(
    filtering: CodecModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = any_codes(filtering, 40, 330, 64)
    codes = replace(codes, filter=np.array([3, -5, 0, 1, -2, 4], np.int32))
    whole = codec.synthesise(filtering, codes, 40, 330, 64)
    assert (whole != codec.synthesise(filtering, replace(codes, filter=None), 40, 330, 64)).any()
    monkeypatch.setattr(bands, "FEWEST_ROWS", 5)
    monkeypatch.setattr(bands, "BAND", 1)
    found = codec.synthesise(filtering, codes, 40, 330, 64).astype(int)
    assert np.abs(found - whole).max() <= 1


def test_a_preview_has_no_filter(filtering: CodecModel) -> None:
    codes = any_codes(filtering, 40, 24, 64)
    seen = set()
    for coefficients in (None, np.full(KERNELS, LARGEST, np.int32)):
        stream = codec.pack(filtering, replace(codes, filter=coefficients), 64)
        seen.add(codec.preview(filtering, stream, 40, 24, 64).tobytes())
    assert len(seen) == 1


def test_models_with_filters_are_loaded(
    exported: Path, tensors: Tensors, filters: Tensors, bank: FilterBank, tmp_path: Path
) -> None:
    config = json.loads((exported / "config.json").read_text())
    del config["fingerprint"]
    store.save(tensors | filters, config, tmp_path)
    loaded = store.load_model(tmp_path).bank
    assert loaded is not None
    for part in ("kernels", "steps", "weights"):
        np.testing.assert_array_equal(getattr(loaded, part), getattr(bank, part), strict=True)
    assert store.load_model(exported).bank is None


# Windows.


def covered(found: list[Window]) -> list[tuple[int, int]]:
    return [
        (y, x)
        for w in found
        for y in range(w.rows.start, w.rows.stop)
        for x in range(w.columns.start, w.columns.stop)
    ]


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 7), (32, 48), (1, 5000), (128, 128)])
def test_windows_are_all_of_a_picture_that_is_not_large(
    model: CodecModel, rows: int, columns: int
) -> None:
    found = windows.windows(rows, columns, model.transform)
    assert len(found) == min(max(rows, columns), 2 * -(-rows * columns // 4096))
    assert all(columns <= rows or w.rows == found[0].rows for w in found)
    assert all(columns > rows or w.columns == found[0].columns for w in found)
    assert sorted(covered(found)) == [(y, x) for y in range(rows) for x in range(columns)]


@pytest.mark.parametrize(("rows", "columns"), [(128, 129), (188, 250), (1, 17000), (9, 4000)])
def test_windows_of_a_large_picture_are_small_and_apart(
    model: CodecModel, rows: int, columns: int
) -> None:
    found = windows.windows(rows, columns, model.transform)
    places = covered(found)
    assert len(places) == len(set(places)) <= 36 * 64
    assert all(0 <= y < rows and 0 <= x < columns for y, x in places)
    assert len(found) == max(1, min(rows // 8, 6)) * 6


def test_a_window_is_what_it_is_in_the_whole_picture(
    monkeypatch: pytest.MonkeyPatch, model: CodecModel
) -> None:
    """With a halo as wide as the top map needs, too; how rough it may be, test_rough.py tells."""
    monkeypatch.setattr(native, "products_of_bytes", lambda: False)
    height, width, level = 16 * 20, 16 * 24, 64
    codes = any_codes(model, width, height, level)
    whole = codec.synthesise(model, codes, width, height, level)
    top, bottom = (codec.vectors_of(m, c, level) for m, c in codec.maps_of(model, codes))
    window = Window(Band(8, 12, 3, 17), Band(10, 15, 5, 20))
    with torch.inference_mode():
        found = window.synthesise(model.transform, top, bottom, 24, torch.tensor([4.0]))
    image, original = window.compared(found, whole, 3)
    assert image.shape == original.shape == (3, 4 * 16 + 6, 5 * 16 + 6)
    assert (image - original).abs().max() <= 0.51 / 255


def test_nothing_is_compared_beyond_a_picture() -> None:
    window = Window(Band(0, 2, 0, 2), Band(1, 2, 0, 2))
    image = torch.arange(3 * 32 * 32).view(3, 32, 32) / 5000
    pixels = (np.arange(20 * 30 * 3) % 251).astype(np.uint8).reshape(20, 30, 3)
    found, original = window.compared(image, pixels, REACH)
    assert torch.equal(found, image[:, :20, 13:30])
    assert torch.equal(
        (original * 255).round().permute(1, 2, 0).byte(), torch.from_numpy(pixels[:, 13:])
    )
