"""The wheel is whole: it works where there is no checkout."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from this checkout."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its files in a folder."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_wheel_holds_the_package_and_the_model(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    model = ("models/photo/model.safetensors", "models/photo/config.json")
    ours = ("cli.py", "VqzImagePlugin.py", "srgb.icc", "py.typed", "bench/page.html.jinja")
    for name in (*ours, *model):
        assert f"vqzip/{name}" in names
    assert len(names) == len(set(names))
    for name in names:
        assert re.match(r"vqzip/|vqzip-[\d.]+\.dist-info/", name), name
        assert not re.search(r"test|\.pt$|\.pyc$|/\.", name), name


def test_wheel_works_without_the_checkout(unpacked: Path, tmp_path: Path) -> None:
    with Image.open(ROOT / "examples" / "photo.png") as photo:
        photo.resize((60, 34)).save(tmp_path / "photo.png")

    def python(*arguments: str) -> str:
        # Before the checkout, should that be installed.
        environment = os.environ | {"PYTHONPATH": str(unpacked)}
        command = [sys.executable, *arguments]
        run = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
        return run.stdout

    where = "from vqzip import store; print(store.__file__, *store.installed(), sep='\\n')"
    module, *models = python("-c", where).splitlines()
    assert Path(module) == unpacked / "vqzip" / "store.py"
    assert models
    assert all(str(unpacked) in model for model in models)

    python("-m", "vqzip", "compress", "photo.png")
    about = json.loads(python("-m", "vqzip", "info", "photo.vqz", "--json"))
    config = json.loads((unpacked / "vqzip/models/photo/config.json").read_text())
    assert about["fingerprint"] == config["fingerprint"]
    assert (about["width"], about["height"]) == (60, 34)
    python("-m", "vqzip", "decompress", "photo.vqz", "-o", "decoded.png")
    with Image.open(tmp_path / "decoded.png") as decoded:
        assert decoded.size == (60, 34)
