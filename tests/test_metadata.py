import io
import struct
import zlib
from pathlib import Path
from typing import Any

import profiles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, PngImagePlugin, features

from vqzip.container import Chunk
from vqzip.errors import VqzError
from vqzip.metadata import MAX_BYTES, Metadata, from_chunks, metadata_of, to_chunks

# New in Pillow 11.3.
AVIF = pytest.param(
    "AVIF", marks=pytest.mark.skipif("avif" not in features.get_supported(), reason="no AVIF")
)
XMP = b'<x:xmpmeta tiff:Orientation="1"/>'


def exif(order: str = "<", orientation: int = 1, thumbnail: int = 0, long: bool = False) -> bytes:
    """Make, orientation, and the offset of a folder with a thumbnail."""
    value = struct.pack(order + "I", orientation)
    if not long:
        value = struct.pack(order + "HH", orientation, 0)
    return (
        (b"II*\0" if order == "<" else b"MM\0*")
        + struct.pack(order + "IH", 8, 2)
        + struct.pack(order + "HHI4s", 0x10F, 2, 4, b"cam\0")
        + struct.pack(order + "HHI4s", 0x112, 4 if long else 3, 1, value)
        + struct.pack(order + "I", thumbnail)
        + b"thumbnail"
    )


def saved(format_name: str, **options: Any) -> io.BytesIO:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), "red").save(buffer, format_name, **options)
    buffer.seek(0)
    return buffer


def loaded(file: io.BytesIO | Path) -> Image.Image:
    image = Image.open(file)
    image.load()
    return image


def error(type_: str, payload: bytes) -> str:
    with pytest.raises(VqzError) as caught:
        from_chunks([Chunk(type_, payload)])
    return str(caught.value)


items = st.none() | st.binary(min_size=1) | st.binary(min_size=1).map(lambda data: 300 * data)


@given(st.builds(Metadata, items, items, items))
def test_round_trip(metadata: Metadata) -> None:
    assert from_chunks(to_chunks(metadata)) == metadata


def test_payloads() -> None:
    metadata = Metadata(b"short", b"e" * 1000, b"x")
    icc, exif_, xmp = to_chunks(metadata)
    assert icc == Chunk("i", b"\5\0\0short")
    assert exif_.type == "e"
    assert exif_.payload[:3] == b"\xe8\3\0"
    assert zlib.decompress(exif_.payload[3:], wbits=-15) == b"e" * 1000
    assert xmp == Chunk("x", b"\1\0\0x")
    assert to_chunks(Metadata()) == []


def test_srgb_takes_no_bytes() -> None:
    assert to_chunks(Metadata(profiles.SRGB)) == [Chunk("i", b"")]
    assert from_chunks([Chunk("i", b"")]) == Metadata(profiles.SRGB)


def test_other_chunks_are_left_alone() -> None:
    assert from_chunks([Chunk("C", b""), Chunk("z", b"?"), Chunk("A", b"")]) == Metadata()


def deflated(data: bytes) -> bytes:
    deflater = zlib.compressobj(9, wbits=-15)
    return deflater.compress(data) + deflater.flush()


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "its size is wrong"),
        (b"\0", "its size is wrong"),
        (b"\0\0\0", "its size is wrong"),
        (b"\5\0\0", "its size is wrong"),
        (b"\0\0\0" + deflated(b""), "its size is wrong"),
        (b"\5\0\0" + deflated(b"1234"), "its size is wrong"),
        (b"\5\0\0" + deflated(b"123456"), "its size is wrong"),
        (b"\5\0\0" + deflated(b"12345")[:-1], "its size is wrong"),
        (b"\5\0\0" + deflated(b"12345") + b"!", "its size is wrong"),
        (b"\5\0\0\xff\xff", "Error -3 while decompressing data: invalid block type"),
    ],
)
def test_corrupt_payloads(payload: bytes, reason: str) -> None:
    assert error("e", payload) == f"corrupt EXIF: {reason}"
    assert error("x", payload) == f"corrupt XMP: {reason}"
    if payload:
        assert error("i", payload) == f"corrupt ICC profile: {reason}"


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    real = zlib.decompressobj(-15)

    class Inflater:
        def __init__(self) -> None:
            self.eof, self.unused_data = False, b""

        def decompress(self, data: bytes, limit: int) -> bytes:
            assert limit == 6
            return real.decompress(data, limit)

    monkeypatch.setattr("vqzip.metadata.zlib.decompressobj", lambda _: Inflater())
    assert error("x", b"\5\0\0" + deflated(bytes(10**7))) == "corrupt XMP: its size is wrong"


def test_longest() -> None:
    longest = Metadata(xmp=bytes(MAX_BYTES))
    assert from_chunks(to_chunks(longest)) == longest
    with pytest.raises(VqzError, match=r"^metadata of 16777216 bytes is over the limit of 1677721"):
        to_chunks(Metadata(xmp=bytes(MAX_BYTES + 1)))
    image = Image.new("L", (1, 1))
    image.info["xmp"] = bytes(MAX_BYTES + 1)
    assert metadata_of(image) == (Metadata(), ["XMP of 16,777,216 bytes dropped"])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("long", [False, True])
