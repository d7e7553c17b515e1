"""vqzip.bench: BD-rates, crops, and the command from pictures to the report."""

import base64
import io
import json
import math
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from PIL import Image
from test_bench_measuring import ROW, pixels

from vqzip.bench.codecs import Codec, all_codecs
from vqzip.bench.crops import SIZE, crop_at, evenly, middle
from vqzip.bench.metrics import METRICS
from vqzip.bench.rates import BDRate, Point, bd_rate, common_pictures, compare, curves
from vqzip.bench.rows import Row, RowFile
from vqzip.cli import main

MINUS = "\N{MINUS SIGN}"
Capture = pytest.CaptureFixture[str]

ROOT = Path(__file__).parents[1]
PSNR = METRICS["psnr"]
CURVE = [Point(n, 0.1 * 2**n, 25.0 + 3 * n) for n in range(6)]


def scaled(factor: float) -> list[Point]:
    return [replace(point, bpp=point.bpp * factor) for point in CURVE]


def row(picture: str, codec: str, setting: float, bpp: float, value: float | None) -> Row:
    psnr = 0.0 if value is None else value
    return replace(
        ROW, picture=picture, codec=codec, setting=setting, bpp=bpp, psnr=psnr, ms_ssim=value
    )


@pytest.mark.parametrize("factor", [0.9, 1.0, 2.5])
def test_bd_rate_of_files_of_another_size(factor: float) -> None:
    rate = bd_rate(CURVE, scaled(factor))
    assert rate.percent == pytest.approx(100 * (factor - 1))
    assert (*rate.interval, rate.overlap, rate.reason) == (25, 40, 1, "")
    assert str(bd_rate(CURVE, scaled(0.9))) == "-10.0 %"


def test_bd_rate_is_over_what_both_reach() -> None:
    rate = bd_rate(CURVE, scaled(0.9)[1:5])
    assert rate.percent == pytest.approx(-10)
    assert (*rate.interval, rate.overlap) == pytest.approx((28, 37, 0.6))


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        (CURVE[:3], "the codec has 3 points, 4 are needed"),
        ([*CURVE[:3], replace(CURVE[3], value=math.inf)], "the codec has 3 points, 4 are needed"),
        (
            [*CURVE[:4], replace(CURVE[4], value=30)],
            "the codec's quality does not always rise with the rate",
        ),
        (
            [replace(point, value=point.value + 8) for point in CURVE],
            "the curves share 30 % of their range, 40 % are needed",
        ),
        (
            [replace(point, value=point.value + 50) for point in CURVE],
            "the curves share 0 % of their range, 40 % are needed",
        ),
    ],
)
def test_bd_rate_is_refused(test: list[Point], reason: str) -> None:
    rate = bd_rate(CURVE, test)
    assert (rate.percent, rate.reason, str(rate)) == (None, reason, "refused")
    swapped = bd_rate(test, CURVE)
    assert (swapped.percent, swapped.reason) == (None, reason.replace("the codec", "the anchor"))


def test_means_are_over_the_same_pictures() -> None:
    rows = [
        row(picture, codec, setting, bpp, value)
        for codec in ("jpeg", "webp")
        for setting in (1, 2)
        for picture, bpp, value in (("a", 1, 0.9), ("b", 3, 0.8), ("c", 8, 0.1), ("d", 8, None))
        if (picture, codec, setting) != ("c", "webp", 2)
    ]
    metric = METRICS["ms_ssim"]
    assert common_pictures(rows, metric) == ["a", "b"]
    assert common_pictures(rows, PSNR) == ["a", "b", "d"]
    point = curves(rows, metric, ["a", "b"])["jpeg"][0]
    assert (point.setting, point.bpp) == (1, 2)
    assert point.value == pytest.approx(8.239087)  # 0.85 in dB
    assert common_pictures([], metric) == []


def test_comparison() -> None:
    rows = [
        row(picture, codec, point.setting, point.bpp * factor, point.value)
        for picture, better in (("a", 0.5), ("b", 0.7))
        for codec, factor in (("jpeg", 1.0), ("vqz", better))
        for point in CURVE
    ]
    comparison = compare(rows, PSNR, "jpeg")
    assert list(comparison.rates) == ["vqz"]
    assert comparison.rates["vqz"].percent == pytest.approx(-40)
    assert comparison.by_picture["a"]["vqz"].percent == pytest.approx(-50)
    assert comparison.by_picture["b"]["vqz"].percent == pytest.approx(-30)
    assert compare(rows, PSNR, "webp").rates["vqz"] == BDRate(
        None, "the anchor has 0 points, 4 are needed"
    )


