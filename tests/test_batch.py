"""The commands on many files, with the fake codec."""

import json
import os
import pty
import re
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import fake_codec
import numpy as np
import pytest
from PIL import Image

import vqzip
from vqzip import files
from vqzip.cli import main

pytestmark = pytest.mark.usefixtures("codec")

Capture = pytest.CaptureFixture[str]

# Not imported, as it changes what it is imported into.
PAUSING = str(Path(__file__).with_name("pausing_codec.py"))


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def photos(photo: Path) -> Path:
    """A folder with two pictures, one that is broken, and something else."""
    folder = photo.parent / "photos"
    (folder / "below").mkdir(parents=True)
    (folder / "a.png").write_bytes(photo.read_bytes())
    (folder / "below" / "b.png").write_bytes(photo.read_bytes())
    (folder / "bad.jpg").write_bytes(b"hello")
    (folder / "notes.txt").write_bytes(b"")
    photo.unlink()
    return folder


def rows(capsys: Capture) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def tree(folder: str = ".") -> list[str]:
    return sorted(str(path) for path in Path(folder).rglob("*") if not path.is_dir())


def test_folder_there_and_back(photos: Path, capsys: Capture) -> None:
    with Image.open(photos / "a.png") as image:
        expected = np.asarray(image)
    assert main(["compress", "-r", "photos", "-d", "out"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    bad, summary = err.splitlines()
    assert bad == "vqzip: photos/bad.jpg: not a picture of a known format"
    counts = r"vqzip: 2 ok, 1 failed, 1 of other kinds passed over; 696 bytes to \d+ bytes, "
    assert re.fullmatch(counts + r"[\d.]+ MP/s", summary)
    assert tree("out") == ["out/a.vqz", "out/below/b.vqz"]

    assert main(["test", "-r", "out", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["test", "-r", "out"]) == 0
    out, err = capsys.readouterr()
    assert out == "out/a.vqz: ok\nout/below/b.vqz: ok\n"
    assert re.fullmatch(r"vqzip: 2 ok, [\d.]+ MP/s\n", err)

    assert main(["decompress", "-r", "out", "-d", "again/deep", "--to", "tiff", "--quiet"]) == 0
    assert tree("again") == ["again/deep/a.tiff", "again/deep/below/b.tiff"]
    with Image.open("again/deep/below/b.tiff") as image:
        assert image.format == "TIFF"
        np.testing.assert_array_equal(np.asarray(image), expected)


def test_rows(photos: Path, capsys: Capture) -> None:
    Path("photos/a.vqz").write_bytes(b"old")
    args = ["compress", "-r", "photos", "none.png", "--json", "--skip-existing"]
    assert main(args) == 1
    found = {row["input"]: row for row in rows(capsys)}
    assert sorted(found) == ["none.png", "photos/a.png", "photos/bad.jpg", "photos/below/b.png"]
    nothing = dict.fromkeys(
        ["error", "bytes_in", "bytes_out", "width", "height", "bpp", "seconds", "model"]
    )
    assert found["none.png"] == nothing | {
        "input": "none.png",
        "output": None,
        "status": "failed",
        "error": "none.png: cannot read: No such file or directory",
        "notices": [],
    }
    assert found["photos/a.png"] == nothing | {
        "input": "photos/a.png",
        "output": "photos/a.vqz",
        "status": "skipped",
        "notices": [],
    }
    bad = found["photos/bad.jpg"]
    assert (bad["status"], bad["output"], bad["bytes_in"]) == ("failed", "photos/bad.vqz", 5)
    assert bad["error"] == "photos/bad.jpg: not a picture of a known format"
    done = found["photos/below/b.png"]
    assert 0 < done.pop("seconds") < 60
    size = Path("photos/below/b.vqz").stat().st_size
    assert done == {
        "input": "photos/below/b.png",
        "output": "photos/below/b.vqz",
        "status": "ok",
        "error": None,
        "bytes_in": 348,
        "bytes_out": size,
        "width": 13,
        "height": 7,
        "bpp": 8 * size / 91,
        "model": fake_codec.DEFAULT.hex(),
        "notices": [],
    }
    assert Path("photos/a.vqz").read_bytes() == b"old"

    assert main(["decompress", "photos/below/b.vqz", "-d", "out", "--json"]) == 0
    [row] = rows(capsys)
    assert (row["bytes_in"], row["output"], row["bpp"]) == (size, "out/b.png", 8 * size / 91)
    assert row["bytes_out"] == Path("out/b.png").stat().st_size
    assert main(["test", "photos/below/b.vqz", "photos/a.vqz", "--json"]) == 1
    assert [(row["status"], row["output"], row["error"]) for row in rows(capsys)] == [
        ("ok", None, None),
        ("failed", None, "photos/a.vqz: not a vqz file"),
    ]


def test_refusal_comes_before_anything_is_done(photos: Path, capsys: Capture) -> None:
    for i in range(12):
        Path(f"{i:02}.png").write_bytes(b"")
        Path(f"{i:02}.vqz").write_bytes(b"old")
    names = [f"{i:02}.png" for i in range(12)]
    before = tree()
    assert main(["compress", "photos/a.png", *names]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    exists = "already exists, use -f to overwrite it"
    listed = [f"vqzip: {i:02}.vqz: {exists}" for i in range(10)]
    assert err.splitlines() == [*listed, "vqzip: and 2 more", "vqzip: nothing was done"]
    assert main(["compress", "photos/a.png", "00.png", "--json"]) == 1
    assert [(row["input"], row["status"], row["error"]) for row in rows(capsys)] == [
        ("00.png", "failed", f"00.vqz: {exists}"),
        ("photos/a.png", "planned", None),
    ]
    assert tree() == before


def test_dry_run(photos: Path, capsys: Capture) -> None:
    before = tree()
    assert main(["compress", "-r", "photos", "-d", "out", "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "photos/a.png -> out/a.vqz",
        "photos/bad.jpg -> out/bad.vqz",
        "photos/below/b.png -> out/below/b.vqz",
    ]
    assert err == "vqzip: 3 planned, 1 of other kinds passed over\n"
    assert main(["compress", "photos/a.png", "--dry-run", "--json", "--rm"]) == 0
    [row] = rows(capsys)
    assert (row["status"], row["output"]) == ("planned", "photos/a.vqz")
    assert tree() == before


def test_every_file_is_named_with_verbose(photos: Path, capsys: Capture) -> None:
    Path("photos/a.vqz").write_bytes(b"")
    assert main(["compress", "-r", "photos", "--skip-existing", "-v"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert "vqzip: photos/notes.txt: of another kind, passed over" in lines
    assert "vqzip: photos/a.png: skipped, as photos/a.vqz exists" in lines
    assert sum(line.startswith("vqzip: photos/below/b.png: 348 to ") for line in lines) == 1
    assert main(["test", "photos/below/b.vqz", "-v"]) == 0
    size = Path("photos/below/b.vqz").stat().st_size
    assert capsys.readouterr().err.startswith(f"vqzip: photos/below/b.vqz: {size} bytes, ")


def test_quiet_prints_errors_only(photos: Path, capsys: Capture) -> None:
    Image.new("CMYK", (2, 2)).save("photos/c.tiff")  # which there is a notice about
    assert main(["compress", "-r", "photos", "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "vqzip: photos/bad.jpg: not a picture of a known format\n"


def test_permissions_and_time_are_kept(photo: Path) -> None:
    photo.chmod(0o640)
    os.utime(photo, ns=(10**18, 10**18 + 123456789))
    assert main(["compress", "img.png"]) == 0
    assert main(["decompress", "img.vqz", "-o", "again.png"]) == 0
    for name in ("img.vqz", "again.png"):
        status = Path(name).stat()
        assert stat.S_IMODE(status.st_mode) == 0o640
        assert status.st_mtime_ns == 10**18 + 123456789


def test_sources_are_removed_when_outputs_are_verified(photos: Path) -> None:
    assert main(["compress", "-r", "photos", "--rm", "--quiet"]) == 1
    made = ["photos/a.vqz", "photos/bad.jpg", "photos/below/b.vqz", "photos/notes.txt"]
    assert tree() == made
    assert main(["decompress", "photos/a.vqz", "photos/below/b.vqz", "--rm", "--quiet"]) == 0
    assert tree() == [name.replace("vqz", "png") for name in made]


@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_source_is_kept_if_the_output_reads_back_wrong(
    photo: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    Path("in.vqz").write_bytes(vqzip.compress(photo))
    source, target = {"compress": ("img.png", "x.vqz"), "decompress": ("in.vqz", "x.png")}[command]
    read = files.read

    def damaged(path: str, **options: int) -> bytes:
        data = read(path, **options)
        return data if path != target else data[:-1]

    monkeypatch.setattr(files, "read", damaged)
    assert main([command, source, "-o", target, "--rm"]) == 1
    message = "reads back other than it was written, its source is kept"
    assert capsys.readouterr().err == f"vqzip: {target}: {message}\n"
    assert Path(source).exists()


@pytest.mark.parametrize(
    ("command", "module", "name"),
    [("compress", "vqzip.codec", "decode"), ("decompress", "vqzip.image", "load")],
)
def test_source_is_kept_if_the_output_cannot_be_decoded(
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    command: str,
    module: str,
    name: str,
) -> None:
    source = Path("in.vqz") if command == "decompress" else photo
    Path("in.vqz").write_bytes(vqzip.compress(photo))

    def fail(*_: object) -> None:
        raise vqzip.VqzError("cannot be decoded")

    monkeypatch.setattr(sys.modules[module], name, fail)
    output = f"out.{'vqz' if command == 'compress' else 'png'}"
    assert main([command, source.name, "-o", output, "--rm"]) == 1
    assert capsys.readouterr().err == f"vqzip: {output}: cannot be decoded\n"
    assert source.exists()


def test_only_regular_files_stand_in_for_a_source(photo: Path, capsys: Capture) -> None:
    assert main(["compress", "img.png", "-o", "/dev/null", "--rm"]) == 1
    message = "vqzip: /dev/null: reads back other than it was written, its source is kept\n"
    assert capsys.readouterr().err == message
    assert photo.exists()


def test_source_that_is_changed_meanwhile_is_kept(
    photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    encoding = sys.modules["vqzip.encoding"]
    encode = encoding.encode

    def touch(*args: Any, **options: Any) -> object:
        os.utime(photo, (1, 1))
        return encode(*args, **options)

    monkeypatch.setattr(encoding, "encode", touch)
    assert main(["compress", "img.png", "--rm"]) == 1
    assert capsys.readouterr().err == "vqzip: img.png: changed meanwhile, it is not removed\n"
    assert tree() == ["img.png", "img.vqz"]


def test_link_as_source_is_removed_and_its_file_kept(photo: Path) -> None:
    Path("link.png").symlink_to("img.png")
    assert main(["compress", "link.png", "--rm"]) == 0
    assert tree() == ["img.png", "link.vqz"]


def test_link_as_output_stays_a_link(photo: Path) -> None:
    Path("elsewhere").mkdir()
    Path("img.vqz").symlink_to("elsewhere/real.vqz")
    assert main(["compress", "img.png"]) == 1
    assert main(["compress", "img.png", "-f"]) == 0
    assert Path("img.vqz").is_symlink()
    assert vqzip.info("elsewhere/real.vqz").width == 13


STRANGE = ["a b.png", "new\nline.png", os.fsdecode(b"not utf-8 \xff.png"), "é漢.png", "-x.png"]


def test_strange_names(photo: Path, capsys: Capture) -> None:
    data = photo.read_bytes()
    photo.unlink()
    for name in STRANGE:
        Path(name).write_bytes(data)
    Path("list").write_bytes(b"\0".join(map(os.fsencode, STRANGE)))
    assert main(["compress", "--files-from", "list", "-0", "--json"]) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    found = [json.loads(line) for line in out.splitlines()]
    assert [row["input"] for row in found] == STRANGE
    assert [row["output"] for row in found] == [name[:-3] + "vqz" for name in STRANGE]
    assert all(Path(row["output"]).is_file() for row in found)
    for name in STRANGE:
        Path(name).write_bytes(b"broken")
    assert main(["compress", "-f", "--", *STRANGE]) == 1
    printed = ["a b.png", "new\\nline.png", "not utf-8 \\udcff.png", "é漢.png", "-x.png"]
    assert capsys.readouterr().err.splitlines()[:-1] == [
        f"vqzip: {name}: not a picture of a known format" for name in printed
    ]


def run(
    script: str,
    *args: str,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
    **environment: str,
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, script, *args],
        stdout=stdout,
        stderr=stderr,
        env=os.environ | environment,
        start_new_session=True,
    )


def test_names_beyond_the_locale(photo: Path) -> None:
    photo.rename("漢.png")
    command = ["compress", "漢.png", "--dry-run"]
    dry = run(fake_codec.__file__, *command, PYTHONIOENCODING="latin-1")
    assert dry.communicate() == (b"\\u6f22.png -> \\u6f22.vqz\n", b"")


def test_bytes_do_not_depend_on_processes(photos: Path) -> None:
    for i in range(3):
        Image.new("RGB", (5, 5), (i, 0, 0)).save(f"photos/{i}.png")
    for processes in ("1", "2"):
        command = ["compress", "-r", "photos", "-d", processes, "-j", processes, "--json"]
        done = run(fake_codec.__file__, *command)
        out, err = done.communicate()
        assert done.returncode == 1
        assert err.startswith(b"vqzip: photos/bad.jpg: not a picture of a known format\n")
        count = Counter(json.loads(line)["status"] for line in out.splitlines())
        assert count == {"ok": 5, "failed": 1}
    names = ["0.vqz", "1.vqz", "2.vqz", "a.vqz", "below/b.vqz"]
    assert tree("1") == [f"1/{name}" for name in names]
    assert tree("2") == [f"2/{name}" for name in names]
    for name in names:
        assert Path("1", name).read_bytes() == Path("2", name).read_bytes()


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_interruption_leaves_no_partial_file(
    photos: Path, processes: int, number: signal.Signals, code: int
) -> None:
    """While outputs are half written, two at once, over an existing file."""
    Path("paused").mkdir()
    Path("photos/a.vqz").write_bytes(b"old")
    program = run(
        *(PAUSING, "compress", "-f", "photos/a.png", "photos/below/b.png"),
        *("-j", str(processes)),
        PAUSED="paused",
    )
    while len(os.listdir("paused")) < processes:
        assert program.poll() is None
        time.sleep(0.05)
    # At a terminal, an interruption is for all processes; other signals go to the one in charge.
    if number == signal.SIGTERM:
        program.send_signal(number)
    else:
        os.killpg(program.pid, number)
    out, err = program.communicate()
    assert (program.returncode, out) == (code, b"")
    assert b"Traceback" not in err
    assert Path("photos/a.vqz").read_bytes() == b"old"
    assert not Path("photos/below/b.vqz").exists()
    if number != signal.SIGKILL:
        known = ["a.png", "a.vqz", "bad.jpg", "below", "notes.txt"]
        assert sorted(os.listdir("photos")) == known
        assert os.listdir("photos/below") == ["b.png"]


def test_terminal_gets_a_progress_bar(photos: Path) -> None:
    ours, theirs = pty.openpty()
    done = run(fake_codec.__file__, "compress", "-r", "photos", "--json", stderr=theirs)
    os.close(theirs)
    out, _ = done.communicate()  # a terminal holds the few lines until they are read
    shown = b""
    with open(ours, "rb", buffering=0) as terminal:
        while True:
            try:
                block = terminal.read(1000)
            except OSError:  # how Linux says that the other end is closed
                break
            if not block:
                break
            shown += block
    assert done.returncode == 1
    assert [json.loads(line)["status"] for line in out.splitlines()] == ["ok", "failed", "ok"]
    text = shown.decode()
    assert "  0%" in text
    assert "\r\033[Kvqzip: photos/bad.jpg: not a picture of a known format\r\n" in text
    assert re.search(r"100%  3/3 files  [\d.]+ MP/s", text)
    assert text.index("3/3 files") < text.index("\033[?25h") < text.index("vqzip: 2 ok, 1 failed")


def test_reader_that_has_seen_enough(photos: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = run(fake_codec.__file__, "compress", "-r", "photos", "--json", stdout=writing)
    os.close(writing)
    assert done.communicate()[1] == b""
    assert done.returncode == 1


def test_ten_thousand_files_of_which_every_tenth_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # would take most of the time
    Image.new("RGB", (2, 1)).save("picture.png")
    data = Path("picture.png").read_bytes()
    for i in range(10_000):
        path = Path("photos", f"{i // 100}", f"{i}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"hello" if i % 10 == 0 else data)
    assert main(["compress", "-r", "photos", "-d", "out", "--json"]) == 1
    out, err = capsys.readouterr()
    found = {row["input"]: row["status"] for row in map(json.loads, out.splitlines())}
    assert len(found) == 10_000
    for i in range(10_000):
        expected = "failed" if i % 10 == 0 else "ok"
        assert found[f"photos/{i // 100}/{i}.png"] == expected
        assert Path("out", f"{i // 100}", f"{i}.vqz").exists() == (expected == "ok")
    lines = err.splitlines()
    assert len(lines) == 1001
    assert lines[-1].startswith("vqzip: 9,000 ok, 1,000 failed; ")
