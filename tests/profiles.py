"""ICC profiles of which it is known what they do."""

import struct

from vqzip.metadata import srgb_profile

SRGB = srgb_profile()


def _tagged(space: bytes, pcs: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = bytearray(SRGB[:128])
    header[0:4] = struct.pack(">I", start + len(body))
    header[8:12] = bytes([2, 0x40, 0, 0])  # version 2.4
    header[12:16], header[16:20], header[20:24] = kind, space, pcs
    return bytes(header) + table + body


def red_is_green() -> bytes:
    """Of RGB: what it calls red is sRGB's green, and the other way round."""
    return SRGB.replace(b"rXYZ", b"temp").replace(b"gXYZ", b"rXYZ").replace(b"temp", b"gXYZ")


def inverse_gray() -> bytes:
    """Of gray: 255 is black."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)
    curve = b"curv\0\0\0\0" + struct.pack(">I2H", 2, 0xFFFF, 0)
    return _tagged(b"GRAY", b"XYZ ", b"mntr", {b"wtpt": white, b"kTRC": curve})


def black_only_cmyk() -> bytes:
    """Of CMYK: the inks C, M and Y cannot be seen, K is black."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)
    ramp = bytes(range(256))
    identity = struct.pack(">9i", *[65536, 0, 0, 0, 65536, 0, 0, 0, 65536])
    corners = b"".join(bytes([0 if k else 255, 128, 128]) for _ in range(8) for k in (0, 1))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + 4 * ramp + corners + 3 * ramp
    return _tagged(b"CMYK", b"Lab ", b"prtr", {b"wtpt": white, b"A2B0": table})
