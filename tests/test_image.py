import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import profiles
import pytest
from PIL import ExifTags, Image, features

from vqzip.errors import VqzError
from vqzip.image import STRIP, fitted, format_of, load, to_bytes, to_image
from vqzip.metadata import Metadata, metadata_of

# New in Pillow 11.3.
AVIF = pytest.param(
    "AVIF", marks=pytest.mark.skipif("avif" not in features.get_supported(), reason="no AVIF")
)
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


@pytest.mark.parametrize("height", [1, STRIP - 1, STRIP, STRIP + 1, 2 * STRIP + 3])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_pixels_of_any_number_of_strips(mode: str, height: int) -> None:
    shape = (height, 5, len(mode)) if mode != "L" else (height, 5)
    values = np.random.default_rng(height).integers(1, 256, shape, dtype=np.uint8)
    pixels = load(Image.fromarray(values)).pixels
    expected = values[:, :, None].repeat(3, 2) if mode == "L" else values[:, :, :3]
    np.testing.assert_array_equal(pixels, expected)
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable


def test_16_bit_files() -> None:
    gray = load(png(2, 1, 0, b"\0" + struct.pack(">2H", 0, 65535)))
    assert gray.grayscale
    assert gray.pixels[0, :, 0].tolist() == [0, 255]
    assert gray.notices == ("16-bit depth reduced to 8 bit",)
    colour = load(png(1, 1, 2, b"\0" + struct.pack(">3H", 0x1234, 0, 0xFFFF)))
    assert colour.pixels.tolist() == [[[0x12, 0, 255]]]
    assert colour.notices == ("16-bit depth reduced to 8 bit",)


def test_alpha_is_kept_and_colours_under_it_are_not() -> None:
    image = Image.new("RGBA", (3, 1), (*RED, 255))
    image.putpixel((0, 0), (0, 255, 0, 0))
    image.putpixel((1, 0), (*BLUE, 1))
    picture = load(image)
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[0, 1, 255]]
    assert picture.alpha.dtype == np.uint8
    assert picture.pixels[0, 1:].tolist() == [list(BLUE), list(RED)]
    assert picture.pixels[0, 0, 1] == 0  # no green there any more
    assert picture.notices == ()
    picture = load(Image.new("LA", (1, 1), (7, 0)))
    assert picture.grayscale
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[0]]
    assert picture.pixels.tolist() == [[[7, 7, 7]]]


def test_opaque_alpha_is_none() -> None:
    picture = load(two_pixels("RGBA"))
    assert (picture.alpha, picture.notices) == (None, ())


def test_palette() -> None:
    picture = load(two_pixels("P"))
    assert picture.pixels.tolist() == [[list(RED), list(BLUE)]]
    assert not picture.grayscale
    assert picture.notices == ("palette converted to RGB",)
    image = two_pixels("P")
    picture = load(saved(image, "PNG", transparency=image.getpixel((0, 0))))
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[0, 255]]
    assert picture.notices == ("palette converted to RGB",)


METADATA = {"icc_profile": profiles.red_is_green(), "exif": b"Exif\0\0MM\0*", "xmp": b"<x/>"}


def test_metadata_is_kept_or_stripped() -> None:
    file = saved(two_pixels(), "WEBP", lossless=True, **METADATA)
    picture = load(file)
    assert picture.metadata == Metadata(profiles.red_is_green(), b"MM\0*", b"<x/>")
    assert picture.pixels.tolist() == [[list(RED), list(BLUE)]]
    assert picture.notices == ()
    picture = load(file, strip=True)
    assert picture.metadata == Metadata()
    assert picture.pixels.tolist() == [[[0, 255, 0], list(BLUE)]]
    assert picture.notices == ("colours converted to sRGB",)


def test_what_is_lost_is_said_unless_it_was_asked_for() -> None:
    image = two_pixels("P")
    image.info.update(icc_profile=b"?", exif=b"?")
    assert load(image).notices == (
        "broken EXIF dropped",
        "palette converted to RGB",
        "broken ICC profile dropped",
    )
    assert load(image, strip=True).notices == (
        "palette converted to RGB",
        "broken ICC profile dropped",
    )


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
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels.astype(np.uint16) * 257)
    picture = load(saved(image.convert(mode), "PNG", exif=exif))
    np.testing.assert_array_equal(picture.pixels[..., 0], UPRIGHT[orientation](pixels))
    assert picture.metadata.exif is not None
    stored = Image.Exif()
    stored.load(picture.metadata.exif)
    assert dict(stored) == {ExifTags.Base.Orientation: 1}


