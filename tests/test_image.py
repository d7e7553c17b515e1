import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from vqzip.errors import VqzError
from vqzip.image import Picture, format_of, load, to_bytes, to_image

RED, BLUE = (255, 0, 0), (0, 0, 255)


def saved(image: Image.Image, format_name: str, **options: object) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    buffer.seek(0)
    return buffer


def png(width: int, height: int, colour_type: int, rows: bytes, depth: int = 16) -> io.BytesIO:
    """A PNG that Pillow cannot write: 16 bits per channel, or of a size that is not true."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + content)


def error(source: io.BytesIO | Path | Image.Image) -> str:
    with pytest.raises(VqzError) as caught:
        load(source)
    return str(caught.value)


def two_pixels(mode: str = "RGB") -> Image.Image:
    """Red left of blue."""
    image = Image.new("RGB", (2, 1), RED)
    image.putpixel((1, 0), BLUE)
    return image.convert(mode)


def test_rgb_is_taken_as_it_is(photo: Path) -> None:
    picture = load(photo)
    with Image.open(photo) as image:
        np.testing.assert_array_equal(picture.pixels, np.asarray(image))
        np.testing.assert_array_equal(load(image).pixels, picture.pixels)
    assert picture.pixels.shape == (7, 13, 3)
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.writeable
    assert (picture.grayscale, picture.notices) == (False, ())
    assert load(str(photo)).notices == ()


@pytest.mark.parametrize("mode", ["L", "1"])
def test_one_channel_is_replicated(mode: str) -> None:
    image = Image.new(mode, (3, 2), 255)
    image.putpixel((0, 1), 0)
    picture = load(image)
    assert picture.grayscale
    assert picture.notices == ()
    assert picture.pixels[..., 0].tolist() == [[255, 255, 255], [0, 255, 255]]
    assert (picture.pixels == picture.pixels[..., :1]).all()


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_16_bit_grayscale_is_rounded(mode: str) -> None:
    values = [0, 128, 129, 257, 65535 - 129, 65535 - 128, 65535]
    image = Image.new(mode, (len(values), 1))
    for x, value in enumerate(values):
        image.putpixel((x, 0), value)
    picture = load(image)
    assert picture.grayscale
    assert picture.pixels[0, :, 0].tolist() == [0, 0, 1, 1, 254, 255, 255]
    assert picture.notices == ("16-bit depth reduced to 8 bit",)


def test_16_bit_files() -> None:
    gray = load(png(2, 1, 0, b"\0" + struct.pack(">2H", 0, 65535)))
    assert gray.grayscale
    assert gray.pixels[0, :, 0].tolist() == [0, 255]
    assert gray.notices == ("16-bit depth reduced to 8 bit",)
    colour = load(png(1, 1, 2, b"\0" + struct.pack(">3H", 0x1234, 0, 0xFFFF)))
    assert colour.pixels.tolist() == [[[0x12, 0, 255]]]
    assert colour.notices == ("16-bit depth reduced to 8 bit",)


@pytest.mark.parametrize("value", [-1, 65536])
def test_32_bit_is_refused(value: int) -> None:
    assert error(Image.new("I", (1, 1), value)) == "32-bit pixels are not supported"


def test_floating_point_is_refused() -> None:
    assert error(Image.new("F", (1, 1))) == "floating-point pixels are not supported"


def test_alpha_is_dropped_and_colours_are_kept() -> None:
    image = two_pixels("RGBA")
    image.putpixel((0, 0), (*RED, 0))
    picture = load(image)
    assert picture.pixels.tolist() == [[list(RED), list(BLUE)]]
    assert picture.notices == ("alpha dropped",)
    picture = load(Image.new("LA", (1, 1), (7, 0)))
    assert picture == Picture(picture.pixels, grayscale=True, notices=("alpha dropped",))
    assert picture.pixels.tolist() == [[[7, 7, 7]]]


def test_opaque_alpha_is_not_worth_a_notice() -> None:
    assert load(two_pixels("RGBA")).notices == ()


def test_palette() -> None:
    picture = load(two_pixels("P"))
    assert picture.pixels.tolist() == [[list(RED), list(BLUE)]]
    assert not picture.grayscale
    assert picture.notices == ("palette converted to RGB",)
    image = two_pixels("P")
    picture = load(saved(image, "PNG", transparency=image.getpixel((0, 0))))
    assert picture.notices == ("palette converted to RGB", "alpha dropped")


def test_transparent_colour() -> None:
    picture = load(saved(two_pixels(), "PNG", transparency=RED))
    assert picture.pixels.tolist() == [[list(RED), list(BLUE)]]
    assert picture.notices == ("alpha dropped",)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV"])
def test_other_colour_spaces(mode: str) -> None:
    picture = load(two_pixels(mode))
    np.testing.assert_allclose(picture.pixels.astype(int), [[RED, BLUE]], atol=2)
    assert picture.notices == (f"{mode} converted to RGB",)


def test_metadata_is_reported() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "camera"
    file = saved(two_pixels(), "WEBP", icc_profile=b"profile", exif=exif, xmp=b"<x:xmpmeta/>")
    assert load(file).notices == ("ICC profile dropped", "EXIF dropped", "XMP dropped")


UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("mode", ["RGB", "L", "I;16"])
def test_exif_orientation_is_baked_in(orientation: int, mode: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = np.arange(6, dtype=np.uint8).reshape(2, 3)
    image = Image.fromarray(stored)
    if mode == "I;16":
        image = Image.fromarray(stored.astype(np.uint16) * 257)
    picture = load(saved(image.convert(mode), "PNG", exif=exif))
    np.testing.assert_array_equal(picture.pixels[..., 0], UPRIGHT[orientation](stored))
    assert picture.notices[0] == "EXIF dropped"


def test_broken_exif_is_no_reason_to_refuse() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = saved(Image.new("RGB", (3, 2), RED), "WEBP", exif=exif, lossless=True).getvalue()
    broken = data.replace(b"MM\0*", b"MM\0?")
    assert broken != data
    assert load(io.BytesIO(data)).pixels.shape == (3, 2, 3)
    assert load(io.BytesIO(broken)).pixels.shape == (2, 3, 3)


def test_users_image_is_left_unchanged() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image = Image.open(saved(two_pixels("P"), "PNG", exif=exif))
    load(image)
    assert (image.mode, image.size) == ("P", (2, 1))
    assert image.getexif()[ExifTags.Base.Orientation] == 6


def test_animation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "moving.gif"
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE, RED)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert error(path) == f"{path}: has 3 frames, only single pictures can be compressed"
    with Image.open(path) as image:
        assert error(image) == f"{path}: has 3 frames, only single pictures can be compressed"


def test_previews_in_the_jpeg_of_a_phone_are_dropped() -> None:
    big, small = Image.new("RGB", (16, 16), RED), Image.new("RGB", (8, 8), RED)
    file = saved(big, "MPO", save_all=True, append_images=[small])
    picture = load(file)
    assert picture.pixels.shape == (16, 16, 3)
    assert "extra frames dropped (1)" in picture.notices


def test_not_a_picture(tmp_path: Path) -> None:
    for content in (b"", b"hello", b"\x89PNG\r\n\x1a\n"):
        path = tmp_path / "x.png"
        path.write_bytes(content)
        assert error(path) == f"{path}: not a picture of a known format"
    assert error(io.BytesIO(b"hello")) == "not a picture of a known format"


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"])
def test_every_truncation_is_an_error_or_a_picture(format_name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise), format_name).getvalue()
    messages = []
    for length in range(0, len(data), 7):
        try:
            picture = load(io.BytesIO(data[:length]))
        except VqzError as caught:
            messages.append(str(caught))
        else:
            assert picture.pixels.shape == (16, 16, 3)
    assert len(messages) > 10
    assert all(message.isprintable() for message in messages)


def test_truncated_file_is_named(photo: Path) -> None:
    photo.write_bytes(photo.read_bytes()[:100])
    assert error(photo).startswith(f"{photo}: broken picture: image file is truncated")


def test_decompression_bomb() -> None:
    message = error(png(60000, 60000, 2, b""))
    assert message.startswith("too many pixels: Image size (3600000000 pixels) exceeds limit")


def test_unreadable_paths(tmp_path: Path, photo: Path) -> None:
    assert error(tmp_path) == f"{tmp_path}: cannot read: Is a directory"
    missing = tmp_path / "none\n.png"
    assert error(missing) == f"{tmp_path}/none\\n.png: cannot read: No such file or directory"
    below = photo / "x.png"
    assert error(below) == f"{below}: cannot read: Not a directory"


def test_no_pixels() -> None:
    assert error(Image.new("RGB", (0, 5))) == "picture without pixels"


def test_to_image() -> None:
    pixels = np.array([[[1, 2, 3], [255, 255, 254], [0, 0, 1], [0, 1, 1]]], dtype=np.uint8)
    colour = to_image(pixels, grayscale=False)
    assert colour.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(colour), pixels)
    gray = to_image(pixels, grayscale=True)
    assert gray.mode == "L"
    assert np.asarray(gray).tolist() == [[2, 255, 0, 1]]


@pytest.mark.parametrize(
    ("path", "format_name"),
    [
        ("a.png", "PNG"),
        ("a.b/c.JPG", "JPEG"),
        ("a.jpeg", "JPEG"),
        ("a.webp", "WEBP"),
        ("a.tif", "TIFF"),
        ("a.bmp", "BMP"),
    ],
)
def test_format_of(path: str, format_name: str) -> None:
    assert format_of(path) == format_name


@pytest.mark.parametrize(("path", "suffix"), [("a", ""), ("a.xyz", ".xyz"), ("a.psd", ".psd")])
def test_format_of_unknown_suffix(path: str, suffix: str) -> None:
    with pytest.raises(VqzError) as caught:
        format_of(path)
    assert str(caught.value) == f"{path}: unknown picture format {suffix!r}"


@pytest.mark.parametrize("format_name", ["PNG", "TIFF", "WEBP", "BMP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_lossless_formats_keep_every_pixel(photo: Path, format_name: str, mode: str) -> None:
    with Image.open(photo) as source:
        image = source.convert(mode)
    with Image.open(io.BytesIO(to_bytes(image, format_name))) as again:
        assert again.format == format_name
        np.testing.assert_array_equal(np.asarray(again.convert(mode)), np.asarray(image))


def test_to_bytes_names_the_reason() -> None:
    with pytest.raises(VqzError, match=r"^cannot be written as JPEG: "):
        to_bytes(Image.new("L", (70000, 1)), "JPEG")
