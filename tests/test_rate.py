from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import vqzip
from vqzip import codec, encoding
from vqzip.cli import main
from vqzip.codec import CodecModel
from vqzip.errors import VqzError
from vqzip.latents import Search
from vqzip.rate import Rate, bracket, fit, psnr_of, reach
from vqzip.store import load_model

PIXELS = 480 * 270
seeds = st.integers(0, 2**32)


class Counted:
    """A codec that only knows sizes, and how often it was asked."""

    def __init__(self, size: Callable[[int, float], float]) -> None:
        self.size = size
        self.asked: list[tuple[int, float]] = []

    def __call__(self, level: int, fidelity: float = 1.0) -> bytes:
        assert 0 <= level <= 128
        assert 1 <= fidelity <= 4
        assert (level, fidelity) not in self.asked
        self.asked.append((level, fidelity))
        return bytes(self.at(level, fidelity))

    def at(self, level: int, fidelity: float = 1.0) -> int:
        """Bytes of a file: 27 and whole words."""
        return 27 + 4 * round(self.size(level, fidelity) / 4)


def like_a_photo(level: int, fidelity: float = 1.0) -> float:
    """Sizes much like those of examples/photo.png, jumps included."""
    jumps = 0.03 * sum(level >= 16 * i + 8 for i in range(8))
    return 2100 * math.exp(0.027 * level - 7.5e-5 * level**2 + jumps + 0.08 * math.log2(fidelity))


@pytest.mark.parametrize("limit", [2127, 2600, 3000, 6400, 10_000, 17_500, 24_000])
def test_sizes_of_a_photo(limit: int) -> None:
    sizes = Counted(like_a_photo)
    found = len(fit(sizes, limit, PIXELS))
    assert 0.97 * limit <= found <= limit
    assert len(sizes.asked) <= 5


def test_encodes_of_all_targets() -> None:
    """Within the range of the model, three or four are the rule, five and more the exception."""
    counts = []
    for limit in range(2127, Counted(like_a_photo).at(128), 50):
        sizes = Counted(like_a_photo)
        assert 0.97 * limit <= len(fit(sizes, limit, PIXELS)) <= limit
        counts.append(len(sizes.asked))
    assert Counter(counts) == {2: 13, 3: 226, 4: 169, 5: 27, 6: 13, 7: 5, 8: 1}


def test_the_step_between_two_levels_is_bridged() -> None:
    """By codes that are closer, at the lower of the levels."""

    def cliff(level: int, fidelity: float) -> float:
        return like_a_photo(level, fidelity) * (1.3 if level >= 60 else 1.0)

    sizes = Counted(cliff)
    limit = round(1.1 * sizes.at(59))
    assert sizes.at(59) < 0.97 * limit < limit < sizes.at(60)
    assert 0.97 * limit <= len(fit(sizes, limit, PIXELS)) <= limit
    fine = [asked for asked in sizes.asked if asked[1] != 1]
    assert {level for level, _ in fine} == {59}
    assert len(fine) <= 3


def test_a_step_that_cannot_be_bridged_ends_at_the_closest_file() -> None:
    sizes = Counted(lambda level, _: 20_000.0 if level >= 60 else 4000.0)
    assert len(fit(sizes, 10_000, PIXELS)) == 4027
    assert len(sizes.asked) <= 15


def test_a_tiny_picture_is_no_finer_than_words() -> None:
    sizes = Counted(lambda level, _: level / 8)
    for limit in range(27, 43):
        sizes.asked.clear()
        assert len(fit(sizes, limit, 1)) == limit - (limit - 27) % 4
        assert {fidelity for _, fidelity in sizes.asked} == {1}


def test_a_target_above_the_largest_file_is_met_by_it() -> None:
    sizes = Counted(like_a_photo)
    assert len(fit(sizes, 10**100, PIXELS)) == sizes.at(128)
    assert sizes.asked == [(128, 1)]
    sizes.asked.clear()
    assert len(fit(sizes, sizes.at(128), PIXELS)) == sizes.at(128)


@pytest.mark.parametrize("limit", [0, 1, 162, 2126])
def test_a_target_below_the_smallest_file_names_it(limit: int) -> None:
    sizes = Counted(like_a_photo)
    assert sizes.at(0) == 2127
    with pytest.raises(VqzError) as caught:
        fit(sizes, limit, PIXELS)
    assert str(caught.value) == (
        f"does not fit into {limit:,} bytes: the smallest file has 2,127 (0.131 bpp)"
    )
    assert len(sizes.asked) <= 3
    assert sizes.asked[-1] == (0, 1)


@settings(deadline=None)
@given(seeds, st.integers(50, 10**6), st.integers(1, 10**8), st.floats(0, 1))
def test_any_growing_sizes(seed: int, smallest: int, pixels: int, place: float) -> None:
    steps = np.random.default_rng(seed).uniform(0.005, 0.029, 128)
    logs = np.cumsum([math.log(smallest), *steps])
    sizes = Counted(lambda level, fidelity: math.exp(logs[level] + 0.08 * math.log2(fidelity)))
    limit = round(sizes.at(0) + place * (sizes.at(128) - sizes.at(0)))
    found = len(fit(sizes, limit, pixels))
    assert found <= limit
    # Half a word above and below is lost to rounding, and the next level may be that much more.
    assert found >= 0.97 * limit - 8
    assert len(sizes.asked) <= 14


