"""How much of the error in smooth areas follows the grid of 8 pixels that transforms work on.

    python results/grid.py FOLDER [--model DIR] [--qualities 10,20,30,40]

Prints the power of the error at multiples of 1/8 cycles per pixel over that at the frequencies
around them, in windows where the picture is smooth.  It is 1 for an error that does not know of the
grid, and more where a pattern repeats from block to block, which one sees sooner than PSNR does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vqzip.process import prepare

prepare()

import numpy as np  # noqa: E402
from effort import numbers  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from PIL import Image  # noqa: E402
from plot import markdown  # noqa: E402

import vqzip  # noqa: E402
from vqzip.store import load_model  # noqa: E402

Plane = NDArray[np.float64]

WINDOW = 64
"""Pixels of a row or column whose spectrum is taken."""
PERIOD = 8
SMOOTH = 4.0
"""Standard deviation at most, in levels of 8 bits, of each half of a smooth window."""
NEIGHBOURS = (-2, -1, 1, 2)
"""Of a frequency, in steps of 1 / WINDOW, that it is compared with."""


def brightness(image: Image.Image) -> Plane:
    """Mean of red, green and blue (H, W), 0 to 255."""
    plane: Plane = np.asarray(image.convert("RGB"), np.float64).mean(2)
    return plane


def smooth_spectra(original: Plane, decoded: Plane) -> Plane:
    """Power spectra (windows, WINDOW / 2 + 1) of the error along smooth pieces of rows."""
    columns = original.shape[1] // WINDOW * WINDOW
    pieces = original[:, :columns].reshape(-1, 2, WINDOW // 2)
    smooth = (pieces.std(2) < SMOOTH).all(1)
    error = (decoded - original)[:, :columns].reshape(-1, WINDOW)[smooth]
    taper = np.hanning(WINDOW)
    spectra: Plane = np.square(np.abs(np.fft.rfft(error * taper)))
    return spectra


def grid_ratio(spectra: Plane) -> float:
    """Power at multiples of 1/8 cycles per pixel over that around them."""
    power = spectra.sum(0)
    step = WINDOW // PERIOD
    on = np.arange(step, WINDOW // 2, step)
    around = power[on[:, None] + np.array(NEIGHBOURS)]
    return float(power[on].sum() / around.mean(1).sum())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--qualities", type=numbers, default=[10, 20, 30, 40])
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    table = [["quality", "bpp", "power on the grid"]]
    for quality in arguments.qualities:
        spectra, rates = [], []
        for path in sorted(arguments.folder.glob("*.png")):
            image = Image.open(path).convert("RGB")
            data = vqzip.compress(image, quality=quality, model=model)
            rates.append(8 * len(data) / (image.width * image.height))
            original, decoded = (brightness(x) for x in (image, vqzip.decompress(data, model)))
            spectra += [
                smooth_spectra(original, decoded),
                smooth_spectra(original.T, decoded.T),
            ]
        ratio = grid_ratio(np.concatenate(spectra))
        table.append([str(quality), f"{np.mean(rates):.3f}", f"{ratio:.2f}"])
    print(markdown(table))


if __name__ == "__main__":
    main()
