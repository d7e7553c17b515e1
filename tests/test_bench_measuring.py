"""vqzip.bench: codecs, metrics, rows and the work of measuring."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL
import pytest
from numpy.typing import NDArray
from PIL import Image

import vqzip
from vqzip.bench.codecs import Codec, all_codecs
from vqzip.bench.metrics import METRICS, decibel, ms_ssim, psnr, ssimulacra2
from vqzip.bench.plan import make
from vqzip.bench.rows import Row, RowFile
from vqzip.bench.run import Failure, Task, measure, measure_all
from vqzip.errors import VqzError

ANCHORS = ("jpeg", "webp", "avif", "jxl", "jp2")
ALL = tuple(METRICS)

ROW = Row(
    picture="a/b.png",
    width=3,
    height=2,
    codec="jpeg",
    version="Pillow 1, libjpeg 2",
    setting=2.5,
    bytes=123,
    bpp=164.0,
    psnr=math.inf,
    ms_ssim=None,
    ms_ssim_db=None,
    ssimulacra2=-1.5,
    encode_s=0.25,
    decode_s=0.125,
)


def pixels(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth colours with some noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([x * 2, y * 2, x + y], axis=2) + rng.normal(80, 6, (height, width, 3))
    return np.clip(smooth, 0, 255).astype(np.uint8)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(pixels(48, 40)).save(path)
    return path


def task(path: Path, codec: str, setting: float, metrics: tuple[str, ...] = ALL) -> Task:
    return Task(path, path.name, codec, setting, metrics, None)


@pytest.mark.parametrize("name", ANCHORS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_settings_go_from_small_files_to_large_ones(name: str, mode: str) -> None:
    codec = all_codecs()[name]
    image = Image.fromarray(pixels(96, 64)).convert(mode)
    files = [codec.encode(image, setting) for setting in codec.settings]
    sizes = [len(file) for file in files]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]
    decoded = codec.decode(files[-1])
    assert decoded.size == (96, 64)
    assert psnr(np.asarray(image.convert("RGB")), np.asarray(decoded.convert("RGB"))) > 30


def test_vqz_is_what_users_get(codec: None) -> None:
    image = Image.fromarray(pixels(20, 10))
    vqz = all_codecs()["vqz"]
    assert vqz.encode(image, 30) == vqzip.compress(image, 30)
    assert vqz.version() == f"vqzip {vqzip.__version__}, model {b'default!'.hex()}"


def test_psnr() -> None:
    black = np.zeros((4, 4, 3), np.uint8)
    assert psnr(black, black) == math.inf
    assert psnr(black, black + 255) == 0
    assert psnr(black, black + 1) == psnr(black + 1, black) == pytest.approx(48.130804)
    one_channel = black.copy()
    one_channel[:, :, 1] = 3  # a mean squared error of 3
    assert psnr(black, one_channel) == pytest.approx(43.359591)


def test_ms_ssim_and_ssimulacra2() -> None:
    original = pixels(240, 232)
    noise = np.random.default_rng(1).normal(0, 10, original.shape)
    worse, worst = (np.clip(original + scale * noise, 0, 255).astype(np.uint8) for scale in (1, 2))
    for measure_, best in ((ms_ssim, 1), (ssimulacra2, 100)):
        values = [measure_(original, other) for other in (original, worse, worst)]
        assert values[0] == pytest.approx(best)
        assert values[0] > values[1] > values[2]


def test_decibel() -> None:
    assert decibel(0.9) == pytest.approx(10)
    assert decibel(0.999) == pytest.approx(30)
    assert decibel(1) == decibel(1.0000001) == math.inf  # which rounding makes of equal pixels


def test_small_pictures_have_fewer_metrics() -> None:
    sizes = {"psnr": 1, "ms_ssim": 161, "ssimulacra2": 225}
    for name, side in sizes.items():
        assert METRICS[name].fits(side, 1000)
        assert METRICS[name].fits(1000, side)
        assert not METRICS[name].fits(side - 1, 1000)


def test_a_row_of_a_lossless_codec(codec: None, picture: Path) -> None:
    row = measure(task(picture, "vqz", 50))
    assert isinstance(row, Row)
    size = len(vqzip.compress(picture, 50))
    seconds = {"encode_s": row.encode_s, "decode_s": row.decode_s}
    assert row == replace(
        ROW,
        picture="picture.png",
        width=48,
        height=40,
        codec="vqz",
        version=all_codecs()["vqz"].version(),
        setting=50,
        bytes=size,
        bpp=8 * size / (48 * 40),
        ssimulacra2=None,
        **seconds,
    )
    assert min(seconds.values()) > 0


def test_measured_are_the_bytes_and_the_pixels_of_a_file(picture: Path) -> None:
    row = measure(task(picture, "jpeg", 30))
    assert isinstance(row, Row)
    with Image.open(picture) as image:
        image.save(picture.with_suffix(".jpg"), quality=30, optimize=True)
        original = np.asarray(image)
    with Image.open(picture.with_suffix(".jpg")) as decoded:
        assert row.psnr == psnr(original, np.asarray(decoded))
    assert row.bytes == picture.with_suffix(".jpg").stat().st_size


def test_failures_are_results(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("too blue")

    broken = picture.with_name("broken.png")
    broken.write_bytes(b"broken")
    tasks = [task(broken, "jpeg", 30), task(picture, "jpeg", 30), task(picture, "webp", 30)]
    assert isinstance(measure(tasks[1]), Row)
    monkeypatch.setitem(Image.SAVE, "JPEG", fail)
    failed, also, row = measure_all(tasks, 1)
    assert failed == Failure("broken.png", None, "not a picture of a known format")
    assert also == Failure("picture.png", "jpeg", "too blue")
    assert isinstance(row, Row)
    assert row.codec == "webp"


def test_processes_measure_the_same(picture: Path) -> None:
    other = picture.with_name("other.png")
    Image.fromarray(pixels(30, 50, seed=1)).save(other)
    tasks = [task(path, "jpeg", setting) for path in (picture, other) for setting in (10, 90)]

    def rows(jobs: int) -> list[Row]:
        results = [row for row in measure_all(tasks, jobs) if isinstance(row, Row)]
        timeless = [replace(row, encode_s=0, decode_s=0) for row in results]
        return sorted(timeless, key=lambda row: row.key)

    assert rows(2) == rows(1)
    assert len(rows(1)) == 4


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.tsv"
    table = RowFile(path)
    table.append(ROW)
    table.append(replace(ROW, setting=3, ssimulacra2=None, ms_ssim=0.1234567))
    again = RowFile(path)
    assert list(again.rows.values()) == [
        ROW,
        replace(ROW, setting=3, ssimulacra2=None, ms_ssim=0.123457),
    ]
    assert again.rows == table.rows
    assert path.read_text().splitlines()[1] == (
        "a/b.png\t3\t2\tjpeg\tPillow 1, libjpeg 2\t2.5\t123\t164.000000\tinf\t\t\t-1.500"
        "\t0.2500\t0.1250"
    )


def test_later_rows_replace_earlier_ones(tmp_path: Path) -> None:
    table = RowFile(tmp_path / "rows.tsv")
    table.append(ROW)
    table.append(replace(ROW, ms_ssim=0.5, ms_ssim_db=decibel(0.5)))
    [row] = RowFile(tmp_path / "rows.tsv").rows.values()
    assert row.ms_ssim == 0.5


def test_half_a_row_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    table = RowFile(path)
    table.append(ROW)
    whole = path.read_bytes()
    table.append(replace(ROW, picture="lost"))
    path.write_bytes(path.read_bytes()[:-1])
    assert list(RowFile(path).rows.values()) == [ROW]
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("my notes\n", "is not a table of this version of vqzip bench"),
        ("", "is not a table of this version of vqzip bench"),
        ("HEADa\tb\n", "line 2 is broken: "),
        ("HEAD" + "x\t" * 13 + "x\n", "line 2 is broken: invalid literal for int"),
    ],
)
def test_other_files_are_left_alone(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rows.tsv"
    RowFile(path)
    path.write_text(text.replace("HEAD", path.read_text()))
    before = path.read_bytes()
    with pytest.raises(VqzError, match=f"rows.tsv: {message}"):
        RowFile(path)
    assert path.read_bytes() == before


def test_plan_leaves_out_what_is_missing(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("imagecodecs", "ssimulacra2"):
        monkeypatch.setitem(sys.modules, name, None)
    Image.init()
    monkeypatch.delitem(Image.SAVE, "AVIF")
    plan = make(picture.parent, picture.parent / "bench", "jpeg,jxl,avif")
    assert plan.left_out == {
        "JPEG XL": 'needs imagecodecs: pip install "vqzip[bench]"',
        "AVIF": f"Pillow {PIL.__version__} cannot write it",
        "SSIMULACRA2": 'needs ssimulacra2: pip install "vqzip[bench]"',
    }
    assert list(plan.codecs) == ["jpeg"]
    assert [metric.name for metric in plan.metrics] == ["psnr", "ms_ssim"]
    with pytest.raises(VqzError, match=r'^needs imagecodecs: pip install "vqzip\[bench\]"$'):
        make(picture.parent, picture.parent / "bench", "jpeg,jxl", anchor="jxl")


def test_plan_takes_pictures_from_below_the_folder(picture: Path) -> None:
    folder = picture.parent
    for name in ("below/x.JPG", "bench/plot.png", "notes.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")
    plan = make(folder, folder / "bench", "jpeg", ["jpeg=30,60"])
    assert plan.pictures == {"below/x.JPG": folder / "below/x.JPG", "picture.png": picture}
    assert plan.codecs["jpeg"].settings == (30, 60)


def test_anchor_is_jpeg_or_the_first(picture: Path) -> None:
    folders = picture.parent, picture.parent / "bench"
    assert make(*folders, "webp,jpeg").anchor == "jpeg"
    assert make(*folders, "webp,jp2").anchor == "webp"
    assert make(*folders, "webp,jp2", anchor="jp2").anchor == "jp2"


def test_plan_measures_again_what_lacks_a_metric(picture: Path) -> None:
    Image.fromarray(pixels(161, 170)).save(picture)
    plan = make(picture.parent, picture.parent / "bench", "jpeg", ["jpeg=30"])
    table = RowFile(picture.parent / "bench" / "rows.tsv")
    [only] = plan.tasks(table)
    row = measure(only)
    assert isinstance(row, Row)
    table.append(replace(row, ms_ssim=None, ms_ssim_db=None))
    assert plan.tasks(table) == [only]
    table.append(row)  # too small for SSIMULACRA2
    assert plan.tasks(table) == []
    table.append(replace(row, version="older", psnr=1))
    assert [row.psnr for row in plan.rows(table)] == [pytest.approx(row.psnr, abs=1e-4)]


@pytest.mark.parametrize(
    ("codecs", "qualities", "message"),
    [
        ("jpeg,gif", [], "unknown codec 'gif'; there are vqz, jpeg, webp, avif, jxl, jp2"),
        ("webp", [], "--anchor: jpeg is not among the codecs webp"),
        ("jpeg", ["webp=3"], "--qualities: webp is not among the codecs jpeg"),
        ("jpeg", ["jpeg=high"], "--qualities: 'jpeg=high' is not like vqz=20,40,60"),
        ("jpeg", ["jpeg="], "--qualities: 'jpeg=' is not like vqz=20,40,60"),
        ("jpeg,vqz", ["50,101"], "--qualities: 101 is no setting of vqz: a whole number from 1"),
        ("jpeg", ["jpeg=1.5"], "--qualities: 1.5 is no setting of jpeg: a whole number from 1"),
        ("jpeg,jxl", ["jxl=nan"], "--qualities: nan is no setting of jxl: a number from 0.01 to"),
    ],
)
def test_plans_that_cannot_be(
    picture: Path, codecs: str, qualities: list[str], message: str
) -> None:
    with pytest.raises(VqzError) as caught:
        make(picture.parent, picture.parent / "bench", codecs, qualities, "jpeg")
    assert str(caught.value).startswith(message)


def test_codecs_know_their_limits() -> None:
    for codec in all_codecs().values():
        assert isinstance(codec, Codec)
        low, high = codec.limits
        assert all(low <= setting <= high for setting in codec.settings)
