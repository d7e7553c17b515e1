import io
import pickle
from pathlib import Path
from typing import Any

import fake_codec
import numpy as np
import profiles
import pytest
from PIL import Image

import vqzip
from vqzip.container import Chunk, Container, unpack
from vqzip.quality import level_of_quality, quality_of_level

pytestmark = pytest.mark.usefixtures("codec")

INK = b"ink.....".hex()
DEFAULT = fake_codec.DEFAULT.hex()


@pytest.fixture
def ink(tmp_path: Path) -> Path:
    """Folder of a model that is not the default one."""
    folder = tmp_path / "ink"
    folder.mkdir()
    (folder / "fingerprint").write_bytes(b"ink.....")
    return folder


def test_round_trip_of_a_path_and_of_an_image(photo: Path, tmp_path: Path) -> None:
    data = vqzip.compress(photo, quality=70)
    with Image.open(photo) as image:
        assert vqzip.compress(image, 70) == data
        expected = np.asarray(image)
    result = vqzip.decompress(data)
    assert result.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(result), expected)
    path = tmp_path / "img.vqz"
    path.write_bytes(data)
    for source in (path, str(path), bytearray(data), memoryview(data)):
        np.testing.assert_array_equal(np.asarray(vqzip.decompress(source)), expected)


def test_grayscale_stays_grayscale() -> None:
    image = Image.effect_noise((9, 5), 50)
    result = vqzip.decompress(vqzip.compress(image))
    assert result.mode == "L"
    np.testing.assert_array_equal(np.asarray(result), np.asarray(image))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_comes_back_exactly(mode: str) -> None:
    image = Image.effect_noise((19, 15), 50).convert(mode)
    alpha = Image.linear_gradient("L").resize(image.size)
    image.putalpha(alpha)
    data = vqzip.compress(image)
    assert vqzip.info(data).alpha
    assert list(vqzip.info(data).chunks) == ["C", "A"]
    result = vqzip.decompress(data)
    assert result.mode == mode
    np.testing.assert_array_equal(np.asarray(result.getchannel("A")), np.asarray(alpha))


def test_opaque_pictures_without_metadata_are_a_code_stream_alone() -> None:
    plain = vqzip.compress(Image.new("RGB", (5, 4), "red"))
    assert vqzip.compress(Image.new("RGBA", (5, 4), "red")) == plain
    assert list(vqzip.info(plain).chunks) == ["C"]
    assert plain[5] == 0  # the flags


def test_hidden_colours_cost_nothing() -> None:
    sizes = []
    for hidden in (Image.new("RGB", (60, 60), "red"), Image.effect_noise((60, 60), 90)):
        image = hidden.convert("RGB")
        image.paste("red", (20, 20, 40, 40))
        image.putalpha(Image.new("L", image.size, 0))
        image.paste((255, 0, 0, 255), (20, 20, 40, 40))
        sizes.append(vqzip.info(vqzip.compress(image)).chunks["C"])
    assert sizes[0] == sizes[1]


METADATA = {"icc_profile": profiles.red_is_green(), "exif": b"Exif\0\0MM\0*", "xmp": b"<x/>"}


def test_metadata_comes_back_exactly_unless_stripped() -> None:
    image = Image.new("RGB", (3, 2), "red")
    image.info.update(METADATA)
    data = vqzip.compress(image)
    assert list(vqzip.info(data).chunks) == ["C", "i", "e", "x"]
    result = vqzip.decompress(data)
    assert (result.info, result.getpixel((0, 0))) == (METADATA, (255, 0, 0))
    stripped = vqzip.decompress(vqzip.compress(image, strip=True))
    assert (stripped.info, stripped.getpixel((0, 0))) == ({}, (0, 255, 0))


def test_an_srgb_profile_takes_two_bytes() -> None:
    image = Image.new("RGB", (3, 2), "red")
    plain = len(vqzip.compress(image))
    image.info["icc_profile"] = profiles.SRGB
    data = vqzip.compress(image)
    assert len(data) == plain + 2
    assert vqzip.decompress(data).info == {"icc_profile": profiles.SRGB}


def test_frame() -> None:
    gif = io.BytesIO()
    Image.new("L", (4, 4), 0).save(
        gif, "GIF", save_all=True, append_images=[Image.new("L", (4, 4), 255)]
    )
    result = vqzip.decompress(vqzip.compress(gif, frame=1))
    assert result.convert("L").getextrema() == (255, 255)


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (Chunk("A", b"123"), "corrupt alpha: its length is not a multiple of four"),
        (Chunk("i", b"1"), "corrupt ICC profile: its size is wrong"),
        (Chunk("e", b""), "corrupt EXIF: its size is wrong"),
        (Chunk("x", b"\5\0\0toolong"), "corrupt XMP: "),
    ],
)
def test_corrupt_chunks(photo: Path, chunk: Chunk, message: str) -> None:
    file = unpack(vqzip.compress(photo))
    broken = Container(file.header, (*file.chunks, chunk)).pack()
    with pytest.raises(vqzip.VqzError, match="^" + message):
        vqzip.decompress(broken)
    assert vqzip.info(broken).chunks[chunk.type] == len(chunk.payload)


