"""Made the golden files, each of them once: they must decode for ever.

    PYTHONPATH=tests python tests/golden/make.py

Adds those that are not there yet; it refuses to replace any.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import profiles
from golden_models import ADAPTIVE, FILTERED, GRADED, with_ends, with_filters, with_learning
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file

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


def make_graded(photo: Image.Image) -> None:
    """Files of such a model on both sides of the middle of its levels."""
    if GRADED.exists():
        return
    GRADED.mkdir()
    model = with_ends()
    for quality in (20, 80):
        data = vqzip.compress(photo, quality, model)
        (GRADED / f"photo-q{quality}.vqz").write_bytes(data)
        decoded = vqzip.decompress(data, model)
        (GRADED / f"photo-q{quality}.png").write_bytes(to_bytes(decoded, "PNG"))


def make_adaptive(photo: Image.Image) -> None:
    """A file whose frequencies learn from its codes, and the digest of these."""
    if ADAPTIVE.exists():
        return
    ADAPTIVE.mkdir()
    model = with_learning()
    data = vqzip.compress(photo, 70, model)
    (ADAPTIVE / "photo-q70.vqz").write_bytes(data)
    (ADAPTIVE / "photo-q70.png").write_bytes(to_bytes(vqzip.decompress(data, model), "PNG"))
    parsed = unpack_container(data)
    header = parsed.header
    codes = unpack(model, parsed.code_stream, header.width, header.height, header.level)
    (ADAPTIVE / "codes.txt").write_text(digest(codes) + "\n")


def make_filtered(photo: Image.Image) -> None:
    """A file whose picture has a filter, and what that is."""
    if FILTERED.exists():
        return
    FILTERED.mkdir()
    rng = np.random.default_rng(0)
    weights = rng.integers(2**16, 2**27, (4, 15)).astype(np.int32)
    weights[:, 7] = 2**28
    filters: dict[str, NDArray[Any]] = {
        "wiener.kernels": rng.normal(0, 0.01, (4, 3, 53)).astype(np.float16),
        "wiener.steps": np.linspace(1, 0.5, 129, dtype=np.float32),
        "wiener.weights": weights,
    }
    save_file(filters, FILTERED / "filters.safetensors")
    model = with_filters()
    data = vqzip.compress(photo, 60, model)
    (FILTERED / "photo-q60.vqz").write_bytes(data)
    (FILTERED / "photo-q60.png").write_bytes(to_bytes(vqzip.decompress(data, model), "PNG"))


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
    make_filtered(sources["photo"].crop((40, 20, 90, 60)))
    make_graded(sources["photo"].crop((40, 20, 90, 60)))
    make_adaptive(sources["photo"])
    (HERE / "codes.json").write_text(json.dumps(digests, indent=1) + "\n")


if __name__ == "__main__":
    main()
