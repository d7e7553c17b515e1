"""Transparency: an alpha plane to bytes and back without loss, and colours for what it hides.

Each pixel is range-coded with frequencies learned from the pixels before it.  As in the prior,
pixels with the same x + 2 y depend on none of each other and are coded at once; FORMAT.md has the
details.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vqzip.coder import TOTAL, Decoder, Encoder
from vqzip.integer import Doubles
from vqzip.layout import Ints

Plane: TypeAlias = NDArray[np.uint8]
Coder: TypeAlias = Callable[[Ints, Doubles], Ints]
"""From symbols (n,) and counts (n, K) to the symbols; that of a decoder ignores those given."""

TILE = 1024
"""Largest side of a tile.  Tiles are coded side by side, which bounds the number of steps."""

_MARGIN = 2  # how far contexts reach, up and to both sides
_NEAR = ((0, -1), (-1, 0), (-1, -1), (-1, 1))  # y, x; first W, N, NW, NE
_FAR = ((0, -2), (-2, 0), (-1, -2), (-2, -1), (-2, 1), (-2, 2))
_SLOPES = (-21, -7, -3, -1, 0, 2, 6, 20)  # upper ends of JPEG-LS's classes of differences
_LOWEST, _HIGHEST, _BETWEEN = range(3)
_BUCKETS = 8  # of differences of either sign


def encode(alpha: Plane) -> bytes:
    """An alpha plane (H, W), uint8, to the payload of a chunk."""
    encoder = Encoder()

    def code(symbols: Ints, counts: Doubles) -> Ints:
        encoder.put(symbols, counts)
        return symbols

    values = _code_values(np.isin(np.arange(256), alpha), code)
    tiles = _Tiles(*alpha.shape)
    tiles.fill(np.searchsorted(values, alpha).astype(np.uint8))
    _code_ranks(tiles, len(values) - 1, code)
    payload = encoder.finish()
    words = -(-len(payload.rstrip(b"\0")) // 4)
    return payload[: 4 * words]  # the decoder takes missing words for zeros


def decode(payload: bytes, width: int, height: int) -> Plane:
    """The payload of a chunk to an alpha plane (height, width), uint8.

    Raises VqzError when the payload cannot be one.
    """
    decoder = Decoder(payload, "alpha")

    def code(_: Ints, counts: Doubles) -> Ints:
        return decoder.get(counts).astype(np.int64)

    values = _code_values(np.zeros(256, bool), code)
    tiles = _Tiles(height, width)
    _code_ranks(tiles, len(values) - 1, code)
    plane: Plane = values[tiles.join()]
    return plane


def fill_hidden(colour: Image.Image, alpha: Image.Image) -> Image.Image:
    """Replace the colours that nobody sees by smooth ones, which cost next to nothing.

    Args:
        colour: Of mode RGB or L.
        alpha: Of mode L and the same size; colours are kept where it is not 0.
    """
    visible = alpha.point([0] + [255] * 255)
    if colour.size == (1, 1) or visible.getextrema() == (255, 255):
        return colour
    # Means of the visible ones in blocks, of ever larger blocks where there are none.
    half = colour.copy()
    half.putalpha(visible)
    half = half.reduce(2)
    smooth = fill_hidden(half.convert(colour.mode), half.getchannel("A"))
    smooth = smooth.resize(colour.size, Image.Resampling.BILINEAR)
    smooth.paste(colour, mask=visible)
    return smooth


class _Learner:
    """Codes symbols, and learns their frequencies in each context from those coded so far.

    A context that was seen little relies on its group.
    """

    def __init__(self, symbols: int, groups: int, contexts: int) -> None:
        """Contexts are counted per group."""
        self._symbols, self._per_group = symbols, contexts
        self._group_seen = np.ones((groups, symbols), np.int64)
        self._seen = np.zeros((groups * contexts, symbols), np.int64)

    def code(self, code: Coder, symbols: Ints, context: Ints) -> Ints:
        """Symbols (n,) in contexts (n,); all are coded before any is learned from."""
        group = context // self._per_group
        backing = self._group_seen[group]
        backing = 512 * backing // backing.sum(1, keepdims=True) + 1
        weight = 256 * self._seen[context] + backing
        free = TOTAL - self._symbols
        counts = weight * free // weight.sum(1, keepdims=True)
        counts[np.arange(len(counts)), weight.argmax(1)] += free - counts.sum(1)
        symbols = code(symbols, counts.astype(np.float64))
        np.add.at(self._group_seen.reshape(-1), group * self._symbols + symbols, 1)
        np.add.at(self._seen.reshape(-1), context * self._symbols + symbols, 1)
        return symbols


class _Tiles:
    """A plane in tiles of one size, each with a margin of zeros."""

    def __init__(self, height: int, width: int) -> None:
        self._shape = height, width
        self._down, self._across = -(-height // TILE), -(-width // TILE)
        self._rows, self._columns = -(-height // self._down), -(-width // self._across)
        self._pitch = self._columns + 2 * _MARGIN
        size = (self._rows + _MARGIN) * self._pitch + _MARGIN  # the last row's are one row below
        self._plane = np.zeros((self._down * self._across, size), np.uint8)
        self.steps = self._columns + 2 * (self._rows - 1)

    def at(self, step: int, y: int, x: int) -> Plane:
        """A view of the pixels (tiles, n) at an offset from those of a step."""
        first = max(0, -((self._columns - 1 - step) // 2))
        last = min(self._rows - 1, step // 2)
        start = (first + _MARGIN + y) * self._pitch + _MARGIN + step - 2 * first + x
        stride = self._pitch - 2  # one down, two to the left
        return self._plane[:, start : start + (last - first) * stride + 1 : stride]

    def fill(self, plane: Plane) -> None:
        """Take over a whole plane."""
        height, width = self._shape
        more = (0, self._down * self._rows - height), (0, self._across * self._columns - width)
        plane = np.pad(plane, more, mode="edge")
        split = plane.reshape(self._down, self._rows, self._across, self._columns)
        self._pixels()[:] = split.swapaxes(1, 2)

    def join(self) -> Plane:
        """The whole plane."""
        height, width = self._shape
        rows: Plane = self._pixels().swapaxes(1, 2).reshape(self._down * self._rows, -1)
        return rows[:height, :width]

    def _pixels(self) -> Plane:
        """A view (down, across, rows, columns)."""
        rows = self._plane[:, :-_MARGIN].reshape(self._down, self._across, -1, self._pitch)
        return rows[:, :, _MARGIN:, _MARGIN:-_MARGIN]


def _code_values(present: NDArray[np.bool_], code: Coder) -> Plane:
    """Which values occur, sorted, of 256 flags; 0 and 255 always do.

    Some planes have a few values only, those between them being no more likely for being near.
    """
    learner = _Learner(2, 1, 2)
    values, last = [0], np.zeros(1, np.int64)
    for value in range(1, 255):
        last = learner.code(code, present[value : value + 1].astype(np.int64), last)
        values += [value] * int(last[0])
    return np.array([*values, 255], np.uint8)


def _code_ranks(tiles: _Tiles, top: int, code: Coder) -> None:
    """Code the tiles of ranks 0..top, or fill them in."""
    kind_of = np.full(top + 1, _BETWEEN, np.int64)
    kind_of[[0, top]] = _LOWEST, _HIGHEST
    kinds = _Learner(3, 3 ** len(_NEAR), 2 ** len(_FAR))
    buckets = _Learner(2 * _BUCKETS + 1, 1, 9**3 * 3**2)
    for step in range(tiles.steps):
        now = tiles.at(step, 0, 0)
        if not now.size:
            continue
        context = np.zeros(now.shape, np.int64)
        for offset in _NEAR:
            context = 3 * context + kind_of[tiles.at(step, *offset)]
        for offset in _FAR:
            context = 2 * context + (tiles.at(step, *offset) > top // 2)
        kind = kinds.code(code, kind_of[now].ravel(), context.ravel())
        ranks = np.where(kind == _HIGHEST, top, 0)
        between = np.flatnonzero(kind == _BETWEEN)
        if len(between):
            near = [
                tiles.at(step, *offset).ravel()[between].astype(np.int64)
                for offset in (*_NEAR, *_FAR[:2])
            ]
            actual = now.ravel()[between].astype(np.int64)
            ranks[between] = _code_between(actual, near, top, buckets, code)
        now[:] = ranks.reshape(now.shape)


def _code_between(ranks: Ints, near: list[Ints], top: int, buckets: _Learner, code: Coder) -> Ints:
    """Code ranks (n,) as differences from JPEG-LS's prediction."""
    w, n, nw, ne, ww, nn = near
    context = np.zeros(len(ranks), np.int64)
    for slope in (ne - n, n - nw, nw - w):
        context = 9 * context + np.searchsorted(_SLOPES, slope)
    for slope in (ww - w, nn - n):
        context = 3 * context + np.sign(slope) + 1
    guess = np.clip(w + n - nw, np.minimum(w, n), np.maximum(w, n))
    half = (top + 1) // 2
    difference = (ranks - guess + half) % (top + 1) - half
    size = np.abs(difference)
    # 0, 1, 2, 3 to 4, 5 to 8, ... to 65 to 128
    bits = np.frexp(np.maximum(size - 1, 0))[1] + (size > 0)
    bucket = buckets.code(code, np.where(difference < 0, bits + _BUCKETS, bits), context)
    bits = np.where(bucket > _BUCKETS, bucket - _BUCKETS, bucket)
    base = np.where(bits > 1, (1 << np.maximum(bits - 2, 0)) + 1, bits)
    rest = size - base
    wide = bits > 2
    if wide.any():
        rest[wide] = code(rest[wide], _UNIFORM[bits[wide]])
    size = base + np.where(wide, rest, 0)
    coded: Ints = (guess + np.where(bucket > _BUCKETS, -size, size)) % (top + 1)
    return coded


def _uniform() -> Doubles:
    """Counts (buckets, 64) of the places in a bucket, which are equally likely."""
    widest = 2 ** (_BUCKETS - 2)
    counts = np.zeros((_BUCKETS + 1, widest))
    for bits in range(2, _BUCKETS + 1):
        counts[bits, : 2 ** (bits - 2)] = (TOTAL - widest) // 2 ** (bits - 2)
    return counts


_UNIFORM = _uniform()
