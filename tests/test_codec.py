import hashlib
import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import reference_stream
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from tiny_model import picture, random_codes

import vqzip
from vqzip import bands, codec, codemap, encoding, store
from vqzip import threads as vqzip_threads
from vqzip.choice import choose
from vqzip.codec import CodecModel, Codes
from vqzip.codemap import CodeMap
from vqzip.coder import Encoder, frequencies
from vqzip.coding import Coding
from vqzip.entropy import CodebookTable
from vqzip.errors import VqzError
from vqzip.integer import Tensors
from vqzip.latents import Latents, Search
from vqzip.layout import Layout
from vqzip.vqvae import Transform, TransformConfig

pytest_plugins = ["tiny_fixtures"]

SEVERAL_TILES = (150, 100)
SIZES = [(1, 1), (1, 17), (16, 16), (17, 33), (40, 24), SEVERAL_TILES]  # width, height
LEVELS = [0, 37, 64, 128]


def any_codes(model: CodecModel, width: int, height: int, level: int, seed: int = 0) -> Codes:
    """Codes of a picture of that size, all equally likely."""
    h, w = -(-height // 16), -(-width // 16)
    top = random_codes(model.top, h * w, level, seed)
    return Codes((h, w), top, random_codes(model.bottom, 4 * h * w, level, seed + 1))


def digest(codes: Codes) -> str:
    return hashlib.sha256(b"".join(c.tobytes() for c in codes.top + codes.bottom)).hexdigest()


def assert_equal(a: Codes, b: Codes) -> None:
    assert a.shape == b.shape
    for x, y in zip(a.top + a.bottom, b.top + b.bottom, strict=True):
        np.testing.assert_array_equal(x, y, strict=True)


def use_threads(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(vqzip_threads, "count", lambda: count)
    pool = ThreadPoolExecutor(count)
    monkeypatch.setattr(vqzip_threads, "_pool", lambda: pool)
    monkeypatch.setattr(vqzip_threads, "LEAST", 4)


def test_files_and_pixels_do_not_depend_on_the_number_of_threads(
    model: CodecModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bands, "FEWEST_ROWS", 3)
    monkeypatch.setattr(bands, "BAND", 12)
    pixels = picture(50, 200, seed=4)
    found = []
    for count in (1, 2, 3):
        use_threads(monkeypatch, count)
        codes = encoding.analyse(model, pixels, 90)
        stream = codec.pack(model, codes, 90)
        assert_equal(codec.unpack(model, stream, 50, 200, 90), codes)
        found.append((digest(codes), stream, codec.decode(model, stream, 50, 200, 90).tobytes()))
    assert found[0] == found[1] == found[2]


def test_analysis_runs_on_one_thread_a_band(
    model: CodecModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many threads share a floating-point sum would be seen in files."""
    use_threads(monkeypatch, 2)
    counts = []

    def note(*_: object) -> None:
        counts.append(torch.get_num_threads())

    hook = model.transform.analysis.register_forward_hook(note)
    torch.set_num_threads(2)
    try:
        encoding.analyse(model, picture(17, 16 * 33), 64)
        counts.append(torch.get_num_threads())
    finally:
        torch.set_num_threads(1)
        hook.remove()
    assert counts == [1, 1, 2]


@pytest.mark.parametrize("rows", [1, 16, 17, 32, 33, 100, 1000])
def test_bands_cover_a_picture(rows: int) -> None:
    for even in (True, False):
        found = bands.bands(rows, 1000, 4, even)
        assert [row for band in found for row in range(band.start, band.stop)] == [*range(rows)]
        assert all(band.first == max(band.start - 4, 0) for band in found)
        assert all(band.last == min(band.stop + 4, rows) for band in found)
        assert all(band.stop - band.start <= 17 for band in found)


# Codes to the stream and back.


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_codes_of_a_picture_survive(model: CodecModel, width: int, height: int, level: int) -> None:
    codes = encoding.analyse(model, picture(width, height), level)
    stream = codec.pack(model, codes, level)
    assert_equal(codec.unpack(model, stream, width, height, level), codes)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 80), st.integers(1, 80), st.integers(0, 128), st.integers(0, 2**32))
def test_any_codes_survive(
    model: CodecModel, width: int, height: int, level: int, seed: int
) -> None:
    codes = any_codes(model, width, height, level, seed)
    stream = codec.pack(model, codes, level)
    assert_equal(codec.unpack(model, stream, width, height, level), codes)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_stream_is_as_long_as_the_cross_entropy(
    model: CodecModel, width: int, height: int, level: int
) -> None:
    for codes in (
        encoding.analyse(model, picture(width, height), level),
        any_codes(model, width, height, level),
    ):
        stream = codec.pack(model, codes, level)
        bits = sum(codec.cross_entropy(model, codes, level))
        assert bits - 1 <= 8 * len(stream) <= 1.01 * bits + 64


@pytest.mark.parametrize("level", [0, 128])
def test_the_stream_does_not_depend_on_how_many_positions_are_held_at_once(
    model: CodecModel, level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = any_codes(model, *SEVERAL_TILES, level)
    stream = codec.pack(model, codes, level)
    bits = codec.cross_entropy(model, codes, level)
    chosen = encoding.analyse(model, picture(*SEVERAL_TILES), level)
    for chunk, kept in ((1, 1), (20, 300), (77, 1000), (2000, 1)):
        monkeypatch.setattr(codemap, "CHUNK", chunk)
        monkeypatch.setattr(codemap, "KEPT", kept)
        assert codec.pack(model, codes, level) == stream
        assert_equal(codec.unpack(model, stream, *SEVERAL_TILES, level), codes)
        assert codec.cross_entropy(model, codes, level) == pytest.approx(bits)
        assert_equal(encoding.analyse(model, picture(*SEVERAL_TILES), level), chosen)


def test_slices_with_one_codeword_cost_nothing(model: CodecModel) -> None:
    """If the bottom map has no others, the stream is that of the top map."""

    def first_alone(table: CodebookTable) -> CodebookTable:
        first = table.codewords[:, :1]
        return CodebookTable(first, first, np.zeros((table.groups, 1), np.int64))

    tables = [[first_alone(t) for t in row] for row in model.bottom.tables]
    silent = replace(model, bottom=replace(model.bottom, tables=tables))
    codes = any_codes(silent, 40, 24, level=64)
    stream = codec.pack(silent, codes, 64)
    assert_equal(codec.unpack(silent, stream, 40, 24, 64), codes)
    encoder = Encoder()
    codemap.encode(silent.top, codes.top, codes.shape, 64, None, encoder)
    assert encoder.finish() == stream


@pytest.mark.parametrize(
    ("width", "height", "level"), [(1, 1, 0), (17, 33, 64), (100, 70, 37), (70, 100, 128)]
)
def test_the_reference_decodes_the_stream(
    model: CodecModel, exported: Path, tensors: Tensors, width: int, height: int, level: int
) -> None:
    codes = any_codes(model, width, height, level)
    stream = codec.pack(model, codes, level)
    config = json.loads((exported / "config.json").read_text())
    top, bottom, _ = reference_stream.decode(tensors, config, stream, width, height, level)
    for found, expected in zip(top + bottom, codes.top + codes.bottom, strict=True):
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)


FROZEN = {
    "weight": (-127, 128),
    "multiplier": (2**17, 2**18),
    "bias": (-(2**32), 2**32),
    "embedding": (-2000, 2000),
    "unit": (2**9, 2**11),
    "inverse_unit": (2**14, 2**16),
    "log_scale": (-4000, 4000),
    "precision": (0, 2**13),
    "codewords": (-400, 400),
    "labels": (-400, 400),
}
"""Range of the numbers that take the place of a kind of tensor."""


def frozen(name: str, like: NDArray[np.generic]) -> NDArray[np.generic]:
    """What takes the place of a tensor, the same forever wherever and with whatever it is made."""
    kind = name.rpartition(".")[2]
    if name.startswith("transform.") or name in ("top.weight", "bottom.weight"):
        return like  # the decoder of codes has no use for it
    low, high = FROZEN[kind]
    if ".codebook." in name and kind == "bias":
        low, high = -(2**12), 2**12
    if ".head." in name and kind == "multiplier":
        low, high = 2**18, 2**19
    random = np.random.RandomState(zlib.crc32(name.encode()))
    return random.randint(low, high, like.shape, dtype=np.int64).astype(like.dtype)


GOLDEN = {
    0: "32353beea868db3ca9ce4bad357cb5ee7fcd6cdc31f90f2d62c37ff0bad249f4",
    37: "f51c34e1997147c14977d76875244f9dbb7ca992204c99a82d32a2534d859c77",
    128: "47941c52fa4049a27b128fedefdf94579d8f1cb25b6ae564e42e9f4dcbe723e3",
}
"""SHA-256 of streams.  If one changes, so has the format of files."""

ADAPTIVE = {
    0: "5066e6b94397b5bec8aae495dc919968ccb64b58eeae88865d9f8b7133bae960",
    37: "dbb4950e97410c620d3d676aec6d6c656ba6ee6ae3f7c277fb5967b8fc150578",
    128: "db1e257c4731c9ef2be507dd8ef69e0eb148070dad446c62fff990e4e7a26ec5",
}
"""Of those of a model whose frequencies learn."""


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("level", GOLDEN)
def test_golden_streams(
    exported: Path, tensors: Tensors, tmp_path: Path, level: int, adaptive: bool
) -> None:
    config = json.loads((exported / "config.json").read_text()) | {"adaptive": adaptive}
    numbers = {name: frozen(name, value) for name, value in tensors.items()}
    store.save(numbers, config, tmp_path)
    model, random, (h, w) = store.load_model(tmp_path), np.random.RandomState(level), (5, 7)
    top, bottom = (
        [
            random.randint(0, b.size, (n, b.groups), dtype=np.int64).astype(np.uint16)
            for b in code_map.books(level)
        ]
        for code_map, n in ((model.top, h * w), (model.bottom, 4 * h * w))
    )
    stream = codec.pack(model, Codes((h, w), top, bottom), level)
    expected = (ADAPTIVE if adaptive else GOLDEN)[level]
    assert hashlib.sha256(stream).hexdigest() == expected
    found = reference_stream.decode(numbers, config, stream, 16 * w, 16 * h, level)
    for a, b in zip(found[0] + found[1], top + bottom, strict=True):
        np.testing.assert_array_equal(a.reshape(b.shape), b)


# Streams that nobody encoded.


def assert_valid(model: CodecModel, codes: Codes, level: int) -> None:
    positions = codes.shape[0] * codes.shape[1]
    for code_map, found, n in (
        (model.top, codes.top, positions),
        (model.bottom, codes.bottom, 4 * positions),
    ):
        for book, c in zip(code_map.books(level), found, strict=True):
            assert c.shape == (n, book.groups)
            assert (c >= 0).all()
            assert (c < book.size).all()


@settings(deadline=None, max_examples=30)
@given(
    st.binary(max_size=400).map(lambda b: b[: len(b) // 4 * 4]),
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(0, 128),
)
def test_any_words_decode_to_a_picture_or_are_refused(
    model: CodecModel, stream: bytes, width: int, height: int, level: int
) -> None:
    try:
        codes = codec.unpack(model, stream, width, height, level)
    except VqzError as error:
        assert str(error).startswith("corrupt code stream: ")  # noqa: PT017
    else:
        assert_valid(model, codes, level)
        assert codec.synthesise(model, codes, width, height, level).shape == (height, width, 3)


@pytest.mark.parametrize("length", [0, 4, 32])
def test_a_stream_that_ends_before_its_codes_is_refused(model: CodecModel, length: int) -> None:
    with pytest.raises(VqzError, match=r"^corrupt code stream: it ends before its codes do$"):
        codec.unpack(model, bytes(length), 150, 100, 64)


@pytest.mark.parametrize(
    ("width", "height"), [(2**14, 2**14), (1, 2**28), (2**28, 1), (16 * 128 * 16, 16 * 129)]
)
def test_a_bomb_is_refused_before_anything_is_allocated(
    model: CodecModel, width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codemap, "decode", None)
    with pytest.raises(VqzError) as caught:
        codec.unpack(model, bytes(4), width, height, 0)
    assert str(caught.value) == f"corrupt code stream: too short for {width} x {height} pixels"


def test_streams_are_long_enough_for_the_decoder(model: CodecModel) -> None:
    """Even those of a model to which a picture is no news: zeros at the end change nothing."""

    def first_alone(table: CodebookTable) -> CodebookTable:
        first = table.codewords[:, :1]
        return CodebookTable(first, first, np.zeros((table.groups, 1), np.int64))

    def silenced(code_map: CodeMap) -> CodeMap:
        return replace(code_map, tables=[[first_alone(t) for t in row] for row in code_map.tables])

    silent = replace(model, top=silenced(model.top), bottom=silenced(model.bottom))
    for height, length in ((1, 0), (16, 0), (64, 0), (65, 4), (130, 68)):
        codes = any_codes(silent, 16 * 256, 16 * height, 0)
        stream = codec.pack(silent, codes, 0)
        assert stream == bytes(length)
        assert_equal(codec.unpack(silent, stream, 16 * 256, 16 * height, 0), codes)


def test_more_words_than_codes_are_refused(model: CodecModel) -> None:
    with pytest.raises(VqzError) as caught:
        codec.unpack(model, b"\0" * 4000, 40, 24, 64)
    assert str(caught.value) == "corrupt code stream: it goes on after the last code"


def test_ones_are_refused(model: CodecModel) -> None:
    with pytest.raises(VqzError, match=r"^corrupt code stream: "):
        codec.unpack(model, b"\xff" * 4000, 40, 24, 64)


@pytest.mark.parametrize("cut", [1, 2, 3, 5])
def test_a_stream_cut_within_a_word_is_refused(model: CodecModel, cut: int) -> None:
    stream = encoding.encode(model, picture(40, 24), 64)
    with pytest.raises(VqzError) as caught:
        codec.decode(model, stream[:-cut], 40, 24, 64)
    assert str(caught.value) == "corrupt code stream: its length is not a multiple of four"


def test_a_flipped_bit_changes_the_codes(model: CodecModel) -> None:
    codes = any_codes(model, 40, 24, 128)
    stream = codec.pack(model, codes, 128)
    for place in range(0, len(stream) - 8, 16):
        flipped = bytearray(stream)
        flipped[place] ^= 1
        try:
            found = codec.unpack(model, bytes(flipped), 40, 24, 128)
        except VqzError:
            continue
        assert_valid(model, found, 128)
        assert digest(found) != digest(codes)


# Pixels.


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    error = a.astype(np.float64) - b
    return float(10 * np.log10(255**2 / np.square(error).mean()))


def test_quality_and_size_grow_with_the_level(model: CodecModel) -> None:
    pixels = picture(112, 96)
    streams = [encoding.encode(model, pixels, level) for level in (0, 64, 128)]
    sizes = [len(stream) for stream in streams]
    assert sizes == sorted(set(sizes))
    decoded = [
        codec.decode(model, stream, 112, 96, level)
        for stream, level in zip(streams, (0, 64, 128), strict=True)
    ]
    qualities = [psnr(out, pixels) for out in decoded]
    assert qualities == sorted(qualities)
    assert qualities[-1] > 26


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_decoded_pictures_have_the_size_of_the_original(
    model: CodecModel, width: int, height: int
) -> None:
    stream = encoding.encode(model, picture(width, height), 100)
    out = codec.decode(model, stream, width, height, 100)
    assert out.shape == (height, width, 3)
    assert out.dtype == np.uint8


@pytest.mark.parametrize("colour", [(200, 90, 30), (255, 255, 255), (0, 0, 0), (255, 0, 0)])
def test_a_flat_picture_stays_nearly_flat(model: CodecModel, colour: tuple[int, ...]) -> None:
    pixels = np.full((33, 40, 3), colour, np.uint8)
    out = codec.decode(model, encoding.encode(model, pixels, 128), 40, 33, 128)
    assert np.abs(out.astype(int) - pixels).max() <= 24


def test_decoded_pixels_are_clamped_and_rounded(model: CodecModel) -> None:
    values = [-0.3, 0.0, 0.4, 0.6, 100.4, 100.6, 254.4, 254.6, 255.0, 255.6, 300.0]

    image = torch.tensor(values).expand(1, 3, 16, -1) / 255
    decoder = SimpleNamespace(
        config=TransformConfig(), decode_top=lambda vectors, _: vectors, decode=lambda *_: image
    )
    codes = any_codes(model, len(values), 16, 0)
    fake = replace(model, transform=cast(Transform, decoder))
    out = codec.synthesise(fake, codes, len(values), 16, 0)
    assert out[5, :, 1].tolist() == [0, 0, 0, 1, 100, 101, 254, 255, 255, 255, 255]


@pytest.mark.parametrize("level", [37, 128])
def test_bands_give_what_the_whole_picture_gives(
    model: CodecModel, level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    width, height = 40, 330
    pixels = picture(width, height, seed=3)
    codes = encoding.analyse(model, pixels, level)
    whole = codec.synthesise(model, codes, width, height, level)
    monkeypatch.setattr(bands, "FEWEST_ROWS", 5)
    for size, kept in ((1, 2**17), (6 * 3, 0)):
        monkeypatch.setattr(bands, "BAND", size)
        monkeypatch.setattr(bands, "KEPT", kept)
        assert len(bands.Analysis(model.transform, pixels, torch.zeros(1)).bands) >= 4
        assert_equal(encoding.analyse(model, pixels, level), codes)
        found = codec.synthesise(model, codes, width, height, level)
        assert np.abs(found.astype(int) - whole).max() <= 1


@pytest.mark.parametrize("chunk", [1, 40, 10**6])
def test_streams_do_not_depend_on_how_much_is_coded_at_once(
    model: CodecModel, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    codes = encoding.analyse(model, picture(150, 100), 70)
    expected = codec.pack(model, codes, 70)
    monkeypatch.setattr(codemap, "CHUNK", chunk)
    assert codec.pack(model, codes, 70) == expected


def test_bands_need_their_halo(model: CodecModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test above would notice one that is too small."""
    width, height = 40, 330
    pixels = picture(width, height, seed=3)
    codes = encoding.analyse(model, pixels, 128)
    whole = codec.synthesise(model, codes, width, height, 128)
    monkeypatch.setattr(bands, "FEWEST_ROWS", 5)
    monkeypatch.setattr(bands, "BAND", 1)
    monkeypatch.setattr(bands, "synthesis_halo", lambda _: 0)
    found = codec.synthesise(model, codes, width, height, 128)
    assert np.abs(found.astype(int) - whole).max() > 1


def test_the_picture_is_continued_by_its_edge(model: CodecModel) -> None:
    """So a picture has the codes of one that was padded by hand."""
    pixels = picture(33, 20)
    padded = np.pad(pixels, ((0, 12), (0, 15), (0, 0)), mode="edge")
    assert_equal(encoding.analyse(model, pixels, 90), encoding.analyse(model, padded, 90))


EVEN = np.ones((100, 1), np.float32)


def test_without_a_prior_to_pay_the_nearest_codewords_are_chosen(model: CodecModel) -> None:
    """At a thousand times the weight of the distortion."""
    level, code_map = 96, model.top
    precious = replace(code_map, weight=1000 * code_map.weight)
    rng = np.random.default_rng(0)
    latent = rng.normal(0, 3, (20, 8)).astype(np.float32)
    codes = choose(Latents(precious, latent, (4, 5), level, None, EVEN[:20]), Search())
    for i, (book, c) in enumerate(zip(code_map.books(level), codes, strict=True)):
        part = latent[:, code_map.prior.starts[i] : code_map.prior.starts[i + 1]]
        points = 64 * part.reshape(20, book.groups, 1, book.dim).astype(np.float64)
        distance = np.square(points - book.codewords).sum(3)
        chosen = np.take_along_axis(distance, c[:, :, None], 2)[:, :, 0]
        np.testing.assert_allclose(chosen, distance.min(2), rtol=0.02, atol=1)


def test_choosing_by_the_prior_saves_bits(model: CodecModel) -> None:
    rng = np.random.default_rng(0)
    latent = rng.normal(0, 2, (100, 8)).astype(np.float32)

    def bits(by_bits: bool) -> float:
        codes = choose(Latents(model.top, latent, (10, 10), 64, None, EVEN), Search(by_bits))
        return codemap.cross_entropy(model.top, codes, (10, 10), 64, None)

    assert bits(True) < 0.9 * bits(False)


@pytest.mark.parametrize("level", [64, 128])
def test_chosen_codes_have_the_least_distortion_plus_bits(model: CodecModel, level: int) -> None:
    """In the context of those chosen before, and by the frequencies that the coder works with."""
    code_map, shape = codec.fixed(model).top, (10, 10)
    latent = np.random.default_rng(0).normal(0, 2, (100, 8)).astype(np.float32)
    emphasis = np.exp2(np.arange(100) % 5 - 2, dtype=np.float32)[:, None]
    chosen = choose(Latents(code_map, latent, shape, level, None, emphasis), Search())
    books, starts = code_map.books(level), code_map.prior.starts
    coding = Coding(code_map.prior, Layout(*shape, code_map.tile), level, None)
    cells, places, _ = coding.layout.order
    seen = code_map.prior.inputs(code_map.vectors(chosen, level), level)[places]
    coding.put(cells, seen)
    hidden = coding.hidden(cells, coding.start(places))
    for i, (book, c) in enumerate(zip(books, chosen, strict=True)):
        channels = slice(starts[i], starts[i + 1])
        points = latent[places, channels].reshape(100, book.groups, 1, book.dim)
        weight = code_map.weight[level // 16, channels].reshape(book.groups, 1, book.dim)
        squares = (weight * np.square(points - book.codewords / 64)).sum(3)
        distortion = emphasis[places, :, None] * squares
        frequency = frequencies(book.weights(coding.slices[i].features(hidden, seen)))
        cost = distortion - np.log2(frequency.reshape(distortion.shape) / 2**24)
        found = np.take_along_axis(cost, c[places][:, :, None], 2)[:, :, 0]
        assert (found <= cost.min(2) + 2).all()  # the rarest are rounded by a bit, either way
        assert np.mean(found <= cost.min(2) + 0.01) > 0.95


def test_a_preview_is_the_picture_of_the_top_codes(model: CodecModel) -> None:
    pixels = picture(100, 70)
    stream = encoding.encode(model, pixels, 96)
    codes = codec.unpack(model, stream, 100, 70, 96)
    t, level = model.transform, torch.tensor([6.0])
    vectors = model.top.vectors(codes.top, 96).astype(np.float32) / 64
    h = t.decode_top(torch.from_numpy(vectors.T.reshape(1, -1, *codes.shape)), level)
    image = t.decode(torch.zeros(1, model.bottom.prior.channels, *codes.bottom_shape), h, level)
    expected = (image[0, :, :70, :100].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
    found = codec.preview(model, stream, 100, 70, 96)
    assert np.abs(found - expected).max() <= 1
    assert np.array_equal(codec.preview(model, stream[:-4], 100, 70, 96), found)


def test_levels_between_trained_ones_use_the_nearest_codebooks(model: CodecModel) -> None:
    at = [model.top.trained_level(level) for level in range(129)]
    expected = [(level + 8) // 16 for level in range(129)]
    assert at == expected
    assert at[7:9] == [0, 1]
    assert at[128] == 8


# The whole of it, from the Python interface.


def test_compress_and_decompress(exported: Path, model: CodecModel) -> None:
    pixels = picture(50, 35)
    data = vqzip.compress(Image.fromarray(pixels), quality=80, model=exported)
    info = vqzip.info(data)
    assert (info.width, info.height) == (50, 35)
    assert info.fingerprint == model.fingerprint.hex()
    out = np.asarray(vqzip.decompress(data, model=exported))
    stream = encoding.encode(model, pixels, info.level)
    np.testing.assert_array_equal(out, codec.decode(model, stream, 50, 35, info.level))
    assert info.chunks == {"C": len(stream)}
