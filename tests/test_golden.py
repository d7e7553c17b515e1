"""Files of every released format version decode for ever, to the same codes and pixels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from golden_models import (
    ADAPTIVE,
    EDGED,
    FILTERED,
    GOLDEN,
    GRADED,
    TONED,
    codes_of,
    digest,
    with_ends,
    with_filters,
    with_learning,
)
from numpy.typing import NDArray
from PIL import Image

import vqzip
from vqzip.codec import CodecModel, synthesise
from vqzip.container import unpack as unpack_container
from vqzip.metadata import metadata_of
from vqzip.store import load_model

CODES: dict[str, str] = json.loads((GOLDEN / "codes.json").read_text())


@pytest.fixture(scope="module")
def model() -> CodecModel:
    return load_model(GOLDEN / "model")


@pytest.fixture(scope="module")
def filtering() -> CodecModel:
    return with_filters(FILTERED)


@pytest.fixture(scope="module")
def learning() -> CodecModel:
    return with_learning()


@pytest.fixture(scope="module")
def graded() -> CodecModel:
    return with_ends()


def decoded_as_ever(stem: Path, model: CodecModel) -> tuple[bytes, NDArray[np.int16]]:
    """A golden file and its pixels, which it has to decode to, within one level."""
    data = stem.with_suffix(".vqz").read_bytes()
    with Image.open(stem.with_suffix(".png")) as image:
        expected = np.asarray(image, np.int16)
    decoded = np.asarray(vqzip.decompress(data, model), np.int16)
    assert np.abs(decoded - expected).max() <= 1
    return data, expected


def test_model_is_the_one_the_files_were_made_with(model: CodecModel) -> None:
    assert model.fingerprint.hex() == "85b0bf6260ef45b9"
    assert {path.stem for path in GOLDEN.glob("*.vqz")} == set(CODES)


@pytest.mark.parametrize("name", CODES)
def test_codes_are_the_same(name: str, model: CodecModel) -> None:
    codes = codes_of((GOLDEN / f"{name}.vqz").read_bytes(), model)
    assert digest(codes) == CODES[name]


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


def test_filters_and_filtered_pixels_are_the_same(filtering: CodecModel) -> None:
    assert filtering.fingerprint.hex() == "98aac496401c42e7"
    data, _ = decoded_as_ever(FILTERED / "photo-q60", filtering)
    codes = codes_of(data, filtering)
    assert codes.filter is not None
    assert codes.filter.tolist() == [-7, -1, 4, -7]


@pytest.mark.parametrize(
    ("folder", "fingerprint", "coefficients"),
    [
        (TONED, "382f31c876c04258", [-7, -3, -4, -2]),
        (EDGED, "a95bb329d1cf0803", [0, -2, 2, 4]),
    ],
)
def test_filters_of_more_terms_give_the_same_pixels(
    model: CodecModel, folder: Path, fingerprint: str, coefficients: list[int]
) -> None:
    """And others than without one, from the same codes."""
    more = with_filters(folder)
    assert more.fingerprint.hex() == fingerprint
    data, expected = decoded_as_ever(folder / "photo-q60", more)
    codes = codes_of(data, more)
    assert codes.filter is not None
    assert codes.filter.tolist() == coefficients
    header = unpack_container(data).header
    plain = synthesise(model, codes, header.width, header.height, header.level)
    assert np.abs(plain.astype(np.int16) - expected).max() > 5


@pytest.mark.parametrize("quality", [20, 80])
def test_weights_that_depend_on_the_level_give_the_same_pixels(
    quality: int, graded: CodecModel, model: CodecModel
) -> None:
    """And others than without them, from the same codes."""
    data, expected = decoded_as_ever(GRADED / f"photo-q{quality}", graded)
    header = unpack_container(data).header
    size = header.width, header.height, header.level
    plain = synthesise(model, codes_of(data, model), *size)
    assert np.abs(plain.astype(np.int16) - expected).max() > 20


def test_frequencies_learn_the_same(learning: CodecModel, model: CodecModel) -> None:
    """And others than without it: then the stream has other codes."""
    data, _ = decoded_as_ever(ADAPTIVE / "photo-q70", learning)
    codes = codes_of(data, learning)
    assert digest(codes) == (ADAPTIVE / "codes.txt").read_text().strip()
    with pytest.raises(vqzip.VqzError):
        codes_of(data, model)


@pytest.mark.parametrize("name", ["dot-q50", "gray-q50", "filtered/photo-q60"])
def test_every_truncation_and_flipped_byte_is_refused(
    name: str, model: CodecModel, filtering: CodecModel
) -> None:
    data = (GOLDEN / f"{name}.vqz").read_bytes()
    model = filtering if name.startswith("filtered") else model
    for length in range(len(data)):
        with pytest.raises(vqzip.VqzError):
            vqzip.decompress(data[:length], model)
    for place in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            broken = bytearray(data)
            broken[place] ^= flip
            with pytest.raises(vqzip.VqzError):
                vqzip.decompress(bytes(broken), model)
