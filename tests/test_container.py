import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqzip.container import Chunk, Container, Header, read_header, unpack
from vqzip.errors import VqzError

HEADER = Header(width=768, height=3, grayscale=True, fingerprint=b"\x01\x02abcdef", level=63)
SMALL = Container(HEADER, (Chunk("C", b"codes"), Chunk("z", b"")))
GOLDEN = bytes.fromhex(
    "8956515a"  # magic
    "01 01"  # version, flags: grayscale
    "8006 03"  # width, height
    "0102616263646566"  # fingerprint
    "3f"  # level
    "43 05 636f646573"  # C: "codes"
    "7a 00"  # z: nothing
    "a47ef612"  # CRC-32
)


def with_crc(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


def made(
    *,
    flags: int = 0,
    sizes: bytes = b"\x02\x03",
    fingerprint: bytes = b"model000",
    level: int = 0,
    chunks: bytes = b"C\x01!",
) -> bytes:
    """A file with a right checksum, whatever else is wrong with it."""
    fields = b"\x89VQZ\x01" + bytes([flags]) + sizes + fingerprint + bytes([level])
    return with_crc(fields + chunks)


def error(data: bytes) -> str:
    with pytest.raises(VqzError) as caught:
        unpack(data)
    return str(caught.value)


def test_golden_bytes() -> None:
    assert SMALL.pack() == GOLDEN
    assert unpack(GOLDEN) == SMALL
    assert read_header(GOLDEN) == HEADER
    assert SMALL.code_stream == b"codes"
    assert SMALL.alpha is None


numbers = st.integers(1, 2**31 - 1)
headers = st.builds(
    Header,
    width=numbers,
    height=numbers,
    grayscale=st.booleans(),
    fingerprint=st.binary(min_size=8, max_size=8),
    level=st.integers(0, 128),
)
types = st.lists(st.sampled_from("abxyz"), unique=True, max_size=5).flatmap(
    lambda ancillary: st.permutations([*ancillary, "C"])
)
chunks = types.flatmap(
    lambda ts: st.tuples(*(st.builds(Chunk, st.just(t), st.binary()) for t in ts))
)


@given(st.builds(Container, headers, chunks))
def test_round_trip(container: Container) -> None:
    data = container.pack()
    assert unpack(data, max_pixels=None) == container
    assert read_header(data, max_pixels=None) == container.header


@given(st.binary().map(lambda tail: with_crc(b"\x89VQZ\x01" + tail)))
def test_bytes_with_a_right_checksum_are_refused_or_packed_again(data: bytes) -> None:
    try:
        container = unpack(data)
    except VqzError:
        return
    assert container.pack() == data


@given(st.binary())
def test_random_bytes_are_refused(data: bytes) -> None:
    assert error(data) in {"empty file", "not a vqz file", "truncated file"}


def test_every_truncation_is_refused() -> None:
    messages = [error(GOLDEN[:length]) for length in range(len(GOLDEN))]
    assert messages[0] == "empty file"
    # Cut 4 bytes after the header or a chunk, only the checksum tells.
    assert messages.count("corrupt file (wrong checksum)") <= 2
    assert set(messages[1:]) <= {"truncated file", "corrupt file (wrong checksum)"}


@pytest.mark.parametrize("position", range(len(GOLDEN)))
def test_every_change_of_a_byte_is_refused(position: int) -> None:
    for flip in range(1, 256):
        data = bytearray(GOLDEN)
        data[position] ^= flip
        message = error(bytes(data))
        if position < 4:
            assert message == "not a vqz file"
        elif position == 4:
            version = 1 ^ flip
            assert message == f"unsupported file version {version}, this vqzip reads version 1"
        else:
            assert message in {"truncated file", "corrupt file (wrong checksum)"}


def test_bytes_after_the_end_are_refused() -> None:
    assert error(GOLDEN + b"\0") in {"truncated file", "corrupt file (wrong checksum)"}
    assert error(GOLDEN + GOLDEN) in {"truncated file", "corrupt file (wrong checksum)"}


def test_checksum_comes_before_the_flags() -> None:
    data = bytearray(GOLDEN)
    data[5] = 0x80
    assert error(bytes(data)) == "corrupt file (wrong checksum)"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty file"),
        (b"GIF89a" + GOLDEN, "not a vqz file"),
        (b"VQZ\x01", "not a vqz file"),
        (b"\x89VQZ", "truncated file"),
        (b"\x89VQZ\x01", "truncated file"),
        (with_crc(b"\x89VQZ\x01"), "truncated file"),
        (
            b"\x89VQZ\x02 anything",
            "unsupported file version 2, this vqzip reads version 1",
        ),
        (made(flags=2), "made by a newer version of vqzip (flags 0x02)"),
        (made(flags=0x81), "made by a newer version of vqzip (flags 0x81)"),
        (made(sizes=b"\x00\x03"), "invalid picture size 0 x 3"),
        (made(sizes=b"\x03\x00"), "invalid picture size 3 x 0"),
        (made(sizes=b"\x82\x00\x03"), "invalid file: malformed number"),
        (made(sizes=b"\x80\x80\x80\x80\x08\x01"), "invalid file: malformed number"),
        (made(sizes=b"\xff" * 200), "invalid file: malformed number"),
        (made(level=129), "invalid level 129"),
        (made(chunks=b""), "invalid file: no code stream"),
        (made(chunks=b"x\x01!"), "invalid file: no code stream"),
        (made(chunks=b"C\x01!C\x01!"), "invalid file: chunk 'C' occurs twice"),
        (made(chunks=b"C\x01!x\x00x\x00"), "invalid file: chunk 'x' occurs twice"),
        (made(chunks=b"C\x02!"), "truncated file"),
        (made(chunks=b"C\xff\xff\xff\xff\x07!"), "truncated file"),
        (made(chunks=b"C\xff\xff\xff\xff\x08!"), "invalid file: malformed number"),
        (made(chunks=b"C\x81\x00!"), "invalid file: malformed number"),
        (made(chunks=b"C"), "truncated file"),
        (made(chunks=b"C\x01!\x00\x00"), "invalid chunk type '\\x00'"),
        (made(chunks=b"C\x01!1\x00"), "invalid chunk type '1'"),
        (made(chunks=b"C\x01!\xe9\x00"), "invalid chunk type 'é'"),
        (made(chunks=b"C\x01!D\x00"), "made by a newer version of vqzip (chunk 'D')"),
    ],
)
def test_refused_with_a_reason(data: bytes, message: str) -> None:
    assert error(data) == message


