"""Made the golden files, each of them once: they must decode for ever.

    PYTHONPATH=tests python tests/golden/make.py

Adds those that are not there yet; it refuses to replace any.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import profiles
from PIL import Image

import vqzip
from vqzip.codec import Codes, unpack
from vqzip.container import unpack as unpack_container
from vqzip.image import to_bytes
from vqzip.metadata import Metadata
from vqzip.store import load_model

HERE = Path(__file__).parent
PICTURES = {"photo-q20": 20, "photo-q60": 60, "photo-q100": 100, "gray-q50": 50, "dot-q50": 50}
PICTURES["cutout-q50"] = 50


def digest(codes: Codes) -> str:
    """SHA-256 of all codes, slice by slice, as little-endian 16-bit integers."""
    sha = hashlib.sha256()
    for part in (*codes.top, *codes.bottom):
        sha.update(part.astype("<u2").tobytes())
    return sha.hexdigest()


def cutout(photo: Image.Image) -> Image.Image:
    """A disc of the photo with a soft edge and every kind of metadata."""
    y, x = np.mgrid[:40, :60]
    alpha = np.clip(128 + 40 * (16 - np.hypot(y - 20, x - 30)), 0, 255).astype(np.uint8)
    image = photo.crop((210, 100, 270, 140))
    image.putalpha(Image.fromarray(alpha))
    exif = Image.Exif()
    exif[271] = "camera"
    metadata = Metadata(profiles.red_is_green(), exif.tobytes()[6:], b"<xmp/>")
    image.info.update(metadata.info())
    return image


def main() -> None:
    """Write each picture's file, its decoded pixels and the digest of its codes."""
    model = load_model(HERE / "model")
    photo = Image.open(HERE.parent.parent / "examples" / "photo.png").convert("RGB")
    sources = {
        "photo": photo.crop((150, 90, 150 + 115, 90 + 70)),
        "gray": photo.convert("L").crop((200, 100, 217, 133)),
        "dot": photo.crop((210, 100, 211, 101)),
        "cutout": cutout(photo),
    }
    digests = json.loads((HERE / "codes.json").read_text())
    for name, quality in PICTURES.items():
        if name in digests:
            continue
        data = vqzip.compress(sources[name.split("-")[0]], quality, model)
        target = HERE / f"{name}.vqz"
        with target.open("xb") as file:
            file.write(data)
        (HERE / f"{name}.png").write_bytes(to_bytes(vqzip.decompress(data, model), "PNG"))
        parsed = unpack_container(data)
        header, stream = parsed.header, parsed.chunks[0].payload
        codes = unpack(model, stream, header.width, header.height, header.level)
        digests[name] = digest(codes)
        assert np.asarray(Image.open(HERE / f"{name}.png")).shape[:2] == (
            header.height,
            header.width,
        )
    (HERE / "codes.json").write_text(json.dumps(digests, indent=1) + "\n")


if __name__ == "__main__":
    main()