def test_info(photo: Path) -> None:
    data = vqzip.compress(photo, quality=50)
    stream = len(unpack(data).code_stream)
    assert vqzip.info(data) == vqzip.Info(
        version=1,
        width=13,
        height=7,
        grayscale=False,
        alpha=False,
        level=63,
        quality=50,
        fingerprint=DEFAULT,
        bytes=len(data),
        bpp=8 * len(data) / (13 * 7),
        chunks={"C": stream},
    )


def test_container_costs_an_ordinary_photo_less_than_40_bytes() -> None:
    data = vqzip.compress(Image.new("RGB", (4000, 3000)))
    assert len(data) - len(unpack(data).code_stream) < 40


def test_quality_scale() -> None:
    levels = [level_of_quality(quality) for quality in range(1, 101)]
    assert (levels[0], levels[-1]) == (0, 128)
    assert sorted(set(levels)) == levels
    assert not {level % 16 for level in levels} & {5, 6, 7}  # ends of codebooks' ranges
    assert level_of_quality(50) == 63
    assert [quality_of_level(level) for level in levels] == list(range(1, 101))
    assert [quality_of_level(level) for level in (5, 6, 7, 8)] == [6, 6, 6, 6]


@pytest.mark.parametrize(
    ("quality", "message"),
    [
        (0, "quality must be from 1 to 100, not 0"),
        (101, "quality must be from 1 to 100, not 101"),
        (50.0, "quality must be a whole number, not 50.0"),
        ("50", "quality must be a whole number, not '50'"),
        (True, "quality must be a whole number, not True"),
    ],
)
def test_bad_quality(quality: int, message: str) -> None:
    with pytest.raises(vqzip.VqzError) as caught:
        vqzip.compress(Image.new("RGB", (1, 1)), quality)
    assert str(caught.value) == message


def test_model_by_folder_and_loaded(photo: Path, ink: Path) -> None:
    data = vqzip.compress(photo, model=ink)
    assert vqzip.info(data).fingerprint == INK
    assert vqzip.compress(photo, model=str(ink)) == data
    loaded: Any = fake_codec.load_model(ink)
    assert vqzip.compress(photo, model=loaded) == data
    for model in (ink, str(ink), loaded):
        assert vqzip.decompress(data, model=model).size == (13, 7)


def test_installed_model_is_found(photo: Path, ink: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = vqzip.compress(photo, model=ink)
    monkeypatch.setitem(fake_codec.installed, b"ink.....", ink)
    assert vqzip.decompress(data).size == (13, 7)


def test_missing_model(photo: Path, ink: Path) -> None:
    data = vqzip.compress(photo, model=ink)
    with pytest.raises(vqzip.VqzError) as caught:
        vqzip.decompress(data)
    assert str(caught.value) == (f"needs model {INK}, which is not installed; pass --model DIR")


def test_wrong_model(photo: Path, ink: Path) -> None:
    data = vqzip.compress(photo)
    with pytest.raises(vqzip.VqzError) as caught:
        vqzip.decompress(data, model=ink)
    assert str(caught.value) == f"needs model {DEFAULT}, but the model given is {INK}"


def test_pixel_limit(photo: Path) -> None:
    data = vqzip.compress(photo)
    assert vqzip.decompress(data, max_pixels=91).size == (13, 7)
    with pytest.raises(vqzip.VqzError, match=r"^picture of 13 x 7 pixels is over the limit of 90$"):
        vqzip.decompress(data, max_pixels=90)


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bad.vqz"
    path.write_bytes(b"not vqz")
    for function in (vqzip.decompress, vqzip.info):
        with pytest.raises(vqzip.VqzError) as caught:
            function(path)
        assert str(caught.value) == f"{path}: not a vqz file"
        with pytest.raises(vqzip.VqzError) as caught:
            function(b"not vqz")
        assert str(caught.value) == "not a vqz file"


def test_error_is_one_line_and_survives_pickling() -> None:
    error = vqzip.VqzError("two\nlines", "na\tme\udcff")
    assert str(error) == "na\\tme\\udcff: two\\nlines"
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.name) == (str(error), error.name)
