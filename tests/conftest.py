"""Fixtures shared by the tests."""

import sys
from pathlib import Path

import fake_codec
import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

settings.register_profile("vqzip", deadline=None)  # how long things take is not what is tested
settings.load_profile("vqzip")


@pytest.fixture(autouse=True)
def _subprocesses_find_vqzip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))


@pytest.fixture
def codec(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the codec by one that stores the pixels."""
    for name, module in fake_codec.modules().items():
        monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A PNG of 13 x 7 random colours, img.png in tmp_path."""
    pixels = np.random.default_rng(0).integers(0, 256, (7, 13, 3), dtype=np.uint8)
    path = tmp_path / "img.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small smooth random pictures to train on."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for index in range(20):
        noise = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
        noise.resize((120, 90), Image.Resampling.BICUBIC).save(folder / f"{index:02}.png")
    return folder
