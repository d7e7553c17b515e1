"""Rate and distortion of a model on a folder of pictures, from real files.

    python examples/rate_distortion.py FOLDER [--model DIR] [--qualities 20,40,60] > rows.tsv

One row for each picture and quality: bytes of the .vqz file, bits per pixel, PSNR of the 8-bit RGB
pixels and, where pytorch-msssim is installed, MS-SSIM.  The means go to stderr.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import vqzip
from vqzip.store import load_model


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of 8-bit pixels in dB."""
    error = np.square(a.astype(np.float64) - b.astype(np.float64)).mean()
    return 10 * math.log10(255**2 / error) if error else math.inf


def ms_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """MS-SSIM of RGB pixels (H, W, 3), or nan where it can't be had."""
    try:
        import torch
        from pytorch_msssim import ms_ssim as measure
    except ImportError:
        return math.nan
    if min(a.shape[:2]) <= 160:  # five scales of an 11-pixel window
        return math.nan
    x, y = (torch.from_numpy(p.copy()).permute(2, 0, 1)[None].float() for p in (a, b))
    return float(measure(x, y, data_range=255))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--qualities", default="10,20,30,40,50,60,70,80,90,100")
    options = parser.parse_args()
    model = load_model(options.model)
    pictures = sorted(p for p in options.folder.iterdir() if p.suffix.lower() in {".png", ".jpg"})
    print("picture\tquality\tbytes\tbpp\tpsnr\tms_ssim")
    for quality in map(int, options.qualities.split(",")):
        rows = []
        for path in pictures:
            original = np.asarray(Image.open(path).convert("RGB"))
            data = vqzip.compress(path, quality, model)
            decoded = np.asarray(vqzip.decompress(data, model).convert("RGB"))
            bpp = 8 * len(data) / (original.shape[0] * original.shape[1])
            rows.append((bpp, psnr(original, decoded), ms_ssim(original, decoded)))
            numbers = "\t".join(f"{value:.5f}" for value in rows[-1])
            print(f"{path.stem}\t{quality}\t{len(data)}\t{numbers}", flush=True)
        means = "  ".join(f"{value:.4f}" for value in np.mean(rows, axis=0))
        print(f"quality {quality}: bpp, PSNR, MS-SSIM  {means}", file=sys.stderr)


if __name__ == "__main__":
    main()