@settings(deadline=None)
@given(seeds, st.integers(2000, 60_000))
def test_sizes_that_do_not_always_grow(seed: int, limit: int) -> None:
    noise = np.random.default_rng(seed).uniform(-0.02, 0.05, 129)
    sizes = Counted(lambda level, fidelity: like_a_photo(level, fidelity) * (1 + noise[level]))
    try:
        found = len(fit(sizes, limit, PIXELS))
    except VqzError:
        assert sizes.at(0) > limit
        return
    assert found == max(size for asked in sizes.asked if (size := sizes.at(*asked)) <= limit)
    assert found >= 0.97 * limit - 8 or found == sizes.at(128)
    assert len(sizes.asked) <= 20


# The lowest level of a PSNR.


def psnr_like_a_photo(level: int) -> float:
    return 22.7 + 0.14 * level - 0.0004 * level**2


@pytest.mark.parametrize("level", range(129))
def test_psnr_of_a_photo(level: int) -> None:
    asked: list[int] = []

    def psnr(at: int) -> float:
        asked.append(at)
        return psnr_like_a_photo(at)

    exactly = psnr_like_a_photo(level)
    assert reach(psnr, exactly) == level
    assert len(asked) <= 6
    assert reach(psnr_like_a_photo, math.nextafter(exactly, 0)) == level
    if level < 128:
        assert reach(psnr_like_a_photo, math.nextafter(exactly, 99)) == level + 1


def test_psnr_below_the_lowest_is_the_lowest_level() -> None:
    assert reach(psnr_like_a_photo, 1e-9) == 0


@pytest.mark.parametrize("target", [34.1, 300, 1e300])
def test_psnr_beyond_the_best_quality(target: float) -> None:
    with pytest.raises(VqzError) as caught:
        reach(psnr_like_a_photo, target)
    assert str(caught.value) == f"cannot have {target:g} dB: the best quality has 34.07 dB"


@settings(deadline=None)
@given(seeds, st.floats(1, 299))
def test_psnr_that_does_not_grow(seed: int, target: float) -> None:
    values: list[float] = np.random.default_rng(seed).uniform(0, 300, 129).tolist()
    asked: list[int] = []

    def psnr(at: int) -> float:
        assert at not in asked
        asked.append(at)
        return values[at]

    try:
        level = reach(psnr, target)
    except VqzError:
        assert values[128] < target
    else:
        assert values[level] >= target
        assert level == 0 or values[level - 1] < target
    assert len(asked) <= 14


# The search itself.


@settings(deadline=None)
@given(
    st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20).map(sorted),
    st.floats(-1e9, 1e9),
    st.floats(allow_nan=False),
    st.floats(1e-9, 1e9),
)
def test_bracket_of_any_growing_function(
    values: list[float], goal: float, first: float, slope: float
) -> None:
    below, above = bracket(values.__getitem__, goal, len(values) - 1, first, slope)
    assert above == below + 1
    assert below == sum(value <= goal for value in values) - 1


def test_a_straight_line_takes_three_looks() -> None:
    asked: list[int] = []

    def line(x: int) -> float:
        asked.append(x)
        return 3.0 * x + 1

    assert bracket(line, 200.0, 128, first=10, slope=1.0) == (66, 67)
    assert asked == [10, 128, 66, 67]


# PSNR.


def test_psnr_is_that_of_decoded_values() -> None:
    a = np.zeros((2, 5, 3), np.uint8)
    b = a.copy()
    b[1, 2] = (255, 0, 0)
    assert psnr_of(a, b, grayscale=False) == 10 * math.log10(30)
    # In one channel, that pixel is 85.
    assert psnr_of(a, b, grayscale=True) == 10 * math.log10(255**2 * 10 / 85**2)
    assert psnr_of(b, b, grayscale=False) == 300


# What the user asks for.


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        ({"quality": 50, "max_bytes": 9}, "exclude"),
        ({"target_bpp": 1.0, "target_psnr": 30}, "exclude"),
        ({"quality": 0}, "quality must be from 1 to 100, not 0"),
        ({"target_bpp": 0}, "target bpp must be a number above 0, not 0"),
        ({"target_bpp": math.nan}, "target bpp must be a number above 0, not nan"),
        ({"target_bpp": math.inf}, "target bpp must be a number above 0, not inf"),
        ({"target_bpp": "1"}, "target bpp must be a number above 0, not '1'"),
        ({"target_psnr": -1.5}, "target psnr must be a number above 0, not -1.5"),
        ({"target_psnr": True}, "target psnr must be a number above 0, not True"),
        ({"max_bytes": 0}, "max bytes must be a whole number above 0, not 0"),
        ({"max_bytes": 99.5}, "max bytes must be a whole number above 0, not 99.5"),
    ],
)
def test_wrong_rates(rate: dict[str, float], message: str) -> None:
    if message == "exclude":
        message = "quality, target bpp, max bytes and target psnr exclude each other"
    with pytest.raises(VqzError) as caught:
        vqzip.compress(Image.new("RGB", (1, 1)), **rate)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_limit_in_bytes() -> None:
    assert Rate(target_bpp=0.7).limit(80) == 7
    assert Rate(target_bpp=0.7).limit(79) == 6
    assert Rate(target_bpp=1e308).limit(10**9) == 2**62
    assert Rate(max_bytes=5).limit(80) == 5
    assert Rate(quality=5).limit(80) is None


