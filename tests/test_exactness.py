"""Files are encoded with one setting of a machine and decoded with another, to the same codes.

What must be equal are the prior's frequencies, the codes, and the stream that they are packed to;
pixels may differ by one.  With VQZIP_OTHER_PYTHON, the path of a Python that has other versions of
torch and NumPy and whatever else vqzip needs, that is a setting, too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import exactness_process
import numpy as np
import pytest
import reference_stream
import torch
from exactness_process import Facts
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file

import vqzip
from vqzip import container, native
from vqzip.codec import CodecModel, unpack
from vqzip.integer import Doubles, Linear
from vqzip.slices import Slice
from vqzip.store import models_folder

TESTS = Path(__file__).parent
SIMD = ["DEFAULT", "AVX2", "AVX512"]  # torch's names, each with those before


def threads(count: int) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return dict.fromkeys(names, str(count))


def simd(aten: str, onednn: str, openblas: str, count: int) -> dict[str, str]:
    """Instructions that the libraries use."""
    return {
        "ATEN_CPU_CAPABILITY": aten,
        "ONEDNN_MAX_CPU_ISA": onednn,
        "OPENBLAS_CORETYPE": openblas,
        **threads(count),
    }


def without_simd() -> dict[str, str]:
    """Turn off what NumPy has beyond the least it was built for."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    return {"NPY_DISABLE_CPU_FEATURES": ",".join(found)} if found else {}


@dataclass(frozen=True)
class Setting:
    """Environment of a process, and the instructions that torch says it uses there."""

    environment: dict[str, str]
    uses: str | None = None
    python: str = field(default=sys.executable)


OTHER = os.environ.get("VQZIP_OTHER_PYTHON", "")
SETTINGS = {
    "one thread": Setting(threads(1)),
    "two threads": Setting(threads(2)),
    "SSE": Setting(simd("default", "SSE41", "Prescott", 1) | without_simd(), "DEFAULT"),
    "AVX2": Setting(simd("avx2", "AVX2", "Haswell", 2), "AVX2"),
    "AVX-512": Setting(simd("avx512", "AVX512_CORE", "SkylakeX", 2), "AVX512"),
    "NumPy alone": Setting({"VQZIP_NATIVE": "0", **threads(2)}),
    "other versions": Setting(threads(2), python=OTHER),
}


@pytest.fixture(scope="module")
def models() -> list[CodecModel]:
    return exactness_process.load()


