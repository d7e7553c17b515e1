"""The ladder's models as pictures: what they decode to, their codebooks and their code maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import vqzip
from vqzip.bench.metrics import psnr
from vqzip.codec import CodecModel
from vqzip.codemap import CodeMap
from vqzip.encoding import analyse
from vqzip.entropy import Codes
from vqzip.image import load
from vqzip.latents import Search
from vqzip.quality import level_of_quality
from vqzip.store import load_model

Floats = NDArray[np.float32]

WHITE = (255, 255, 255)
CAPTION = 22  # height in pixels
GAP = 6
CROP = (236, 22, 396, 142)
"""Of the picture that is shown side by side."""


def grid(tiles: Sequence[tuple[str, Image.Image]], columns: int) -> Image.Image:
    """Pictures of one size in rows, with captions above."""
    width, height = tiles[0][1].size
    rows = -(-len(tiles) // columns)
    size = columns * (width + GAP) - GAP, rows * (height + CAPTION + GAP) - GAP
    sheet = Image.new("RGB", size, WHITE)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for index, (caption, tile) in enumerate(tiles):
        x = index % columns * (width + GAP)
        y = index // columns * (height + CAPTION + GAP)
        draw.text((x, y + 2), caption, (0, 0, 0), font)
        sheet.paste(tile, (x, y + CAPTION))
    return sheet


def _enlarged(image: Image.Image, times: int) -> Image.Image:
    size = image.width * times, image.height * times
    return image.resize(size, Image.Resampling.NEAREST)


def side_by_side(photo: Path, models: Sequence[tuple[str, Path, int]]) -> Image.Image:
    """A part of a picture through models, each with a caption and a quality."""
    original = load(photo).pixels
    tiles = [("original", Image.fromarray(original).crop(CROP))]
    for name, folder, quality in models:
        data = vqzip.compress(photo, quality, folder)
        decoded = vqzip.decompress(data, folder)
        bpp = 8 * len(data) / (original.shape[0] * original.shape[1])
        quality_ = psnr(original, np.asarray(decoded))
        tiles.append((f"{name}: {bpp:.2f} bpp, {quality_:.1f} dB", decoded.crop(CROP)))
    return grid([(name, _enlarged(tile, 2)) for name, tile in tiles], 3)


def _codewords(code_map: CodeMap, level: int, group: int) -> Floats:
    """Codewords (K, d) of a group, counted over all slices, in code units."""
    books = [(book, g) for book in code_map.books(level) for g in range(book.groups)]
    book, place = books[group]
    words: Floats = (book.codewords[place] / 64).astype(np.float32)
    return words


def block_codebook(folder: Path, quality: int, side: int) -> Image.Image:
    """Codewords that are blocks of pixels, sorted by brightness, eight times as large."""
    model, level = load_model(folder), level_of_quality(quality)
    words = _codewords(model.bottom, level, 0)
    gain = float(model.transform.bottom_ungain[0, 0].exp())
    pixels = words.reshape(-1, side, side, 3) * gain + 0.5
    pixels = pixels[pixels.mean((1, 2, 3)).argsort()]
    return _tiled(pixels, round(32 / side), 2)


def _tiled(blocks: Floats, times: int, gap: int) -> Image.Image:
    """Blocks (N, h, w, 3) in [0, 1] as near to a square as their number allows."""
    count, height, width, _ = blocks.shape
    columns = 2 ** -(-(count.bit_length() - 1) // 2)
    rows = -(-count // columns)
    sheet = Image.new(
        "RGB", (columns * (width * times + gap), rows * (height * times + gap)), WHITE
    )
    bytes_ = (blocks.clip(0, 1) * 255).round().astype(np.uint8)
    for index, block in enumerate(bytes_):
        place = index % columns * (width * times + gap), index // columns * (height * times + gap)
        sheet.paste(_enlarged(Image.fromarray(block), times), place)
    return sheet


@torch.inference_mode()
def decoded_codebook(folder: Path, group: int) -> Image.Image:
    """What each codeword of a group adds to a grey picture, in the middle of 24x24 pixels.

    All other codes, around it and beside it, are at the mean of their codewords.
    """
    model = load_model(folder)
    t, level, size = model.transform, torch.zeros(1), 3
    means = [w.mean(0) for w in (_codewords(model.bottom, 0, g) for g in range(4))]
    background = torch.from_numpy(np.concatenate(means))[None, :, None, None]
    background = background.expand(1, -1, size + 1, size + 1)
    top = np.concatenate([b.codewords.mean(1).reshape(-1) / 64 for b in model.top.books(0)])
    top_map = torch.from_numpy(top.astype(np.float32))[None, :, None, None]
    h = t.decode_top(top_map.expand(1, -1, 2, 2), level)
    blank = t.decode(background, h, level)
    blocks = []
    for word in torch.from_numpy(_codewords(model.bottom, 0, group)):
        vectors = background.clone()
        vectors[0, 16 * group : 16 * group + 16, 1, 1] = word
        difference = t.decode(vectors, h, level) - blank
        blocks.append(difference[0, :, 4:20, 4:20].permute(1, 2, 0).numpy() + 0.5)
    found = np.stack(blocks)
    strength = np.square(found - 0.5).mean((1, 2, 3))
    return _tiled(found[strength.argsort()], 1, 2)


def _false_colours(words: Floats) -> NDArray[np.uint8]:
    """Codewords (K, d) as colours (K, 3): their three principal components, evened out."""
    centred = words - words.mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:3]
    ranks = (centred @ axes.T).argsort(0).argsort(0)
    colours: NDArray[np.uint8] = (40 + 200 * ranks / max(1, len(words) - 1)).astype(np.uint8)
    return colours


def _map_image(
    code_map: CodeMap, codes: list[Codes], shape: tuple[int, int], level: int, group: int
) -> Image.Image:
    """The codes of one group in false colours, a pixel for each position."""
    columns = [column for part in codes for column in part.T]
    colours = _false_colours(_codewords(code_map, level, group))
    return Image.fromarray(colours[columns[group]].reshape(*shape, 3))


def block_map(folder: Path, quality: int, photo: Path) -> Image.Image:
    """Codes of 4x4 blocks, all four groups in their places."""
    model, level = load_model(folder), level_of_quality(quality)
    pixels = load(photo).pixels
    codes = analyse(model, pixels, level, Search(by_bits=False))
    shape = codes.bottom_shape
    parts = [np.asarray(_map_image(model.bottom, codes.bottom, shape, level, g)) for g in range(4)]
    whole = np.stack(parts).reshape(2, 2, *shape, 3).transpose(2, 0, 3, 1, 4)
    whole = whole.reshape(2 * shape[0], 2 * shape[1], 3)
    return _fitted(Image.fromarray(np.ascontiguousarray(whole)), pixels, 4)


def latent_maps(folder: Path, photo: Path, which: str, group: int) -> Image.Image:
    """Codes of one group of a map."""
    model: CodecModel = load_model(folder)
    pixels = load(photo).pixels
    codes = analyse(model, pixels, 0, Search(by_bits=False))
    if which == "top":
        image = _map_image(model.top, codes.top, codes.shape, 0, group)
        return _fitted(image, pixels, 16)
    image = _map_image(model.bottom, codes.bottom, codes.bottom_shape, 0, group)
    return _fitted(image, pixels, 8)


def _fitted(image: Image.Image, pixels: NDArray[np.uint8], times: int) -> Image.Image:
    """Enlarged, and cut to the size of the picture."""
    return _enlarged(image, times).crop((0, 0, pixels.shape[1], pixels.shape[0]))
