import json
import os
import subprocess
import sys
from pathlib import Path

import fake_codec
import numpy as np
import pytest
from PIL import Image

import vqzip
from vqzip.cli import main

pytestmark = pytest.mark.usefixtures("codec")


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def vqz(photo: Path) -> Path:
    """img.vqz, the compressed photo; img.png is gone."""
    path = photo.with_suffix(".vqz")
    path.write_bytes(vqzip.compress(photo))
    photo.unlink()
    return path


def run(
    *args: str, stdin: bytes = b"", stdout: int = subprocess.PIPE
) -> subprocess.CompletedProcess[bytes]:
    """The command line in a process of its own, on top of the fake codec."""
    return subprocess.run(
        [sys.executable, fake_codec.__file__, *args],
        input=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
    )


Capture = pytest.CaptureFixture[str]


def test_compress_and_decompress_beside_the_input(photo: Path, capsys: Capture) -> None:
    assert main(["compress", "img.png"]) == 0
    with Image.open(photo) as image:
        expected = np.asarray(image)
    photo.unlink()
    assert main(["decompress", "img.vqz"]) == 0
    with Image.open(photo) as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), expected)
    assert capsys.readouterr() == ("", "")
    assert sorted(os.listdir()) == ["img.png", "img.vqz"]


def test_compress_options(photo: Path, capsys: Capture) -> None:
    assert main(["compress", "img.png", "-q", "100", "-o", "small.vqz", "-v"]) == 0
    about = vqzip.info("small.vqz")
    assert (about.quality, about.level) == (100, 128)
    out, err = capsys.readouterr()
    assert out == ""
    sizes = f"{photo.stat().st_size:,} to {about.bytes:,} bytes"
    expected = f"vqzip: img.png: {sizes}, {about.bpp:.3f} bpp, "
    assert err.startswith(expected)
    assert err.endswith(" s\n")
    assert err.count("\n") == 1


def test_losses_are_one_line(capsys: Capture) -> None:
    Image.new("CMYK", (2, 2)).save("a.jpg", icc_profile=b"profile")
    assert main(["compress", "a.jpg"]) == 0
    expected = "vqzip: a.jpg: CMYK converted to RGB, ICC profile dropped\n"
    assert capsys.readouterr().err == expected


def test_strip(capsys: Capture) -> None:
    Image.new("L", (2, 2)).save("a.webp", exif=b"Exif\0\0MM\0*", xmp=b"<x/>")
    assert main(["compress", "a.webp"]) == 0
    assert list(vqzip.info("a.vqz").chunks) == ["C", "e", "x"]
    assert main(["compress", "a.webp", "--strip", "-f"]) == 0
    assert list(vqzip.info("a.vqz").chunks) == ["C"]
    assert capsys.readouterr() == ("", "")


def test_frame(capsys: Capture) -> None:
    frames = [Image.new("L", (2, 2), value) for value in (0, 255)]
    frames[0].save("a.gif", save_all=True, append_images=frames[1:])
    assert main(["compress", "a.gif"]) == 1
    assert main(["compress", "a.gif", "--frame", "2"]) == 1
    assert capsys.readouterr().err == (
        "vqzip: a.gif: has 2 frames, choose one from 0 to 1 with --frame\n"
        "vqzip: a.gif: frame must be from 0 to 1, not 2\n"
    )
    assert main(["compress", "a.gif", "--frame", "1"]) == 0
    assert vqzip.decompress("a.vqz").getpixel((0, 0)) in (255, (255, 255, 255))