def test_upright_changes_the_orientation_alone(order: str, long: bool) -> None:
    for orientation in range(2, 9):
        turned = Metadata(exif=exif(order, orientation, thumbnail=38, long=long))
        assert turned.upright().exif == exif(order, 1, thumbnail=0, long=long)
    upright = Metadata(exif=exif(order, 1, thumbnail=38, long=long))
    assert upright.upright() == upright


@given(st.binary(max_size=60).map(lambda tail: b"II*\0\x08\0\0\0\2\0\x12\1\3\0" + tail))
def test_upright_survives_any_exif(data: bytes) -> None:
    result = Metadata(exif=data).upright().exif
    assert result is not None
    assert len(result) == len(data)


def test_every_truncation_of_exif_keeps_its_length() -> None:
    data = exif(">", 6, thumbnail=38)
    for length in range(1, len(data)):
        result = Metadata(exif=data[:length]).upright().exif
        assert result is not None
        assert len(result) == length


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'tiff:Orientation="6"', b'tiff:Orientation="1"'),
        (b"<tiff:Orientation>8</tiff:Orientation>", b"<tiff:Orientation>1</tiff:Orientation>"),
        (XMP, XMP),
        (b"Orientation 6", b"Orientation 6"),
    ],
)
def test_upright_xmp(before: bytes, after: bytes) -> None:
    assert Metadata(xmp=before).upright() == Metadata(xmp=after)


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", AVIF])
def test_bytes_are_those_of_the_file(format_name: str) -> None:
    options: dict[str, Any] = {"icc_profile": profiles.red_is_green(), "xmp": XMP}
    # AVIF has an orientation of its own, for which Pillow takes that of EXIF away.
    content = exif() if format_name != "AVIF" else b"MM\0*\0\0\0\x08\0\0\0\0\0\0"
    options["exif"] = b"Exif\0\0" + content
    if format_name == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    image = loaded(saved(format_name, **options))
    assert metadata_of(image) == (Metadata(profiles.red_is_green(), content, XMP), [])


def test_tiff_gives_what_is_about_the_picture() -> None:
    tags = Image.Exif()
    tags.load(exif())
    tags[ExifTags.Base.Copyright] = "me"
    tags[ExifTags.IFD.Exif] = {ExifTags.Base.ISOSpeedRatings: 400}
    tags[700] = XMP
    image = loaded(saved("TIFF", exif=tags.tobytes(), icc_profile=profiles.red_is_green()))
    metadata, losses = metadata_of(image)
    assert (metadata.icc_profile, metadata.xmp) == (profiles.red_is_green(), XMP)
    assert losses == []
    found = Image.Exif()
    found.load(metadata.exif or b"")
    assert set(found) == {
        ExifTags.Base.Make,
        ExifTags.Base.Copyright,
        ExifTags.Base.ExifOffset,
    }
    assert found.get_ifd(ExifTags.IFD.Exif) == {ExifTags.Base.ISOSpeedRatings: 400}
    assert metadata_of(loaded(saved("TIFF"))) == (Metadata(), [])


def test_exif_of_imagemagick() -> None:
    image = Image.new("L", (1, 1))
    image.info["Raw profile type exif"] = f"\nexif\n   {len(exif())}\n{exif().hex()}\n"
    assert metadata_of(image) == (Metadata(exif=exif()), [])
    image.info["Raw profile type exif"] = "\nexif\n 2\nxx\n"
    assert metadata_of(image) == (Metadata(), ["broken EXIF dropped"])


def test_xmp_where_older_versions_of_pillow_leave_it() -> None:
    image = Image.new("L", (1, 1))
    image.info["XML:com.adobe.xmp"] = "<é/>"
    assert metadata_of(image) == (Metadata(xmp="<é/>".encode()), [])
    image = Image.new("L", (1, 1))
    segment = ("APP1", b"http://ns.adobe.com/xap/1.0/\0" + XMP)
    vars(image)["applist"] = [("APP0", b"JFIF"), ("APP1", b"Exif\0\0"), segment]
    assert metadata_of(image) == (Metadata(xmp=XMP), [])


@pytest.mark.parametrize("data", [b"Exif\0\0", b"MM\0?" + exif()[4:], b"nothing"])
def test_broken_exif_is_dropped(data: bytes) -> None:
    image = Image.new("L", (1, 1))
    image.info["exif"] = data
    losses = [] if data == b"Exif\0\0" else ["broken EXIF dropped"]
    assert metadata_of(image) == (Metadata(), losses)


@pytest.mark.parametrize("value", [10**12, (1, 2), 0.5])
def test_what_is_not_even_bytes_is_dropped(value: object) -> None:
    image = Image.new("L", (1, 1))
    image.info.update(icc_profile=value, exif=value, xmp=value)
    losses = ["broken ICC profile dropped", "broken EXIF dropped", "broken XMP dropped"]
    assert metadata_of(image) == (Metadata(), losses)


def test_info_is_what_pillow_takes() -> None:
    assert Metadata(b"i", b"MM", b"x").info() == {
        "icc_profile": b"i",
        "exif": b"Exif\0\0MM",
        "xmp": b"x",
    }
    assert Metadata().info() == {}