def test_broken_exif_is_no_reason_to_refuse() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = saved(Image.new("RGB", (3, 2), RED), "WEBP", exif=exif, lossless=True).getvalue()
    broken = data.replace(b"MM\0*", b"MM\0?")
    assert broken != data
    assert load(io.BytesIO(data)).pixels.shape == (3, 2, 3)
    assert load(io.BytesIO(broken)).pixels.shape == (2, 3, 3)
    assert load(io.BytesIO(broken)).notices == ("broken EXIF dropped",)


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "WEBP", "TIFF", AVIF])
def test_orientation_in_every_format(format_name: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    picture = load(
        saved(
            Image.new("RGBA", (40, 20), (*RED, 9)).convert(
                "RGB" if format_name == "JPEG" else "RGBA"
            ),
            format_name,
            exif=exif,
        )
    )
    assert picture.pixels.shape == (40, 20, 3)
    assert picture.alpha is None or picture.alpha.shape == (40, 20)
    again = to_image(picture.pixels, False, picture.alpha, picture.metadata)
    assert again.getexif().get(ExifTags.Base.Orientation, 1) == 1


def test_orientation_in_xmp() -> None:
    xmp = b'<x tiff:Orientation="6"/>'
    picture = load(saved(Image.new("RGB", (3, 2)), "WEBP", xmp=xmp))
    assert picture.pixels.shape == (3, 2, 3)
    assert picture.metadata.xmp == b'<x tiff:Orientation="1"/>'


def test_users_image_is_left_unchanged() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image = Image.open(saved(two_pixels("P"), "PNG", exif=exif))
    load(image)
    assert (image.mode, image.size) == ("P", (2, 1))
    assert image.getexif()[ExifTags.Base.Orientation] == 6


@pytest.fixture
def moving(tmp_path: Path) -> Path:
    """A GIF of three frames: red, blue, white."""
    path = tmp_path / "moving.gif"
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE, "white")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    return path


def test_animation_is_refused(moving: Path) -> None:
    message = f"{moving}: has 3 frames, choose one from 0 to 2 with --frame"
    assert error(moving) == message
    with Image.open(moving) as image:
        assert error(image) == message


def test_frame_of_an_animation(moving: Path) -> None:
    colours = [load(moving, frame=frame).pixels[0, 0].tolist() for frame in range(3)]
    assert colours == [list(RED), list(BLUE), [255, 255, 255]]
    with Image.open(moving) as image:
        image.seek(2)
        assert load(image, frame=1).pixels[0, 0].tolist() == list(BLUE)
        assert image.tell() == 2
    for frame in (-1, 3):
        with pytest.raises(VqzError) as caught:
            load(moving, frame=frame)
        assert str(caught.value) == f"{moving}: frame must be from 0 to 2, not {frame}"


def test_frame_of_a_single_picture() -> None:
    assert load(two_pixels(), frame=0).pixels.shape == (1, 2, 3)
    with pytest.raises(VqzError, match=r"^frame must be from 0 to 0, not 1$"):
        load(two_pixels(), frame=1)


def test_page_of_a_document(tmp_path: Path) -> None:
    pages = [Image.new("L", (4, 4), 1), Image.new("L", (9, 2), 2)]
    file = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert error(file) == "has 2 frames, choose one from 0 to 1 with --frame"
    assert load(file, frame=1).pixels.shape == (2, 9, 3)


def test_previews_in_the_jpeg_of_a_phone_are_dropped() -> None:
    big, small = Image.new("RGB", (16, 16), RED), Image.new("RGB", (8, 8), RED)
    file = saved(big, "MPO", save_all=True, append_images=[small])
    picture = load(file)
    assert picture.pixels.shape == (16, 16, 3)
    assert "extra frames dropped (1)" in picture.notices
    preview = load(file, frame=1)
    assert preview.pixels.shape == (8, 8, 3)
    assert "extra frames dropped (1)" not in preview.notices


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


