"""Compress a picture in memory, decompress it, and print what that cost.

python examples/python_api.py examples/photo.png [QUALITY]
"""

import sys

import numpy as np
from PIL import Image

import vqzip


def main(path: str, quality: int = 50) -> None:
    """Print bytes, bits per pixel and PSNR of the picture at `path`."""
    with Image.open(path) as source:
        original = source.convert("RGB")
    data = vqzip.compress(original, quality)
    decoded = vqzip.decompress(data)

    error = np.asarray(original, np.float64) - np.asarray(decoded)
    psnr = 10 * np.log10(255**2 / np.square(error).mean())
    print(f"{path}: {len(data):,} bytes, {vqzip.info(data).bpp:.3f} bpp, PSNR {psnr:.2f} dB")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