def linear_codec(whole: bool, calls: list[float]) -> Codec:
    """Writes 100 bytes for a setting of 1, and grey for any picture."""

    def encode(image: Image.Image, setting: float) -> bytes:
        calls.append(setting)
        return bytes(round(100 * setting))

    jpeg = all_codecs()["jpeg"]
    decode: Callable[[bytes], Image.Image] = lambda _: Image.new("L", (80, 100), 7)  # noqa: E731
    return replace(jpeg, encode=encode, decode=decode, whole=whole)


@pytest.mark.parametrize(
    ("whole", "bpp", "setting"), [(True, 1.77, 18), (False, 1.77, 17.7), (True, 9, 50)]
)
def test_crops_are_of_the_size_wanted(whole: bool, bpp: float, setting: float) -> None:
    calls: list[float] = []
    image = Image.new("RGB", (80, 100))
    crop = crop_at(linear_codec(whole, calls), image, bpp, {1: 0.1, 10: 1.0, 50: 5.0})
    assert crop.setting == pytest.approx(setting, rel=0.02)
    assert crop.bpp == round(100 * crop.setting) / 1000
    assert crop.image.getpixel((0, 0)) == (7, 7, 7)
    assert len(calls) < 8


def test_middle() -> None:
    picture = pixels(500, 400)
    part = middle(Image.fromarray(picture))
    assert part.size == SIZE
    assert np.array_equal(np.asarray(part), picture[40:360, 10:490])
    assert middle(Image.new("L", (5, 500))).size == (5, 320)


def test_evenly() -> None:
    assert evenly("abcdef", 2) == ["b", "e"]
    assert evenly("abc", 9) == ["a", "b", "c"]
    assert evenly("abc", 0) == evenly("", 3) == []


class Elements(HTMLParser):
    """Tags of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """photos/a<b>.png and photos/below/c.png, in the working directory."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    with Image.open(ROOT / "examples" / "photo.png") as photo:
        photo.resize((60, 50)).save(folder / "a<b>.png")
        photo.resize((40, 70)).save(folder / "below" / "c.png")
    monkeypatch.chdir(tmp_path)
    return folder


def test_bench(codec: None, photos: Path, capsys: Capture) -> None:
    assert main(["bench", "photos", "--codecs", "vqz,jpeg,webp", "--crop-bpp", "2"]) == 0
    out, err = capsys.readouterr()
    head, vqz, webp, path = out.splitlines()
    assert head == "BD-rate against JPEG  PSNR (dB)  MS-SSIM (dB)  SSIMULACRA2"
    assert vqz.split() == ["vqzip", "refused"]
    assert re.fullmatch(r"WebP +[+-][\d.]+ % *", webp)
    assert (path, err) == ("bench/report.html", "")
    plots = [f"{name}{suffix}" for name in METRICS for suffix in (".svg", ".png")]
    assert {p.name for p in Path("bench").iterdir()} == {"rows.tsv", "report.html", *plots}
    rows = RowFile(Path("bench/rows.tsv")).rows.values()
    assert len(rows) == 2 * (11 + 8 + 8)
    assert {row.picture for row in rows} == {"a<b>.png", "below/c.png"}

    page = Path("bench/report.html").read_text(encoding="utf-8")
    elements = Elements(page).found
    assert "<b>" not in page
    assert "a&lt;b&gt;.png<small>60 x 50</small>" in page
    assert "vqzip, PSNR (dB): no BD-rate, as the codec has 0 points, 4 are needed." in page
    assert webp.split()[1].replace("-", MINUS) in page
    assert page.count("Mean of 0 of 2 pictures") == 2  # these are too small for the others
    thumbnails = [a["src"] or "" for tag, a in elements if tag == "img" and "src" in a]
    assert len(thumbnails) == 2
    for version in {row.version for row in rows}:
        assert version in page

    # Nothing is loaded from elsewhere.
    for tag, attributes in elements:
        for name in ("src", "href", "xlink:href"):
            target = attributes.get(name) or "#"
            assert target.startswith(("data:", "#")), (tag, attributes)

    [text] = re.findall(r'<script type="application/json" id="scenes">(.*?)</script>', page)
    scenes = json.loads(text)
    assert [scene["name"] for scene in scenes] == ["a<b>.png", "below/c.png"]
    labels = ["original", "vqzip", "JPEG", "WebP"]
    assert [view["label"] for view in scenes[0]["views"]] == labels
    for view in scenes[0]["views"][:2]:  # the fake codec is lossless
        data = base64.b64decode(view["src"].partition(",")[2])
        with Image.open(io.BytesIO(data)) as seen, Image.open(photos / "a<b>.png") as photo:
            assert np.array_equal(np.asarray(seen.convert("RGB")), np.asarray(photo))


def test_bench_of_a_single_codec(photos: Path, capsys: Capture) -> None:
    assert main(["bench", "photos", "--codecs", "webp", "--crops", "0"]) == 0
    assert capsys.readouterr().out == "bench/report.html\n"
    assert "BD-rate" not in Path("bench/report.html").read_text(encoding="utf-8")


