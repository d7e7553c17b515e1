"""Made the golden files, each of them once: they must decode for ever.

    PYTHONPATH=tests python tests/golden/make.py

Adds those that are not there yet; it refuses to replace any.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import profiles
from golden_models import (
    ADAPTIVE,
    EDGED,
    FILTERED,
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
from safetensors.numpy import save_file

import vqzip
from vqzip.codec import CodecModel
from vqzip.image import to_bytes
from vqzip.metadata import Metadata
from vqzip.store import load_model
from vqzip.terms import PLAIN_TERMS, TERMS, TONED_TERMS

HERE = Path(__file__).parent
PICTURES = "photo-q20", "photo-q60", "photo-q100", "gray-q50", "dot-q50", "cutout-q50"


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


def write(folder: Path, name: str, picture: Image.Image, model: CodecModel) -> bytes:
    """A file at the quality that its name ends with, and the pixels it decodes to."""
    data = vqzip.compress(picture, int(name.rpartition("q")[2]), model)
    with (folder / f"{name}.vqz").open("xb") as file:
        file.write(data)
    decoded = vqzip.decompress(data, model)
    assert decoded.size == picture.size
    (folder / f"{name}.png").write_bytes(to_bytes(decoded, "PNG"))
    return data


def make_graded(photo: Image.Image) -> None:
    """Files of such a model on both sides of the middle of its levels."""
    if GRADED.exists():
        return
    GRADED.mkdir()
    model = with_ends()
    for quality in (20, 80):
        write(GRADED, f"photo-q{quality}", photo, model)


def make_adaptive(photo: Image.Image) -> None:
    """A file whose frequencies learn from its codes, and the digest of these."""
    if ADAPTIVE.exists():
        return
    ADAPTIVE.mkdir()
    model = with_learning()
    data = write(ADAPTIVE, "photo-q70", photo, model)
    (ADAPTIVE / "codes.txt").write_text(digest(codes_of(data, model)) + "\n")


def make_filtered(folder: Path, photo: Image.Image, terms: int, spread: float) -> None:
    """A file whose picture has a filter, and what that is: kernels of some terms."""
    if folder.exists():
        return
    folder.mkdir()
    rng = np.random.default_rng(0)
    weights = rng.integers(2**16, 2**27, (4, 15)).astype(np.int32)
    weights[:, 7] = 2**28
    filters: dict[str, NDArray[Any]] = {
        "wiener.kernels": rng.normal(0, spread, (4, 3, terms)).astype(np.float16),
        "wiener.steps": np.linspace(1, 0.5, 129, dtype=np.float32),
        "wiener.weights": weights,
    }
    save_file(filters, folder / "filters.safetensors")
    write(folder, "photo-q60", photo, with_filters(folder))


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
    for name in PICTURES:
        if name in digests:
            continue
        data = write(HERE, name, sources[name.split("-")[0]], model)
        digests[name] = digest(codes_of(data, model))
    small = sources["photo"].crop((40, 20, 90, 60))
    make_filtered(FILTERED, small, PLAIN_TERMS, 0.01)
    make_filtered(TONED, small, TONED_TERMS, 0.003)
    make_filtered(EDGED, small, TERMS, 0.002)
    make_graded(small)
    make_adaptive(sources["photo"])
    (HERE / "codes.json").write_text(json.dumps(digests, indent=1) + "\n")


if __name__ == "__main__":
    main()