@pytest.fixture(scope="module")
def folder(models: list[CodecModel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture, what this process makes of it, and the golden files."""
    made = tmp_path_factory.mktemp("exactness")
    with Image.open(TESTS.parent / "examples" / "photo.png") as photo:
        photo.convert("RGB").crop((190, 80, 190 + 120, 80 + 90)).save(made / "photo.png")
    exactness_process.encode(models, made, "here")
    for file in (TESTS / "golden").glob("*.vqz"):
        shutil.copy(file, made)
    return made


def decode_all(
    models: list[CodecModel], folder: Path, pattern: str = "*.vqz"
) -> dict[str, tuple[Facts, NDArray[np.uint8]]]:
    return {f.name: exactness_process.decode(models, f) for f in sorted(folder.glob(pattern))}


@pytest.fixture(scope="module")
def here(models: list[CodecModel], folder: Path) -> dict[str, tuple[Facts, NDArray[np.uint8]]]:
    """What this process decodes."""
    return decode_all(models, folder)


def off_by(pixels: NDArray[np.uint8], others: NDArray[np.uint8]) -> int:
    return int(np.abs(pixels.astype(np.int16) - others).max())


def run(setting: Setting, folder: Path, name: str) -> dict[str, Any]:
    done = subprocess.run(
        [setting.python, TESTS / "exactness_process.py", folder, name],
        env={**os.environ, **setting.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", SETTINGS)
def test_files_are_the_same_in_every_setting(
    models: list[CodecModel],
    folder: Path,
    here: dict[str, tuple[Facts, NDArray[np.uint8]]],
    tmp_path: Path,
    name: str,
) -> None:
    setting = SETTINGS[name]
    if not setting.python:
        pytest.skip("VQZIP_OTHER_PYTHON is not set")
    known = torch.backends.cpu.get_cpu_capability()
    if (
        setting.uses is not None
        and known in SIMD
        and setting.uses not in SIMD[: SIMD.index(known) + 1]
    ):
        pytest.skip(f"this processor has no {setting.uses}")
    for file in here:
        shutil.copy(folder / file, tmp_path)
    shutil.copy(folder / "photo.png", tmp_path)

    there = run(setting, tmp_path, "there")

    if setting.uses is not None and known in SIMD:
        assert there["simd"] == setting.uses
    if setting.python == OTHER:
        assert there["torch"] != torch.__version__
    here = here | decode_all(models, tmp_path, "there-*.vqz")
    assert len([file for file in here if file.startswith("there-")]) == 3
    assert there["facts"].keys() == here.keys()
    for file, (facts, pixels) in here.items():
        assert Facts(**there["facts"][file]) == facts, file
        stem = file.removesuffix(".vqz")
        assert off_by(pixels, np.load(tmp_path / f"there-{stem}.npy")) <= 1, file


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # which `flags` sets, too
def test_files_are_the_same_without_onednn(
    models: list[CodecModel], folder: Path, here: dict[str, tuple[Facts, NDArray[np.uint8]]]
) -> None:
    with torch.backends.mkldnn.flags(enabled=False):
        found = decode_all(models, folder)
    for file, (facts, pixels) in here.items():
        assert found[file][0] == facts, file
        assert off_by(found[file][1], pixels) <= 1, file


def in_double(self: Linear, x: NDArray[Any], scale: Doubles) -> Doubles:
    product: Doubles = x.astype(np.float64) @ self.matrix.astype(np.float64) * scale
    return product


def one_row_at_a_time(self: Linear, x: NDArray[Any], scale: Doubles) -> Doubles:
    """Other sums within BLAS than those of many rows."""
    rows = [row @ self.matrix for row in x.astype(np.float32)]
    return np.array(rows).reshape(len(x), -1).astype(np.float64) * scale


def slice_one_row_at_a_time(_: Slice, x: NDArray[Any], matrix: Doubles) -> Doubles:
    return np.array([row.astype(np.float64) @ matrix for row in x]).reshape(len(x), -1)


@pytest.mark.parametrize("products", [in_double, one_row_at_a_time])
def test_frequencies_are_the_same_however_products_are_computed(
    models: list[CodecModel],
    folder: Path,
    here: dict[str, tuple[Facts, NDArray[np.uint8]]],
    monkeypatch: pytest.MonkeyPatch,
    products: Callable[[Linear, NDArray[Any], Doubles], Doubles],
) -> None:
    monkeypatch.setattr(native, "library", lambda: None)
    monkeypatch.setattr(Linear, "_products", products)
    monkeypatch.setattr(Slice, "_products", slice_one_row_at_a_time)
    found = decode_all(models, folder)
    for file, (facts, _) in here.items():
        assert found[file][0] == facts, file


@pytest.mark.parametrize("quality", [15, 100])
def test_the_reference_decodes_files_of_the_shipped_model(
    models: list[CodecModel], quality: int
) -> None:
    with Image.open(TESTS.parent / "examples" / "photo.png") as photo:
        crop = photo.convert("RGB").crop((200, 100, 200 + 40, 100 + 24))
    model = models[0]
    parsed = container.unpack(vqzip.compress(crop, quality, model))
    stream, level = parsed.code_stream, parsed.header.level
    shipped = models_folder() / "photo"
    tensors = load_file(shipped / "model.safetensors")
    config = json.loads((shipped / "config.json").read_text())
    top, bottom, _ = reference_stream.decode(tensors, config, stream, 40, 24, level)
    codes = unpack(model, stream, 40, 24, level)
    for found, expected in zip(top + bottom, codes.top + codes.bottom, strict=True):
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)