def test_bench_help_has_an_example(capsys: Capture) -> None:
    assert main(["bench", "--help"]) == 0
    assert "Examples:\n    vqzip bench " in capsys.readouterr().out


def test_bench_resumes(photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    command = ["bench", "photos", "--codecs", "jpeg", "--qualities", "jpeg=10,20,40,80"]
    assert main(command) == 0
    table = Path("bench/rows.tsv")
    lines = table.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + 8
    table.write_bytes(b"".join(lines[:5]) + lines[5][:20])  # as if killed while it wrote
    calls: list[Path] = []

    from vqzip.bench import run

    original = run.measure

    def measure(task: run.Task) -> object:
        calls.append(task.path)
        return original(task)

    monkeypatch.setattr(run, "measure", measure)
    assert main(command) == 0
    assert calls == [Path("photos/below/c.png")] * 4
    assert table.read_bytes().splitlines(keepends=True)[:5] == lines[:5]
    assert len(RowFile(table).rows) == 8
    assert main(command) == 0
    assert len(calls) == 4
    capsys.readouterr()


def test_bench_goes_on_after_failures(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (photos / "broken.jpg").write_bytes(b"broken")
    Image.init()
    original = Image.SAVE["WEBP"]

    def fail(image: Image.Image, file: IO[bytes], name: str | bytes) -> None:
        if image.size == (60, 50):
            raise ValueError("too wide")
        original(image, file, name)

    monkeypatch.setitem(Image.SAVE, "WEBP", fail)
    assert main(["bench", "photos", "--codecs", "jpeg,webp", "--crops", "0"]) == 1
    assert capsys.readouterr().err == (
        "vqzip: a<b>.png: WebP: too wide\nvqzip: broken.jpg: not a picture of a known format\n"
    )
    assert len(RowFile(Path("bench/rows.tsv")).rows) == 8 + 16
    page = Path("bench/report.html").read_text(encoding="utf-8")
    assert "<li>a&lt;b&gt;.png: WebP: too wide</li>" in page
    assert "<li>broken.jpg: not a picture of a known format</li>" in page
    assert "Mean of 1 of 2 pictures" in page


def test_bench_without_the_extra(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    for name in ("imagecodecs", "jinja2", "pytorch_msssim", "ssimulacra2"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["bench", "photos", "--codecs", "jpeg,jxl"]) == 0
    hint = 'pip install "vqzip[bench]"'
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"vqzip: JPEG XL: left out, needs imagecodecs: {hint}",
        f"vqzip: MS-SSIM (dB): left out, needs pytorch_msssim: {hint}",
        f"vqzip: SSIMULACRA2: left out, needs ssimulacra2: {hint}",
        f"vqzip: report.html: left out, needs jinja2: {hint}",
    ]
    assert [path.name for path in Path("bench").iterdir()] == ["rows.tsv"]
    assert len(RowFile(Path("bench/rows.tsv")).rows) == 2 * 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["empty"], "empty: no pictures in this folder"),
        (["nowhere"], "nowhere: is not a folder"),
        (["photos", "--output", "photos"], "photos: no pictures in this folder"),
        (["photos", "--output", "file"], "file: cannot write: File exists"),
        (["photos", "--codecs", "gif"], "photos: unknown codec 'gif'; there are "),
        (["photos", "--codecs", "vqz,jpeg", "--model", "none"], "none: not a model"),
        (["bad", "--codecs", "jpeg"], "bad: nothing could be measured"),
    ],
)
def test_bench_on_bad_input(
    codec: None, photos: Path, capsys: Capture, arguments: list[str], message: str
) -> None:
    Path("empty").mkdir()
    Path("bad").mkdir()
    Path("bad/a.png").write_bytes(b"")
    Path("file").write_bytes(b"")
    assert main(["bench", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith(f"vqzip: {message}")


def test_readme_tells_what_is_in_results(tmp_path: Path, capsys: Capture) -> None:
    results = tmp_path / "results"
    shutil.copytree(ROOT / "results", results)
    (results / "kodak.svg").unlink()
    runpy.run_path(str(results / "plot.py"), run_name="__main__")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tables = capsys.readouterr().out.strip().split("\n\n")
    assert len(tables) == 3
    for table in tables:
        assert table in readme
    assert (results / "kodak.svg").read_text(encoding="utf-8").startswith("<svg")


def test_no_kodak_file_is_smaller_at_a_higher_quality() -> None:
    sizes: dict[str, list[tuple[float, int]]] = {}
    for row_ in RowFile(ROOT / "results" / "kodak.tsv").rows.values():
        sizes.setdefault(row_.picture, []).append((row_.setting, row_.bytes))
    assert len(sizes) == 24
    for points in sizes.values():
        in_order = [size for _, size in sorted(points)]
        assert in_order == sorted(in_order)
