import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import vqzip
from vqzip import codec
from vqzip.cli import main
from vqzip.codec import CodecModel, Codes
from vqzip.coder import frequencies
from vqzip.container import unpack
from vqzip.entropy import EXP2
from vqzip.integer import Doubles
from vqzip.sampling import Sampler, complete, sample, tempered
from vqzip.store import load_model

GOLDEN = Path(__file__).parent / "golden"
MODEL = str(GOLDEN / "model")
PHOTO = GOLDEN / "photo-q60.vqz"
WIDTH, HEIGHT, LEVEL = 70, 40, 64

# The first four bits of seed 0's first random numbers.
FIRST_DRAWS = [10, 4, 0, 0, 13, 14, 9, 11]

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def model() -> CodecModel:
    return load_model(MODEL)


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def digest(codes: Codes) -> str:
    parts = (part.astype("<u2").tobytes() for part in codes.top + codes.bottom)
    return hashlib.sha256(b"".join(parts)).hexdigest()


# The sampler.


def weights_of(bits: list[float]) -> Doubles:
    """Weights (1, K) of codewords so many bits below the most likely one."""
    return EXP2[[min(round(256 * b), len(EXP2) - 1) for b in bits]][None]


BITS = [3.0, 0.0, 1.5, 40.0, 6.25, 0.5, 9.0]


def counts(weights: Doubles, t: float) -> list[int]:
    """How often each code is drawn, of 200,000 times."""
    codes = Sampler(1, t).get(np.repeat(weights, 200_000, axis=0))
    found: list[int] = np.bincount(codes, minlength=weights.shape[1]).tolist()
    return found


# Chi-square below the 99.9th percentile of so many degrees of freedom.
LIMIT = {5: 20.5, 6: 22.5}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_codes_are_drawn_by_their_probability(temperature: float) -> None:
    p = np.array([2 ** (-b / temperature) for b in BITS[:3] + BITS[4:]])
    expected = 200_000 * p / p.sum()
    drawn = counts(weights_of(BITS), temperature)
    assert drawn.pop(3) == 0  # farther than 28 bits
    assert (np.square(drawn - expected) / expected).sum() < LIMIT[5]


def test_at_temperature_one_the_coders_frequencies_decide() -> None:
    """Each random number of 24 bits, in steps, falls to the code whose interval it is in."""
    weights = weights_of(BITS)
    ends = np.cumsum(frequencies(weights), axis=1)[0]
    draws = np.concatenate([[0], *([e - 1, e] for e in ends[:-1]), [2**24 - 1]])
    sampler = Sampler()
    sampler._random = _Fixed(draws)  # type: ignore[assignment]
    got = sampler.get(np.repeat(weights, len(draws), axis=0))
    assert got.tolist() == np.searchsorted(ends, draws, side="right").tolist()
    assert got[[0, -1]].tolist() == [0, len(BITS) - 1]
    assert 3 in got  # of weight zero, and yet a frequency of one


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1e6])
def test_the_largest_random_number_is_not_beyond_the_last_code(temperature: float) -> None:
    sampler = Sampler(0, temperature)
    sampler._random = _Fixed(np.array([2**24 - 1]))  # type: ignore[assignment]
    assert sampler.get(weights_of([0.0, 2.0, 28.5])).tolist() == [2 if temperature == 1 else 1]


class _Fixed:
    """Random numbers that are known, of 24 bits."""

    def __init__(self, draws: Doubles) -> None:
        self._draws = draws

    def random_raw(self, n: int) -> NDArray[np.uint64]:
        assert n == len(self._draws)
        raw: NDArray[np.uint64] = self._draws.astype(np.uint64) << np.uint64(40)
        return raw


def test_draws_do_not_depend_on_how_many_are_asked_for_at_once() -> None:
    weights = np.repeat(weights_of(BITS), 50, axis=0)
    whole, parts = Sampler(5), Sampler(5)
    expected = whole.get(weights)
    got = [parts.get(weights[:1]), parts.get(weights[1:20]), parts.get(weights[20:])]
    np.testing.assert_array_equal(np.concatenate(got), expected, strict=True)
    assert expected.dtype == np.int32


