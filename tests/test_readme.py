"""README's examples and the scripts in examples/, run as a reader would run them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from vqzip.cli import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = ROOT / "examples"

# A fenced block and the line above it, which says what is done with the block.
BLOCKS = re.findall(r"^([^\n]*)\n```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
RUN, PARSE, CI = "<!-- test -->", "<!-- test: parse -->", "<!-- ci: "


def marked(mark: str) -> list[tuple[str, str]]:
    """Language and text of the blocks with a mark."""
    return [(language, text) for line, language, text in BLOCKS if line.startswith(mark)]


def write_command(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, first on the path, with `vqzip` and `python` of this checkout."""
    folder = tmp_path / "bin"
    folder.mkdir()
    write_command(folder / "vqzip", f'exec {shlex.quote(sys.executable)} -m vqzip "$@"')
    write_command(folder / "python", f'exec {shlex.quote(sys.executable)} "$@"')
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a small photo.png and a folder of photos."""
    work = tmp_path / "work"
    work.mkdir()
    with Image.open(EXAMPLES / "photo.png") as photo:
        photo.resize((60, 34)).save(work / "photo.png")
        (work / "photos" / "trip").mkdir(parents=True)
        photo.resize((16, 9)).convert("RGB").save(work / "photos" / "trip" / "1.jpg")
    monkeypatch.chdir(work)
    return work


def shell(*command: str) -> str:
    """Standard output of a command that succeeds."""
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def parse(arguments: list[str]) -> None:
    """Fail if `vqzip` would not take these arguments."""
    name, *rest = arguments
    cli.commands[name].make_context(name, rest)


def test_every_example_is_tested() -> None:
    assert README.count("```") == 2 * len(BLOCKS)
    for line, _, text in BLOCKS:
        assert line in (RUN, PARSE) or line.startswith(CI), text


def test_set_up_commands_are_one_line_each() -> None:
    assert [text.count("\n") for _, text in marked(CI)] == [1, 1]


@pytest.mark.usefixtures("commands", "folder")
@pytest.mark.parametrize(("language", "text"), marked(RUN))
def test_examples_run(language: str, text: str) -> None:
    interpreter = {"sh": ["bash", "-euo", "pipefail"], "python": ["python"]}[language]
    shell(*interpreter, "-c", text)


def test_other_examples_parse() -> None:
    blocks = [text for _, text in marked(PARSE)]
    lines = [shlex.split(line, comments=True) for text in blocks for line in text.splitlines()]
    assert lines
    for words in lines:
        parse(words[words.index("vqzip") + 1 :])


def test_links_lead_somewhere() -> None:
    names = ("README.md", "examples/README.md", "results/README.md", "docs/generation.md")
    for page in (ROOT / name for name in names):
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.usefixtures("commands", "folder")
def test_python_api() -> None:
    printed = shell("python", str(EXAMPLES / "python_api.py"), "photo.png", "30")
    assert re.fullmatch(r"photo\.png: [\d,]+ bytes, \d\.\d{3} bpp, PSNR \d\d\.\d\d dB\n", printed)


@pytest.mark.usefixtures("commands")
def test_compress_folder(folder: Path) -> None:
    photos = folder / "my photos"
    (photos / "below").mkdir(parents=True)
    (folder / "photo.png").rename(photos / "a.png")
    (photos / "below" / "b.JPG").write_bytes(b"broken")
    command = (str(EXAMPLES / "compress_folder.sh"), str(photos), "out")
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "b.JPG: not a picture" in run.stderr
    found = [path for path in Path("out").rglob("*") if path.is_file()]
    assert found == [Path("out/a.png.vqz")]
    (photos / "below" / "b.JPG").unlink()
    written = found[0].stat().st_mtime_ns
    assert shell(*command) == ""
    assert found[0].stat().st_mtime_ns == written


@pytest.mark.skipif(shutil.which("file") is None, reason="file is not installed")
@pytest.mark.parametrize(
    ("name", "about"),
    [
        ("photo-q60", "vqzip picture, version 1"),
        ("gray-q50", "vqzip picture, version 1, grayscale"),
    ],
)
def test_file_knows_vqz(name: str, about: str) -> None:
    path = str(ROOT / "tests" / "golden" / f"{name}.vqz")
    command = ("file", "--brief", "-m", str(EXAMPLES / "vqz.magic"))
    assert shell(*command, path) == f"{about}\n"
    assert shell(*command, "--mime-type", path) == "image/x-vqz\n"
    assert shell(*command, "--extension", path) == "vqz\n"


@pytest.mark.usefixtures("folder")
def test_train_your_own(commands: Path) -> None:
    """With a `vqzip` that only notes what it is asked for."""
    write_command(commands / "vqzip", 'for word; do printf "%s\\0" "$word"; done; echo')
    out = shell(str(EXAMPLES / "train_your_own.sh"), "my photos", "my model", "--minutes", "60")
    asked = [line.rstrip("\0").split("\0") for line in out.splitlines()]
    assert [words[0] for words in asked] == ["train", "compress", "decompress"]
    assert asked[0] == ["train", "my photos", "--out", "my model", "--minutes", "60"]
    for words in asked:
        parse(words)
