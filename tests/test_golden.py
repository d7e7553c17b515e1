"""Files of every released format version decode for ever, to the same codes and pixels."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vqzip
from vqzip.codec import CodecModel, unpack
from vqzip.container import unpack as unpack_container
from vqzip.metadata import metadata_of
from vqzip.store import load_model

GOLDEN = Path(__file__).parent / "golden"
CODES: dict[str, str] = json.loads((GOLDEN / "codes.json").read_text())


@pytest.fixture(scope="module")
def model() -> CodecModel:
    return load_model(GOLDEN / "model")


def test_model_is_the_one_the_files_were_made_with(model: CodecModel) -> None:
    assert model.fingerprint.hex() == "85b0bf6260ef45b9"
    assert {path.stem for path in GOLDEN.glob("*.vqz")} == set(CODES)


@pytest.mark.parametrize("name", CODES)
def test_codes_are_the_same(name: str, model: CodecModel) -> None:
    parsed = unpack_container((GOLDEN / f"{name}.vqz").read_bytes())
    header = parsed.header
    codes = unpack(model, parsed.code_stream, header.width, header.height, header.level)
    sha = hashlib.sha256()
    for part in (*codes.top, *codes.bottom):
        sha.update(part.astype("<u2").tobytes())
    assert sha.hexdigest() == CODES[name]


@pytest.mark.parametrize("name", CODES)
def test_pixels_are_within_one_level(name: str, model: CodecModel) -> None:
    decoded = vqzip.decompress(GOLDEN / f"{name}.vqz", model)
    with Image.open(GOLDEN / f"{name}.png") as image:
        assert decoded.mode == image.mode
        assert metadata_of(decoded) == metadata_of(image)
        expected = np.asarray(image, np.int16)
        if "A" in image.mode:
            assert decoded.getchannel("A").tobytes() == image.getchannel("A").tobytes()
    assert np.abs(np.asarray(decoded, np.int16) - expected).max() <= 1


def test_alpha_and_metadata_are_in_a_golden_file() -> None:
    parsed = unpack_container((GOLDEN / "cutout-q50.vqz").read_bytes())
    assert [chunk.type for chunk in parsed.chunks] == ["C", "A", "i", "e", "x"]


@pytest.mark.parametrize("name", ["dot-q50", "gray-q50"])
def test_every_truncation_and_flipped_byte_is_refused(name: str, model: CodecModel) -> None:
    data = (GOLDEN / f"{name}.vqz").read_bytes()
    for length in range(len(data)):
        with pytest.raises(vqzip.VqzError):
            vqzip.decompress(data[:length], model)
    for place in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            broken = bytearray(data)
            broken[place] ^= flip
            with pytest.raises(vqzip.VqzError):
                vqzip.decompress(bytes(broken), model)