def test_random_numbers_are_those_of_pcg64() -> None:
    """These and no others, whatever version of NumPy."""
    uniform = np.ones((8, 16)) * 2**28
    assert Sampler(0).get(uniform).tolist() == FIRST_DRAWS


@pytest.mark.parametrize("temperature", [5e-324, 1e-6, 1e-4])
def test_towards_zero_the_most_likely_code_is_drawn(temperature: float) -> None:
    assert counts(weights_of([1 / 256, 0.0, 3.0]), temperature) == [0, 200_000, 0]


def test_towards_infinity_all_codes_with_a_weight_are_as_likely() -> None:
    drawn = counts(weights_of([*BITS, 27.9]), 1e300)
    assert drawn.pop(3) == 0
    expected = 200_000 / 7
    assert (np.square(np.array(drawn) - expected) / expected).sum() < LIMIT[6]


def test_tempered_weights() -> None:
    np.testing.assert_array_equal(tempered(1.0), EXP2, strict=True)
    squared = tempered(0.5)
    assert squared[[0, 256, 512, 14 * 256, -1]].tolist() == [2**28, 2**26, 2**24, 1, 0]
    root = tempered(2.0)
    assert root[[0, 512, 28 * 256, -1]].tolist() == [2**28, 2**27, 2**14, 0]
    np.testing.assert_array_equal(root[::2][: 14 * 256], EXP2[: 14 * 256])


@pytest.mark.parametrize("temperature", [0.0, -0.5, math.inf, math.nan])
def test_other_temperatures_are_refused(temperature: float) -> None:
    with pytest.raises(vqzip.VqzError, match=r"^temperature must be above 0 and finite, not "):
        Sampler(0, temperature)


@pytest.mark.parametrize("seed", [-1, True, 1.5])
def test_other_seeds_are_refused(seed: int) -> None:
    with pytest.raises(vqzip.VqzError, match=r"^seed must be a whole number from 0, not "):
        Sampler(seed)


# Pictures.

SAMPLED = {
    (0, 1.0): "6b3f34ec1561274f4dd5e7816ffd275d54a3d1a49db43742427035bf25c1932e",
    (0, 0.7): "afb88a4b87ae59a34c8c113c9cc0b847a5fa6d9fd2e16e38341bb83d60dc26d3",
    (2**40, 1.0): "3937653b5d8f186a6f8e67b82f44e175eb4d55fd396e3df69842ee6fa0199af2",
}
COMPLETED = "ae48eb7f55f66d80d30a740ac5a68effd7b2d6a19d46db642a63b7380f203339"


@pytest.mark.parametrize(("seed", "temperature"), SAMPLED)
def test_codes_of_a_seed_are_the_same_everywhere(
    model: CodecModel, seed: int, temperature: float
) -> None:
    drawn = sample(model, WIDTH, HEIGHT, LEVEL, Sampler(seed, temperature))
    assert drawn.codes.shape == (3, 5)
    assert digest(drawn.codes) == SAMPLED[seed, temperature]


def test_a_sample_is_a_file_like_any_other(model: CodecModel) -> None:
    drawn = sample(model, WIDTH, HEIGHT, LEVEL, Sampler(3))
    data = drawn.pack()
    file = unpack(data)
    codes = codec.unpack(model, file.code_stream, WIDTH, HEIGHT, LEVEL)
    assert digest(codes) == digest(drawn.codes)
    pixels = np.asarray(vqzip.decompress(data, model))
    np.testing.assert_array_equal(drawn.pixels(), pixels, strict=True)
    assert pixels.shape == (HEIGHT, WIDTH, 3)