Capture = pytest.CaptureFixture[str]


@pytest.mark.usefixtures("codec")
class TestCommandLine:
    """With a codec whose files are always of one size, and without loss."""

    def test_a_quality_excludes_targets(self, photo: Path, capsys: Capture) -> None:
        assert main(["compress", str(photo), "-q", "50", "--target-bpp", "1"]) == 2
        message = "Error: quality, target bpp, max bytes and target psnr exclude each other\n"
        assert capsys.readouterr().err.endswith(message)

    def test_targets_out_of_range(self, photo: Path, capsys: Capture) -> None:
        assert main(["compress", str(photo), "--target-psnr", "nan"]) == 2
        message = "Error: target psnr must be a number above 0, not nan\n"
        assert capsys.readouterr().err.endswith(message)

    def test_a_target_above_the_largest_file_is_said(self, photo: Path, capsys: Capture) -> None:
        assert main(["compress", str(photo), "--max-bytes", "123456"]) == 0
        about = vqzip.info(photo.with_suffix(".vqz"))
        assert about.level == 128
        assert capsys.readouterr().err == (
            f"vqzip: {photo}: the best quality takes only {about.bytes} of 123,456 bytes\n"
        )
        limit = str(about.bytes)
        assert main(["compress", str(photo), "-f", "--max-bytes", limit]) == 0
        assert capsys.readouterr().err == ""

    def test_a_target_below_the_smallest_file(self, photo: Path, capsys: Capture) -> None:
        size = len(vqzip.compress(photo))
        assert main(["compress", str(photo), "--target-bpp", "0.5"]) == 1
        assert capsys.readouterr().err == (
            f"vqzip: {photo}: does not fit into 5 bytes: "
            f"the smallest file has {size} ({8 * size / 91:.3f} bpp)\n"
        )
        assert not photo.with_suffix(".vqz").exists()

    def test_psnr(self, photo: Path) -> None:
        assert main(["compress", str(photo), "--target-psnr", "40"]) == 0
        assert vqzip.info(photo.with_suffix(".vqz")).level == 0


# With a model.


@pytest.fixture(scope="module")
def tiny() -> CodecModel:
    return load_model(Path(__file__).parent / "golden" / "model")


@pytest.fixture(scope="module")
def image() -> Image.Image:
    with Image.open(Path(__file__).parents[1] / "examples" / "photo.png") as photo:
        part: Image.Image = photo.convert("RGB").crop((150, 40, 350, 190))
        return part


def test_sizes_of_a_model(tiny: CodecModel, image: Image.Image) -> None:
    for quality in (15, 60):
        limit = round(1.02 * len(vqzip.compress(image, quality, tiny)))
        data = vqzip.compress(image, model=tiny, max_bytes=limit)
        assert 0.97 * limit <= len(data) <= limit
        assert vqzip.decompress(data, tiny).size == (200, 150)
        assert vqzip.compress(image, model=tiny, target_bpp=8 * limit / (200 * 150)) == data


def test_fidelity_spends_bits_on_closer_codes(tiny: CodecModel, image: Image.Image) -> None:
    pixels = np.asarray(image)
    sizes, errors = [], []
    for fidelity in (1, 2, 4):
        stream = encoding.encode(tiny, pixels, 30, Search(fidelity=fidelity))
        decoded = codec.decode(tiny, stream, 200, 150, 30)
        sizes.append(len(stream))
        errors.append(-psnr_of(pixels, decoded, grayscale=False))
    assert sizes == sorted(set(sizes))
    assert errors == sorted(set(errors), reverse=True)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_psnr_of_a_model(tiny: CodecModel, image: Image.Image, mode: str) -> None:
    source = np.asarray(image.convert(mode)).astype(float)

    def psnr(data: bytes) -> float:
        error = source - np.asarray(vqzip.decompress(data, tiny))
        return float(10 * np.log10(255**2 / np.square(error).mean()))

    target = psnr(vqzip.compress(image.convert(mode), 60, tiny)) - 1e-6
    data = vqzip.compress(image.convert(mode), model=tiny, target_psnr=target)
    assert psnr(data) >= target
    level = vqzip.info(data).level - 1  # which is not enough
    pixels = np.repeat(
        np.atleast_3d(source).astype(np.uint8), 3 // np.atleast_3d(source).shape[2], 2
    )
    decoded = codec.decode(tiny, encoding.encode(tiny, pixels, level), 200, 150, level)
    assert psnr_of(pixels, decoded, grayscale=mode == "L") < target