def test_what_a_format_cannot_hold_is_one_line(capsys: Capture) -> None:
    Image.new("LA", (2, 2), (0, 0)).save("a.webp", xmp=b"<x/>")
    assert main(["compress", "a.webp"]) == 0
    assert main(["decompress", "a.vqz", "-o", "a.png"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["decompress", "a.vqz", "-o", "a.bmp"]) == 0
    assert capsys.readouterr().err == (
        "vqzip: a.vqz: transparency replaced by white, BMP has none, XMP dropped\n"
    )
    with Image.open("a.png") as image:
        assert image.getchannel("A").getextrema() == (0, 0)


@pytest.mark.parametrize(
    ("name", "format_name"), [("a.tiff", "TIFF"), ("a.WEBP", "WEBP"), ("a.jpg", "JPEG")]
)
def test_suffix_decides_the_format(vqz: Path, name: str, format_name: str) -> None:
    assert main(["decompress", "img.vqz", "-o", name]) == 0
    with Image.open(name) as image:
        assert image.format == format_name


def test_unknown_suffix_is_an_error_before_the_work(capsys: Capture) -> None:
    assert main(["decompress", "missing.vqz", "-o", "a.xyz"]) == 1
    assert main(["decompress", "missing.vqz", "--to", "xyz"]) == 1
    assert capsys.readouterr().err == (
        "vqzip: a.xyz: unknown picture format '.xyz'\nvqzip: *.xyz: unknown picture format '.xyz'\n"
    )


def test_existing_output_needs_force(photo: Path, capsys: Capture) -> None:
    before = photo.read_bytes()
    assert main(["compress", "img.png"]) == 0
    assert main(["compress", "img.png", "-q", "1"]) == 1
    assert vqzip.info("img.vqz").quality == 50
    assert main(["decompress", "img.vqz"]) == 1
    assert photo.read_bytes() == before
    assert capsys.readouterr().err == (
        "vqzip: img.vqz: already exists, use -f to overwrite it\n"
        "vqzip: img.png: already exists, use -f to overwrite it\n"
    )
    assert main(["compress", "img.png", "-q", "1", "-f"]) == 0
    assert vqzip.info("img.vqz").quality == 1


@pytest.mark.parametrize("output", ["img.png", "./img.png", "link.png"])
def test_input_is_never_overwritten(photo: Path, capsys: Capture, output: str) -> None:
    before = photo.read_bytes()
    Path("link.png").symlink_to("img.png")
    assert main(["compress", "img.png", "-f", "-o", output]) == 1
    assert photo.read_bytes() == before
    assert capsys.readouterr().err == f"vqzip: {output}: is both input and output\n"


@pytest.mark.parametrize("command", ["compress", "decompress", "info"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot read: No such file or directory"),
        (b"hello", {"compress": "not a picture of a known format", "*": "not a vqz file"}),
        (b"", {"compress": "not a picture of a known format", "*": "empty file"}),
        (b"\x89VQZ\x01\0", {"compress": "not a picture of a known format", "*": "truncated file"}),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    capsys: Capture, command: str, content: bytes | None, reason: str | dict[str, str]
) -> None:
    name = "bad\n\x1b[31m.in"
    if content is not None:
        Path(name).write_bytes(content)
    before = os.listdir()
    assert main([command, name]) == 1
    if isinstance(reason, dict):
        reason = reason.get(command, reason["*"])
    assert capsys.readouterr() == ("", f"vqzip: bad\\n\\x1b[31m.in: {reason}\n")
    assert os.listdir() == before


def test_bad_input_leaves_an_existing_output_untouched(capsys: Capture) -> None:
    Path("bad.vqz").write_bytes(b"hello")
    Path("bad.png").write_bytes(b"precious")
    assert main(["decompress", "bad.vqz", "-f"]) == 1
    assert Path("bad.png").read_bytes() == b"precious"
    assert capsys.readouterr().err == "vqzip: bad.vqz: not a vqz file\n"


def test_every_truncation_of_a_file(vqz: Path, capsys: Capture) -> None:
    data = vqz.read_bytes()
    for length in range(0, len(data), 5):
        vqz.write_bytes(data[:length])
        assert main(["decompress", "img.vqz"]) == 1
        assert capsys.readouterr().err in {
            "vqzip: img.vqz: empty file\n",
            "vqzip: img.vqz: truncated file\n",
            "vqzip: img.vqz: corrupt file (wrong checksum)\n",
        }
    assert os.listdir() == ["img.vqz"]


def test_output_that_cannot_be_written(photo: Path, capsys: Capture) -> None:
    assert main(["compress", "img.png", "-o", "none/a.vqz"]) == 1
    assert main(["compress", "img.png", "-o", "/dev/full"]) == 1
    assert capsys.readouterr().err == (
        "vqzip: none/a.vqz: cannot write: its folder does not exist\n"
        "vqzip: /dev/full: cannot write: No space left on device\n"
    )
    assert os.listdir() == ["img.png"]


def test_models(photo: Path, capsys: Capture) -> None:
    Path("ink").mkdir()
    assert main(["compress", "img.png", "--model", "ink"]) == 1
    Path("ink/fingerprint").write_bytes(b"ink.....")
    assert main(["compress", "img.png", "--model", "ink"]) == 0
    assert main(["decompress", "img.vqz", "-o", "a.png"]) == 1
    assert main(["decompress", "img.vqz", "-o", "a.png", "--model", "ink"]) == 0
    assert main(["compress", "img.png", "-o", "b.vqz"]) == 0
    assert main(["decompress", "b.vqz", "-o", "b.png", "--model", "ink"]) == 1
    ink, default = b"ink.....".hex(), fake_codec.DEFAULT.hex()
    assert capsys.readouterr().err == (
        "vqzip: ink: not a model\n"
        f"vqzip: img.vqz: needs model {ink}, which is not installed; pass --model DIR\n"
        f"vqzip: b.vqz: needs model {default}, but the model given is {ink}\n"
    )


def test_max_pixels(vqz: Path, capsys: Capture) -> None:
    assert main(["decompress", "img.vqz", "--max-pixels", "90"]) == 1
    message = "vqzip: img.vqz: picture of 13 x 7 pixels is over the limit of 90\n"
    assert capsys.readouterr().err == message
    assert main(["decompress", "img.vqz", "--max-pixels", "91"]) == 0


def test_preview(vqz: Path, capsys: Capture) -> None:
    assert main(["decompress", "img.vqz", "--preview", "-o", "p.png"]) == 0
    about = vqzip.info(vqz)
    with Image.open("p.png") as image:
        assert image.size == (about.width, about.height)
        assert image.convert("RGB").getextrema() == ((0, 0), (0, 0), (0, 0))  # the fake one's


def test_info(vqz: Path, capsys: Capture) -> None:
    assert main(["info", "img.vqz"]) == 0
    size = vqz.stat().st_size
    assert capsys.readouterr().out == (
        "picture  13 x 7, colour\n"
        "quality  50 (level 63 of 128)\n"
        f"size     {size} bytes, {8 * size / 91:.3f} bpp\n"
        f"model    {fake_codec.DEFAULT.hex()}\n"
        f"chunks   C {vqzip.info(vqz).chunks['C']} bytes\n"
        "format   version 1\n"
    )


def test_info_of_alpha(capsys: Capture) -> None:
    Path("a.vqz").write_bytes(vqzip.compress(Image.new("LA", (2, 3), (0, 0))))
    assert main(["info", "a.vqz"]) == 0
    assert capsys.readouterr().out.startswith("picture  2 x 3, grayscale and alpha\n")


def test_info_json(vqz: Path, capsys: Capture) -> None:
    assert main(["info", "img.vqz", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about.pop("file") == "img.vqz"
    assert vqzip.Info(**about) == vqzip.info(vqz)


def test_pipes(photo: Path) -> None:
    packed = run("compress", "-", stdin=photo.read_bytes())
    assert (packed.returncode, packed.stderr) == (0, b"")
    about = run("info", "-", "--json", stdin=packed.stdout)
    assert json.loads(about.stdout)["width"] == 13
    unpacked = run("decompress", "-", "-o", "-", stdin=packed.stdout)
    assert (unpacked.returncode, unpacked.stderr) == (0, b"")
    assert unpacked.stdout[:8] == b"\x89PNG\r\n\x1a\n"
    bitmap = run("decompress", "-", "--to", ".bmp", stdin=packed.stdout)
    assert (bitmap.returncode, bitmap.stdout[:2]) == (0, b"BM")
    broken = run("decompress", "-", stdin=packed.stdout[:-1])
    assert (broken.returncode, broken.stdout) == (1, b"")
    assert broken.stderr == b"vqzip: -: truncated file\n"
    assert os.listdir() == ["img.png"]


@pytest.mark.parametrize("command", [["compress", "img.png", "-o", "-"], ["info", "img.vqz"]])
def test_full_standard_output(photo: Path, command: list[str]) -> None:
    Path("img.vqz").write_bytes(vqzip.compress(photo))
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        done = run(*command, stdout=full)
    finally:
        os.close(full)
    assert done.returncode != 0
    assert b"No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["compress"],
        ["compress", "a.png", "b.png", "-o", "c.vqz"],
        ["compress", "-r", "photos", "-o", "c.vqz"],
        ["compress", "--files-from", "list", "-o", "c.vqz"],
        ["compress", "a.png", "-o", "c.vqz", "-d", "out"],
        ["compress", "a.png", "-f", "--skip-existing"],
        ["compress", "a.png", "-0"],
        ["compress", "a.png", "-j", "-1"],
        ["compress", "a.png", "--quiet", "-v"],
        ["compress", "-", "a.png"],
        ["compress", "-", "--files-from", "list"],
        ["compress", "-", "-d", "out"],
        ["compress", "-", "--json"],
        ["compress", "a.png", "-o", "-", "--json"],
        ["compress", "-", "-o", "c.vqz", "--rm"],
        ["compress", "a.png", "-o", "-", "--rm"],
        ["compress", "a.png", "-q", "0"],
        ["compress", "a.png", "-q", "101"],
        ["compress", "a.png", "-q", "fine"],
        ["compress", "a.png", "--nonsense"],
        ["compress", "a.png", "--frame", "-1"],
        ["compress", "a.png", "--effort", "10"],
        ["decompress"],
        ["decompress", "a.vqz", "--max-pixels", "0"],
        ["decompress", "a.vqz", "--preview", "--rm"],
        ["test"],
        ["info"],
        ["info", "-", "a.vqz"],
        ["train", "photos"],
        ["train", "photos", "--out", "m", "--minutes", "0"],
        ["nonsense"],
    ],
)
def test_usage_errors(args: list[str], capsys: Capture) -> None:
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Usage: vqzip" in err
    assert "Error: " in err


@pytest.mark.parametrize("command", ["compress", "decompress", "info", "test", "models", "train"])
def test_help_has_an_example(command: str, capsys: Capture) -> None:
    assert main([command, "--help"]) == 0
    help_text = capsys.readouterr().out
    assert f"Examples:\n    vqzip {command}" in help_text


def test_version(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"vqzip {vqzip.__version__}\n"


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (MemoryError(), "not enough memory"),
        (RecursionError(), "nested too deeply"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: no memory"), "not enough memory"),
        (vqzip.VqzError("several\nlines"), "several\\nlines"),
    ],
)
def test_failure_within_the_codec(
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    failure: Exception,
    message: str,
) -> None:
    _fail_encoding(monkeypatch, failure)
    assert main(["compress", "img.png"]) == 1
    assert capsys.readouterr().err == f"vqzip: img.png: {message}\n"
    assert os.listdir() == ["img.png"]


def test_interruption(photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    _fail_encoding(monkeypatch, KeyboardInterrupt())
    assert main(["compress", "img.png"]) == 130
    assert capsys.readouterr().err.strip() == ""
    assert os.listdir() == ["img.png"]


def test_bugs_are_not_hidden(photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    _fail_encoding(monkeypatch, RuntimeError("a bug"))
    assert main(["compress", "img.png"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.endswith(
        "RuntimeError: a bug\nvqzip: img.png: internal error: RuntimeError: a bug\n"
    )


def _fail_encoding(monkeypatch: pytest.MonkeyPatch, failure: BaseException) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(sys.modules["vqzip.encoding"], "encode", fail)


def test_train_passes_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def train(folder: Path, out: Path, **options: object) -> None:
        calls.append((folder, out, options))

    command = type(sys)("vqzip.train.command")
    vars(command)["train"] = train
    monkeypatch.setitem(sys.modules, "vqzip.train.command", command)
    assert main(["train", "photos", "--out", "model"]) == 0
    more = ["--minutes", "0.5", "--seed", "3", "--from", "other"]
    assert main(["train", "photos", "--out", "model", *more]) == 0
    folders = (Path("photos"), Path("model"))
    assert calls == [
        (*folders, {"minutes": 480.0, "preset": "photo", "seed": 0, "start": None}),
        (*folders, {"minutes": 0.5, "preset": "photo", "seed": 3, "start": Path("other")}),
    ]


def test_info_of_several(vqz: Path, capsys: Capture) -> None:
    vqz.with_name("b.vqz").write_bytes(vqz.read_bytes())
    Path("bad.vqz").write_bytes(b"hello")
    assert main(["info", "img.vqz"]) == 0
    about = capsys.readouterr().out
    assert main(["info", "-r", ".", "none"]) == 1
    out, err = capsys.readouterr()
    assert out == f"file     ./b.vqz\n{about}\nfile     ./img.vqz\n{about}\n"
    assert err == (
        "vqzip: none: cannot read: No such file or directory\nvqzip: ./bad.vqz: not a vqz file\n"
    )
    assert main(["info", "img.vqz", "bad.vqz", "b.vqz", "--json"]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["file"] for row in rows] == ["img.vqz", "b.vqz"]


def test_models_that_are_installed() -> None:
    def models(*args: str) -> str:
        command = [sys.executable, "-m", "vqzip", "models", *args]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    rows = [json.loads(line) for line in models("--json").splitlines()]
    [photo] = [row for row in rows if row["default"]]
    folder = Path(photo["card"]).parent
    config = json.loads((folder / "config.json").read_text())
    assert photo == {
        "name": "photo",
        "fingerprint": config["fingerprint"],
        "bytes": (folder / "model.safetensors").stat().st_size,
        "card": str(folder / "README.md"),
        "default": True,
    }
    line = f"photo  {photo['fingerprint']}  {photo['bytes']:,} bytes  {photo['card']}  (default)"
    assert line in models().splitlines()


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["compress", "--help"],
        ["info", "img.vqz"],
        ["models"],
        ["compress", "--dry-run", "img.vqz", "-o", "new.vqz"],
    ],
)
def test_light_commands_import_nothing_heavy(vqz: Path, args: list[str]) -> None:
    program = (
        "import sys; from vqzip.cli import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'numpy', 'PIL', 'constriction', 'safetensors'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *args], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_module_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vqzip", "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"vqzip {vqzip.__version__}\n")
