"""examples/ray_bulk.py on a local Ray with two workers, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_model
from PIL import Image

import vqzip

pytest.importorskip("ray", reason="needs Ray: pip install 'vqzip[ray]'")
pq = pytest.importorskip("pyarrow.parquet", reason="needs Ray: pip install 'vqzip[ray]'")

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "tests" / "golden" / "model"


def run(*arguments: str) -> tuple[int, str]:
    """Exit code and the last line of what the script prints."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "ray_bulk.py"), *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, done.stdout.splitlines()[-1]


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows by path."""
    return {row.pop("path"): row for row in pq.read_table(folder / "rows.parquet").to_pylist()}


def failed(error: str) -> dict[str, Any]:
    numbers = ("bytes_in", "bytes_out", "width", "height", "level")
    return {"status": "failed", "error": error, **dict.fromkeys(numbers)}


def test_a_folder(tmp_path: Path) -> None:
    source, target = tmp_path / "my photos", tmp_path / "compressed"
    (source / "below").mkdir(parents=True)
    for i in range(5):
        picture = Image.fromarray(tiny_model.picture(40 + i, 24, i))
        picture.save(source / ("below" if i % 2 else ".") / f"{i}.PNG")
    (source / "broken.jpg").write_bytes(b"broken")
    (source / "notes.txt").write_bytes(b"no picture")
    arguments = [str(source), str(target), "--model", str(MODEL), "--workers", "2"]

    assert run(*arguments, "--quality", "30") == (1, "5 done, 0 skipped, 1 failed")
    found = rows(target)
    names = ["0.PNG", "2.PNG", "4.PNG", "below/1.PNG", "below/3.PNG"]
    assert sorted(found) == [*names, "broken.jpg"]
    assert found["broken.jpg"] == failed("not a picture of a known format")
    for name in names:
        compressed = target / f"{name}.vqz"
        assert compressed.read_bytes() == vqzip.compress(source / name, 30, MODEL)
        about = vqzip.info(compressed)
        assert found[name] == {
            "status": "done",
            "error": None,
            "bytes_in": (source / name).stat().st_size,
            "bytes_out": about.bytes,
            "width": about.width,
            "height": about.height,
            "level": about.level,
        }
    files = [path for path in target.rglob("*") if path.is_file()]
    assert len(files) == 6

    # Again, after one file was lost, and with a target that no picture meets.
    (target / "2.PNG.vqz").unlink()
    assert run(*arguments, "--max-bytes", "9") == (1, "0 done, 4 skipped, 2 failed")
    found = rows(target)
    assert found["2.PNG"]["error"].startswith("does not fit into 9 bytes: the smallest file has ")
    assert not (target / "2.PNG.vqz").exists()


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert run(str(tmp_path / "empty"), str(tmp_path / "out")) == (0, "0 done, 0 skipped, 0 failed")
    assert rows(tmp_path / "out") == {}