def test_completion_keeps_the_top_map_and_draws_the_bottom_map(model: CodecModel) -> None:
    file = unpack(PHOTO.read_bytes())
    h = file.header
    whole = codec.unpack(model, file.code_stream, h.width, h.height, h.level)
    drawn = complete(model, file, Sampler(0))
    assert drawn.header == h
    assert drawn.codes.shape == whole.shape
    for kept, original in zip(drawn.codes.top, whole.top, strict=True):
        np.testing.assert_array_equal(kept, original, strict=True)
    assert digest(drawn.codes) == COMPLETED
    assert digest(drawn.codes) != digest(whole)


def test_completion_keeps_alpha_and_metadata(model: CodecModel) -> None:
    path = GOLDEN / "cutout-q50.vqz"
    original, drawn = vqzip.decompress(path, model), vqzip.complete(path, model)
    assert drawn.mode == original.mode == "RGBA"
    assert drawn.getchannel("A").tobytes() == original.getchannel("A").tobytes()
    assert drawn.tobytes() != original.tobytes()
    assert drawn.info == original.info
    assert set(drawn.info) == {"icc_profile", "exif", "xmp"}


def test_python_api(model: CodecModel) -> None:
    image = vqzip.sample(WIDTH, HEIGHT, model=MODEL, seed=4, temperature=0.8)
    assert (image.mode, image.size) == ("RGB", (WIDTH, HEIGHT))
    again = vqzip.sample(WIDTH, HEIGHT, 50, model, seed=4, temperature=0.8)
    assert again.tobytes() == image.tobytes()
    others = [
        vqzip.sample(WIDTH, HEIGHT, 51, model, seed=4, temperature=0.8),
        vqzip.sample(WIDTH, HEIGHT, 50, model, seed=5, temperature=0.8),
        vqzip.sample(WIDTH, HEIGHT, 50, model, seed=4, temperature=0.9),
    ]
    assert len({one.tobytes() for one in (image, *others)}) == 4
    first, second = (vqzip.complete(PHOTO, model, seed=seed) for seed in (0, 1))
    assert first.size == second.size
    assert first.tobytes() != second.tobytes()


@pytest.mark.parametrize(
    ("width", "height", "quality", "error"),
    [
        (0, 5, 50, "invalid picture size 0 x 5"),
        (2**16, 2**13, 50, f"picture of 65536 x 8192 pixels is over the limit of {2**28}"),
        (9, 9, 101, "quality must be from 1 to 100, not 101"),
    ],
)
def test_what_cannot_be_sampled(
    model: CodecModel, width: int, height: int, quality: int, error: str
) -> None:
    with pytest.raises(vqzip.VqzError) as raised:
        vqzip.sample(width, height, quality, model)
    assert str(raised.value) == error


# The command line.


def test_sample_writes_a_picture_for_each_seed(model: CodecModel, capsys: Capture) -> None:
    command = ["sample", "--size", "20x12", "--model", MODEL, "-q", "40", "--temperature", "0.9"]
    assert main([*command, "-n", "2", "--seed", "6", "-o", "a/b"]) == 0
    assert capsys.readouterr() == ("a/b/0001.png\na/b/0002.png\n", "")
    for number in (1, 2):
        with Image.open(f"a/b/000{number}.png") as image:
            expected = vqzip.sample(20, 12, 40, model, seed=5 + number, temperature=0.9)
            assert image.size == (20, 12)
            assert image.tobytes() == expected.tobytes()
    assert main([*command, "--seed", "7", "--to", "vqz", "-o", "c"]) == 0
    with Image.open("a/b/0002.png") as image:
        assert vqzip.decompress("c/0001.vqz", model).tobytes() == image.tobytes()


def test_nothing_is_overwritten_without_force(capsys: Capture) -> None:
    command = ["sample", "--size", "9x9", "--model", MODEL, "-n", "2", "-o", "."]
    Path("0002.png").write_bytes(b"mine")
    assert main(command) == 1
    message = "vqzip: {}: already exists, use -f to overwrite it\n"
    assert capsys.readouterr() == ("", message.format("./0002.png"))
    assert [path.name for path in Path().iterdir()] == ["0002.png"]
    assert main([*command, "-f"]) == 0
    assert Path("0002.png").read_bytes() != b"mine"

    Path("out.png").write_bytes(b"mine")
    capsys.readouterr()
    assert main(["complete", str(PHOTO), "--model", MODEL, "-o", "out.png"]) == 1
    assert capsys.readouterr() == ("", message.format("out.png"))
    assert Path("out.png").read_bytes() == b"mine"


