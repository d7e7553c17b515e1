"""How the model takes pictures that are no photos: bits per pixel and PSNR at three qualities.

    python results/kinds.py [--model DIR] [--qualities 25,50,90] [--out DIR]

Prints a table and writes the decoded pictures to the folder, build/kinds, to be looked at.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from vqzip.process import prepare

prepare()

import numpy as np  # noqa: E402
from effort import numbers  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from PIL import Image, ImageDraw, ImageFont  # noqa: E402
from plot import markdown  # noqa: E402

import vqzip  # noqa: E402
from vqzip.bench.metrics import psnr  # noqa: E402
from vqzip.store import load_model  # noqa: E402

Pixels = NDArray[np.uint8]
WIDTH, HEIGHT = 512, 384


def noise() -> Pixels:
    """Each value on its own."""
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def flat() -> Pixels:
    """One colour."""
    return np.full((HEIGHT, WIDTH, 3), (40, 120, 200), np.uint8)


def text() -> Pixels:
    """A page of it."""
    page = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(page)
    words = "The quick brown fox jumps over the lazy dog, 0123456789 times or more. "
    for line in range(HEIGHT // 16):
        size = 10 + 2 * (line % 3)
        start = 7 * line % len(words)
        draw.text((8, 16 * line), (words * 2)[start:][:80], "black", ImageFont.load_default(size))
    return np.asarray(page)


def chessboard() -> Pixels:
    """Squares of 8 pixels above, of one pixel below."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    squares = np.where(y < HEIGHT // 2, x // 8 + y // 8, x + y) % 2
    board: Pixels = np.repeat(squares[..., None] * 255, 3, axis=2).astype(np.uint8)
    return board


def gradients() -> Pixels:
    """A slow one for each channel."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    parts = [x / (WIDTH - 1), y / (HEIGHT - 1), (x + y) / (WIDTH + HEIGHT - 2)]
    slow: Pixels = (255 * np.stack(parts, axis=-1)).round().astype(np.uint8)
    return slow


def screenshot() -> Pixels:
    """A window with a title, buttons, lines of text and a chart."""
    screen = Image.new("RGB", (WIDTH, HEIGHT), (236, 236, 240))
    draw, font = ImageDraw.Draw(screen), ImageFont.load_default(12)
    draw.rectangle((20, 16, WIDTH - 20, HEIGHT - 16), "white", (120, 120, 120))
    draw.rectangle((20, 16, WIDTH - 20, 40), (52, 101, 164))
    draw.text((28, 20), "Window - document.txt", "white", font)
    for i, word in enumerate(("File", "Edit", "View", "Help")):
        draw.rounded_rectangle((30 + 64 * i, 48, 86 + 64 * i, 70), 5, (225, 225, 225), "gray")
        draw.text((40 + 64 * i, 52), word, "black", font)
    for i in range(14):
        draw.text((32, 80 + 18 * i), f"{i:3}  let total_{i} = item[{i}] * 3.14;", "black", font)
    for i, tall in enumerate((40, 90, 65, 130, 160, 110)):
        left = 300 + 28 * i
        colour = tuple(np.random.default_rng(i).integers(0, 256, 3).tolist())
        draw.rectangle((left, 340 - tall, left + 20, 340), colour)
    draw.line([(300, 320), (340, 260), (390, 290), (460, 200)], "red", 2)
    return np.asarray(screen)


def black() -> Pixels:
    """Nothing."""
    return np.zeros((HEIGHT, WIDTH, 3), np.uint8)


def white() -> Pixels:
    """Everything."""
    return np.full((HEIGHT, WIDTH, 3), 255, np.uint8)


def saturated() -> Pixels:
    """Fields of 64 pixels, of the eight colours at the corners."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] // 64
    index = (x + 3 * y) % 8
    return np.stack([index & 1, index >> 1 & 1, index >> 2], axis=-1).astype(np.uint8) * 255


KINDS: tuple[Callable[[], Pixels], ...] = (
    noise, flat, text, chessboard, gradients, screenshot, black, white, saturated,
)  # fmt: skip


def main() -> None:
    """Measure all kinds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    parser.add_argument("--qualities", type=numbers, default=[25, 50, 90])
    parser.add_argument("--out", type=Path, default=Path("build/kinds"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    model = load_model(arguments.model)
    lines = [["picture", *(f"bpp and PSNR at {q}" for q in arguments.qualities)]]
    for make in KINDS:
        pixels, line = make(), [make.__name__]
        Image.fromarray(pixels).save(arguments.out / f"{make.__name__}.png")
        for quality in arguments.qualities:
            data = vqzip.compress(Image.fromarray(pixels), quality, model)
            decoded = vqzip.decompress(data, model)
            decoded.save(arguments.out / f"{make.__name__}-q{quality}.png")
            value = psnr(pixels, np.asarray(decoded.convert("RGB")))
            line.append(f"{8 * len(data) / (WIDTH * HEIGHT):.3f}, {value:.2f} dB")
        lines.append(line)
    print(markdown(lines))


if __name__ == "__main__":
    main()
