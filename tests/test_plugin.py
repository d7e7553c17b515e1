"""The Pillow plugin, through Pillow and imageio alone."""

import importlib
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import profiles
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

import vqzip
from vqzip.container import Chunk, Container, unpack

pytestmark = pytest.mark.usefixtures("codec", "plugin")

XMP = b"<x:xmpmeta/>"
SIZES = {"RGB": 3, "RGBA": 4, "L": 1, "LA": 2}


@pytest.fixture(scope="module")
def plugin() -> Iterator[ModuleType]:
    """The plugin, registered for these tests alone: others are about a Pillow without it."""
    Image.init()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ID", "OPEN", "SAVE", "EXTENSION", "MIME"):
            patch.setattr(Image, name, type(getattr(Image, name))(getattr(Image, name)))
        patch.delitem(sys.modules, "vqzip.VqzImagePlugin", raising=False)
        yield importlib.import_module("vqzip.VqzImagePlugin")


def noise(mode: str = "RGB") -> Image.Image:
    """13 x 7 pixels, none transparent: what is under those is not kept."""
    channels = SIZES[mode]
    pixels = np.random.default_rng(0).integers(1, 256, (7, 13, channels), dtype=np.uint8)
    return Image.frombytes(mode, (13, 7), pixels.tobytes())


def saved(image: Image.Image, **options: object) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, "VQZ", **options)
    buffer.seek(0)
    return buffer


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "cam"
    exif[ExifTags.Base.Orientation] = 6
    return exif


def array(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image)


@pytest.mark.parametrize("mode", SIZES)
def test_open_and_save(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "a.vqz"
    noise(mode).save(path)
    with Image.open(path) as image:
        assert (image.format, image.size, image.mode) == ("VQZ", (13, 7), mode)
        assert image.get_format_mimetype() == "image/x-vqz"
        np.testing.assert_array_equal(array(image), array(noise(mode)))
        np.testing.assert_array_equal(array(image.copy()), array(noise(mode)))
    assert path.read_bytes() == vqzip.compress(noise(mode))


def test_registration() -> None:
    assert Image.registered_extensions()[".vqz"] == "VQZ"
    assert Image.MIME["VQZ"] == "image/x-vqz"


def test_opening_decodes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    file = saved(noise("LA"), icc_profile=profiles.inverse_gray(), exif=turned(), xmp=XMP)

    def fail(*_: object) -> None:
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr("vqzip.api.decompress", fail)
        image = Image.open(file)
        assert (image.mode, image.size) == ("LA", (7, 13))  # upright
        assert image.info["icc_profile"] == profiles.inverse_gray()
        assert image.info["xmp"] == XMP
        assert dict(image.getexif()) == {
            ExifTags.Base.Make: "cam",
            ExifTags.Base.Orientation: 1,
        }
    np.testing.assert_array_equal(
        array(image), array(noise("LA").transpose(Image.Transpose.ROTATE_270))
    )


def test_opening_needs_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "a.vqz"
    noise().save(path)
    program = (
        "import sys; from PIL import Image; import vqzip.VqzImagePlugin;"
        "image = Image.open(sys.argv[1]); assert image.size == (13, 7);"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)


def test_quality() -> None:
    assert vqzip.info(saved(noise()).getvalue()).quality == 50
    assert vqzip.info(saved(noise(), quality=91).getvalue()).quality == 91
    with pytest.raises(OSError, match=r"^quality must be from 1 to 100, not 0$"):
        saved(noise(), quality=0)


def test_metadata_of_the_image_is_kept_unless_replaced() -> None:
    image = noise()
    image.info["icc_profile"] = profiles.red_is_green()
    image.info["exif"] = turned().tobytes()
    image.info["xmp"] = XMP
    again = Image.open(saved(image))
    assert again.size == (7, 13)
    assert again.info["icc_profile"] == profiles.red_is_green()
    assert again.getexif()[ExifTags.Base.Make] == "cam"
    assert again.info["xmp"] == XMP
    again = Image.open(saved(image, exif=b"", icc_profile=None, xmp=b"<other/>"))
    assert again.size == (13, 7)
    assert again.info == {"xmp": b"<other/>"}
    assert Image.open(saved(image, strip=True)).info == {}
    assert image.info["xmp"] == XMP


def test_tiff_keeps_its_exif_when_something_else_is_replaced() -> None:
    tiff = io.BytesIO()
    noise().save(tiff, "TIFF", exif=turned())
    image = Image.open(saved(Image.open(tiff), xmp=XMP))
    assert (image.size, image.info["xmp"]) == ((7, 13), XMP)
    assert dict(image.getexif()) == {ExifTags.Base.Make: "cam"}


def test_of_an_animation_the_frame_that_is_shown_is_saved() -> None:
    gif = io.BytesIO()
    colours = ("red", "lime", "blue")
    frames = [Image.new("RGB", (4, 4), colour) for colour in colours]
    frames[0].save(gif, "GIF", save_all=True, append_images=frames[1:])
    with Image.open(gif) as image:
        image.seek(1)
        again = Image.open(saved(image))
    assert again.convert("RGB").getpixel((0, 0)) == (0, 255, 0)


def test_other_files_are_not_ours(plugin: ModuleType) -> None:
    for content in (b"", b"\x89VQ", b"hello, world"):
        with pytest.raises(SyntaxError, match=r"^not a vqz file$"):
            plugin.VqzImageFile(io.BytesIO(content))
        with pytest.raises(UnidentifiedImageError):
            Image.open(io.BytesIO(content))


def test_every_truncation_is_an_oserror() -> None:
    data = saved(noise(), xmp=XMP).getvalue()
    for length in range(len(data)):
        with pytest.raises(OSError, match=r"truncated file|wrong checksum|cannot identify"):
            Image.open(io.BytesIO(data[:length]))


def test_what_is_broken_inside_is_an_oserror() -> None:
    file = unpack(saved(noise("LA")).getvalue())
    streams = {chunk.type: chunk for chunk in file.chunks}
    broken = Container(file.header, (streams["C"], Chunk("A", b"123")))
    image = Image.open(io.BytesIO(broken.pack()))
    for _ in range(2):
        with pytest.raises(OSError, match=r"^corrupt alpha: its length is not a multiple of"):
            image.load()
    broken = Container(file.header, (streams["C"], Chunk("x", b"")))
    with pytest.raises(OSError, match=r"^corrupt XMP: its size is wrong$"):
        Image.open(io.BytesIO(broken.pack()))


def test_limit_of_pixels() -> None:
    file = unpack(saved(noise()).getvalue())
    large = type(file.header)(2**15, 2**14, False, file.header.fingerprint, 0)
    with pytest.raises(OSError, match=r"^picture of 32768 x 16384 pixels is over the limit of "):
        Image.open(io.BytesIO(Container(large, file.chunks).pack()))


def test_imageio(tmp_path: Path) -> None:
    imageio = pytest.importorskip("imageio.v3")
    path = tmp_path / "a.vqz"
    imageio.imwrite(path, array(noise("RGBA")), plugin="pillow")
    found = imageio.imread(path, plugin="pillow")
    np.testing.assert_array_equal(found, array(noise("RGBA")))
    assert imageio.immeta(path, plugin="pillow")["mode"] == "RGBA"
