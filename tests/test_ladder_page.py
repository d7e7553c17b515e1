"""docs/ladder.md says what is in results/, and its models are what it says they are."""

from __future__ import annotations

import hashlib
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from vqzip import store
from vqzip.bench.rows import RowFile

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "ladder.md"
MODELS = sorted((ROOT / "docs" / "ladder" / "models").iterdir())


def test_page_tells_what_is_in_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = tmp_path / "results"
    shutil.copytree(ROOT / "results", results)
    (tmp_path / "docs" / "ladder").mkdir(parents=True)
    copy = tmp_path / "docs" / PAGE.name
    text = PAGE.read_text(encoding="utf-8")
    emptied, rows = re.subn(r"^\| `.*\d.*\n", "", text, flags=re.MULTILINE)
    assert rows > 20
    copy.write_text(emptied, encoding="utf-8")
    monkeypatch.syspath_prepend(results)
    monkeypatch.setattr(sys, "argv", ["ladder.py"])
    runpy.run_path(str(results / "ladder.py"), run_name="__main__")
    assert copy.read_text(encoding="utf-8") == text
    drawn = (tmp_path / "docs" / "ladder" / "rate.svg").read_text(encoding="utf-8")
    assert drawn.startswith("<svg")


def test_links_lead_somewhere() -> None:
    for page in (PAGE, *(folder / "README.md" for folder in MODELS)):
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (page.parent / target).exists(), target


def test_pictures_are_small() -> None:
    pictures = [path for path in (ROOT / "docs" / "ladder").iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in pictures) < 1_500_000


@pytest.mark.parametrize("folder", MODELS, ids=lambda folder: folder.name)
def test_rows_and_card_are_of_the_model(folder: Path) -> None:
    name = store.load_model(folder).fingerprint.hex()
    table = RowFile(ROOT / "results" / "ladder.tsv")
    versions = {
        row.version.split(", model ")[1] for row in table.rows.values() if row.codec == folder.name
    }
    assert versions == {name}
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"`{name}`" in card
    weights = (folder / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() in card