def test_pixel_limit() -> None:
    largest = b"\xff\xff\xff\xff\x07"
    limit = 2**28
    data = made(sizes=largest * 2)
    assert error(data) == (
        f"picture of 2147483647 x 2147483647 pixels is over the limit of {limit}"
    )
    assert unpack(data, max_pixels=None).header.height == 2**31 - 1
    assert unpack(made(), max_pixels=6).header.width == 2
    for function in (unpack, read_header):
        with pytest.raises(VqzError, match=r"^picture of 2 x 3 pixels is over the limit of 5$"):
            function(made(), max_pixels=5)


def test_alpha_is_a_chunk_like_any_other() -> None:
    assert unpack(made(chunks=b"A\x02aaC\x01!")).alpha == b"aa"
    assert unpack(made(chunks=b"C\x01!A\x00")).alpha == b""


def test_unknown_ancillary_chunks_are_kept_in_order() -> None:
    container = unpack(made(chunks=b"z\x02zzC\x01!a\x00"))
    assert [chunk.type for chunk in container.chunks] == ["z", "C", "a"]
    assert container.code_stream == b"!"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "invalid picture size 0 x 1"),
        ({"height": 2**31}, "invalid picture size 1 x 2147483648"),
        ({"fingerprint": b"short"}, "invalid model fingerprint of 5 bytes"),
        ({"level": -1}, "invalid level -1"),
        ({"level": 129}, "invalid level 129"),
    ],
)
def test_header_out_of_range(changes: dict[str, int | bytes], message: str) -> None:
    fields = {"width": 1, "height": 1, "grayscale": False, "fingerprint": b"8 bytes!", "level": 0}
    with pytest.raises(VqzError) as caught:
        Header(**{**fields, **changes})  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_chunks_that_cannot_be_written() -> None:
    code = Chunk("C", b"")
    with pytest.raises(VqzError, match="no code stream"):
        Container(HEADER, ())
    with pytest.raises(VqzError, match="occurs twice"):
        Container(HEADER, (code, code))
    for type_ in ("", "CC", "1", "é"):
        with pytest.raises(VqzError, match="invalid chunk type"):
            Chunk(type_, b"")