def test_complete_takes_vqz_files_and_pictures(model: CodecModel, capsys: Capture) -> None:
    command = ["complete", "--model", MODEL, "--seed", "2", "--temperature", "0.5"]
    assert main([*command, str(PHOTO), "-o", "from_vqz.png"]) == 0
    assert main([*command, str(PHOTO), "-o", "from_vqz.vqz"]) == 0
    expected = vqzip.complete(PHOTO, model, seed=2, temperature=0.5)
    with Image.open("from_vqz.png") as image:
        assert image.tobytes() == expected.tobytes()
    assert vqzip.decompress("from_vqz.vqz", model).tobytes() == expected.tobytes()

    Image.effect_noise((33, 20), 50).save("noise.png")
    assert main([*command, "noise.png", "--keep", "top", "-q", "30", "-o", "noisy.png"]) == 0
    data = vqzip.compress("noise.png", 30, model)
    expected = vqzip.complete(data, model, seed=2, temperature=0.5)
    with Image.open("noisy.png") as image:
        assert (image.mode, image.size) == ("L", (33, 20))
        assert image.tobytes() == expected.tobytes()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            "sample --size 40x30 --max-pixels 1199 -o .",
            "picture of 40 x 30 pixels is over the limit of 1199",
        ),
        ("sample --to xyz -o .", "./0001.xyz: unknown picture format '.xyz'"),
        (
            "sample --model none -o .",
            "none: not a model: [Errno 2] No such file or directory: 'none/config.json'",
        ),
        (
            "sample --temperature nan -o out",
            "out/0001.png: temperature must be above 0 and finite, not nan",
        ),
        ("complete none.png -o out.png", "none.png: cannot read: No such file or directory"),
        ("complete text -o out.png", "text: not a picture of a known format"),
        ("complete text -o out", "out: unknown picture format ''"),
        ("complete text -o none/out.png", "none/out.png: cannot write: its folder does not exist"),
        (
            f"complete {PHOTO} -q 30 -o out.png",
            f"{PHOTO}: is a vqz file: its quality and frame are chosen already",
        ),
        ("complete half.vqz -o out.png", "half.vqz: truncated file"),
        (
            f"complete {PHOTO} --max-pixels 100 -o out.png",
            f"{PHOTO}: picture of 115 x 70 pixels is over the limit of 100",
        ),
        (
            "complete noise.png --max-pixels 100 -o out.png",
            "noise.png: picture of 33 x 20 pixels is over the limit of 100",
        ),
    ],
)
def test_errors_are_one_line(arguments: str, error: str, capsys: Capture) -> None:
    Path("text").write_text("no picture")
    Path("half.vqz").write_bytes(PHOTO.read_bytes()[:100])
    Image.effect_noise((33, 20), 50).save("noise.png")
    before = sorted(Path().rglob("*"))
    words = arguments.split()
    assert main(words if "--model" in words else [*words, "--model", MODEL]) == 1
    assert capsys.readouterr() == ("", f"vqzip: {error}\n")
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    "arguments",
    [
        "sample",
        "sample -o . --size 40",
        "sample -o . --size 0x40",
        "sample -o . --size 40x-3",
        "sample -o . -n 0",
        "sample -o . --seed -1",
        "sample -o . --temperature 0",
        "sample -o . --temperature inf",
        "complete photo.png",
        "complete -o out.png",
        "complete photo.png -o out.png --keep bottom",
        "complete photo.png -o out.png --temperature -1",
    ],
)
def test_wrong_usage(arguments: str, capsys: Capture) -> None:
    assert main(arguments.split()) == 2
    assert capsys.readouterr().err.startswith("Usage: vqzip ")