@pytest.mark.parametrize(("width", "height"), [(60000, 60000), (2**14, 2**14 + 1)])
def test_too_many_pixels(width: int, height: int) -> None:
    expected = f"picture of {width} x {height} pixels is over the limit of {2**28}"
    limit = Image.MAX_IMAGE_PIXELS
    assert error(png(width, height, 2, b"")) == expected
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("format_name", ["PNG", "TIFF"])
def test_limit_of_pillow_does_not_count(monkeypatch: pytest.MonkeyPatch, format_name: str) -> None:
    file = saved(Image.new("L", (20, 10)), format_name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    assert load(file).pixels.shape == (10, 20, 3)
    assert Image.MAX_IMAGE_PIXELS == 50
    with pytest.raises(Image.DecompressionBombError):
        Image.open(file)


def test_users_image_with_too_many_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vqzip.image.DEFAULT_MAX_PIXELS", 11)
    assert error(Image.new("L", (4, 3))) == "picture of 4 x 3 pixels is over the limit of 11"
    assert load(Image.new("L", (11, 1))).pixels.shape == (1, 11, 3)


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
    assert gray.info == {}
    alpha = np.array([[0, 1, 2, 255]], dtype=np.uint8)
    metadata = Metadata(exif=b"MM", xmp=b"<x/>")
    for grayscale, opaque in ((False, colour), (True, gray)):
        image = to_image(pixels, grayscale, alpha, metadata)
        assert image.mode == opaque.mode + "A"
        np.testing.assert_array_equal(np.asarray(image.convert(opaque.mode)), np.asarray(opaque))
        np.testing.assert_array_equal(np.asarray(image.getchannel("A")), alpha)
        assert image.info == {"exif": b"Exif\0\0MM", "xmp": b"<x/>"}


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


@pytest.mark.parametrize("format_name", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_lossless_formats_keep_alpha(photo: Path, format_name: str, mode: str) -> None:
    with Image.open(photo) as source:
        image = source.convert(mode)
    # From 3 on: WebP does not keep colours where nothing is to be seen of them.
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    assert image.getchannel("A").getextrema()[0] > 0
    assert fitted(image, format_name) == (image, ())
    with Image.open(io.BytesIO(to_bytes(image, format_name))) as again:
        np.testing.assert_array_equal(np.asarray(again.convert(mode)), np.asarray(image))


@pytest.mark.parametrize("format_name", [AVIF])
def test_avif_keeps_alpha(format_name: str) -> None:
    image = Image.new("RGBA", (32, 32), (*RED, 99))
    with Image.open(io.BytesIO(to_bytes(image, format_name))) as again:
        assert again.mode == "RGBA"
        assert abs(again.getchannel("A").getextrema()[0] - 99) <= 2


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "WEBP", "TIFF", AVIF])
@pytest.mark.parametrize("profile", [profiles.SRGB, profiles.red_is_green()])
def test_metadata_is_written(format_name: str, profile: bytes) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "cam"
    exif[ExifTags.Base.ImageWidth] = 1234  # must not become that of a TIFF
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.ISOSpeedRatings: 400}
    image = two_pixels()
    metadata = Metadata(profile, exif.tobytes()[6:], b"<x/>")
    image.info.update(metadata.info())
    assert fitted(image, format_name) == (image, ())
    picture = load(io.BytesIO(to_bytes(image, format_name)))
    assert picture.notices == ()
    assert (picture.metadata.icc_profile, picture.metadata.xmp) == (profile, b"<x/>")
    found = Image.Exif()
    found.load(picture.metadata.exif or b"")
    assert found[ExifTags.Base.Make] == "cam"
    assert found.get_ifd(ExifTags.IFD.Exif) == {ExifTags.Base.ISOSpeedRatings: 400}
    if format_name != "TIFF":
        assert picture.metadata.exif == metadata.exif


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("format_name", ["JPEG", "BMP", "PPM"])
def test_formats_without_alpha(mode: str, format_name: str) -> None:
    image = Image.new("LA", (32, 16), (0, 51)).convert(mode)
    image.info["xmp"] = b"<x/>"
    flat, losses = fitted(image, format_name)
    notice = f"transparency replaced by white, {format_name} has none"
    assert losses[0] == notice
    assert losses[1:] == (() if format_name == "JPEG" else ("XMP dropped",))
    assert flat.getpixel((0, 0)) == ((204, 204, 204) if mode == "RGBA" else 204)
    assert (image.mode, image.info) == (mode, {"xmp": b"<x/>"})
    with Image.open(io.BytesIO(to_bytes(image, format_name))) as again:
        assert again.convert("RGB").getpixel((9, 9)) == (204, 204, 204)


def test_formats_without_metadata() -> None:
    image = two_pixels()
    image.info.update(METADATA)
    changed, losses = fitted(image, "BMP")
    assert losses == ("colours converted to sRGB", "EXIF dropped", "XMP dropped")
    assert (changed.getpixel((0, 0)), changed.info) == ((0, 255, 0), {})
    assert (image.getpixel((0, 0)), image.info) == (RED, METADATA)
    image.info = {"icc_profile": profiles.SRGB}
    changed, losses = fitted(image, "BMP")
    assert (changed.getpixel((0, 0)), changed.info, losses) == (RED, {}, ())


@pytest.mark.parametrize(
    ("format_name", "pixel", "losses"),
    [
        ("PNG", 0, ()),
        ("JPEG", 0, ()),
        ("WEBP", 255, ("colours converted to sRGB",)),
    ],
)
def test_gray_profiles(format_name: str, pixel: int, losses: tuple[str, ...]) -> None:
    image = Image.new("L", (1, 1), 0)
    image.info["icc_profile"] = profiles.inverse_gray()
    changed, found = fitted(image, format_name)
    assert (changed.getpixel((0, 0)), found) == (pixel, losses)
    assert to_bytes(image, format_name)


def test_metadata_too_long_for_jpeg() -> None:
    image = two_pixels()
    image.info["xmp"] = bytes(65504)
    assert fitted(image, "JPEG") == (image, ())
    with Image.open(io.BytesIO(to_bytes(image, "JPEG"))) as again:
        assert metadata_of(again)[0].xmp == bytes(65504)
    image.info["xmp"] += b"!"
    image.info["exif"] = b"Exif\0\0MM\0*" + bytes(65533)
    assert fitted(image, "JPEG")[1] == ("EXIF dropped", "XMP dropped")
    assert to_bytes(image, "JPEG")
    assert fitted(image, "PNG") == (image, ())


def test_to_bytes_names_the_reason() -> None:
    with pytest.raises(VqzError, match=r"^cannot be written as JPEG: "):
        to_bytes(Image.new("L", (70000, 1)), "JPEG")
