"""The last step of decoding: a Wiener filter of the picture's own, told in a few codes.

One decoder serves all pictures, and what it leaves over is much the same all over one of them: a
tint, colours that follow the brightness more or less than it thinks, edges that are a little soft.
So the encoder decodes the picture, or parts of it, and sends the filter that takes away most of
that, as video codecs do (Tsai et al. 2013, "Adaptive Loop Filtering for Video Coding").  It has
products of colours in it, too, for tints that depend on the colour (a Volterra filter), and is a
combination of a few dozen learned kernels (`train/filters.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vqzip.coder import TOTAL, Decoder, Sink, frequencies
from vqzip.entropy import EXP2_BITS
from vqzip.integer import Doubles, Floats

Coefficients = NDArray[np.int32]

REACH = 3
"""Pixels that a filter looks up, down, left and right."""

TAPS = tuple(
    (dy, dx)
    for dy in range(REACH + 1)
    for dx in range(-REACH, REACH + 1)
    if (dy, dx) > (0, 0) and dy + abs(dx) <= REACH
)
"""Pixels of a diamond, one of each pair that lies opposite: (rows down, columns right)."""

SPACING = 3
"""Of the rows and columns that filters are found from: neighbours tell much the same.

It is odd, as an even one would see one half alone of what changes from pixel to pixel.
"""

OFFSET = 1 / 8
"""What stands for brightness itself, so that coefficients are alike."""

EVEN = np.full((1, 2), 2.0**EXP2_BITS)
"""Weights of whether there is a filter."""

PAIRS = tuple((i, j) for i in range(3) for j in range(i, 3))
"""Of colours."""

PRODUCTS = len(PAIRS) + 3 + 4
"""Of colours: of two, of one and the detail, and of three alike."""

TERMS = 1 + 3 + 3 * len(TAPS) + PRODUCTS
"""What a filter is linear in; `terms` says what that is."""

SWEEPS = 8
"""How often the choice of all coefficients is gone through, at most."""


def terms(image: Tensor) -> Tensor:
    """What filters are linear in, (TERMS, n), of every third inner pixel of an image (3, H, W).

    The constant; each colour less 0.5; for each tap, each colour's two neighbours less twice
    itself; and products of colours less 0.5, with each other and with the detail, which is the
    mean of neighbours less the pixel; and the cubes of colours and of their mean.
    """
    _, height, width = image.shape

    def shifted(dy: int, dx: int) -> Tensor:
        y, x = REACH + dy, REACH + dx
        rows, columns = height - 2 * REACH + y, width - 2 * REACH + x
        return image[:, y:rows:SPACING, x:columns:SPACING]

    here = shifted(0, 0)
    found = torch.empty(TERMS, *here.shape[1:])
    constant, colours, taps, more = torch.split(found, [1, 3, 3 * len(TAPS), PRODUCTS])
    constant.fill_(OFFSET)
    torch.sub(here, 0.5, out=colours)
    for tap, (dy, dx) in zip(torch.split(taps, 3), TAPS, strict=True):
        torch.add(shifted(dy, dx), shifted(-dy, -dx), out=tap).sub_(here, alpha=2)
    torch.cat(_products(colours, taps.mean(0, keepdim=True) / 2), out=more)
    return found.flatten(1)


def _products(colours: Tensor, detail: Tensor) -> list[Tensor]:
    """Of colours (3, H, W), less 0.5, with each other, and with the detail (1, H, W)."""
    pairs = (colours[i : i + 1] * colours[j : j + 1] for i, j in PAIRS)
    brightness = colours.mean(0, keepdim=True)
    cubes = (x * x * x for x in (colours, brightness))
    return [*pairs, colours * detail, *cubes]


@dataclass(frozen=True)
class Statistics:
    """What least squares need to know of a picture, or of parts of it.

    Attributes:
        products: Means of products of terms (TERMS, TERMS).
        wanted: Means of products of terms and of what the picture lacks (TERMS, 3).
        count: Pixels they are means of.
    """

    products: Doubles
    wanted: Doubles
    count: int

    @classmethod
    def of(cls, decoded: Tensor, original: Tensor) -> Statistics:
        """Of inner pixels of images (3, H, W) in [0, 1], of which there may be none."""
        _, height, width = original.shape
        if min(height, width) <= 2 * REACH:
            return cls(np.zeros((TERMS, TERMS)), np.zeros((TERMS, 3)), 0)
        x = terms(decoded)
        rows, columns = (slice(REACH, size - REACH, SPACING) for size in (height, width))
        lacking = (original[:, rows, columns] - decoded[:, rows, columns]).flatten(1)
        squares, wanted = (sums.double().numpy() for sums in (x @ x.T, x @ lacking.T))
        return cls(squares / x.shape[1], wanted / x.shape[1], x.shape[1])

    @classmethod
    def joined(cls, parts: list[Statistics]) -> Statistics:
        """Of parts together."""
        count = max(1, sum(part.count for part in parts))
        products = sum(part.products * (part.count / count) for part in parts)
        wanted = sum(part.wanted * (part.count / count) for part in parts)
        return cls(np.asarray(products), np.asarray(wanted), count)


@dataclass(frozen=True)
class FilterBank:
    """The kernels that filters are made of, and what their coefficients take.

    Attributes:
        kernels: (K, 3, TERMS), what each adds to each colour.
        steps: What a coefficient of one is at each position of the quality scale.
        weights: (K, S) of the coefficients from -(S - 1) / 2 to (S - 1) / 2, for the coder, the
            largest of each being 2^28.
    """

    kernels: Floats
    steps: Floats
    weights: Doubles

    @cached_property
    def bits(self) -> Doubles:
        """What coefficients take (K, S)."""
        bits: Doubles = -np.log2(frequencies(self.weights) / TOTAL)
        return bits

    @property
    def largest(self) -> int:
        """Of coefficients."""
        return int(self.weights.shape[1] // 2)

    def put(self, coefficients: Coefficients | None, sink: Sink) -> None:
        """Append a filter to a stream; None is no filter."""
        sink.put(np.array([int(coefficients is not None)]), EVEN)
        if coefficients is not None:
            sink.put(coefficients + self.largest, self.weights)

    def get(self, decoder: Decoder) -> Coefficients | None:
        """The filter that a stream goes on with."""
        if not decoder.get(EVEN)[0]:
            return None
        found: Coefficients = decoder.get(self.weights) - np.int32(self.largest)
        return found

    def layers(self, coefficients: Coefficients, level: int) -> tuple[Tensor, Tensor, Tensor]:
        """The filter as a convolution, weight (4, 3, 7, 7) and bias (4,), and what follows it.

        The last output is the detail; the weight (3, PRODUCTS) is theirs.
        """
        scaled = torch.from_numpy(coefficients * self.steps[level])[:, None, None]
        sums = (torch.from_numpy(self.kernels) * scaled).sum(0).float()
        constant, colours, taps, products = torch.split(sums, [1, 3, 3 * len(TAPS), PRODUCTS], 1)
        weight = torch.zeros(4, 3, 2 * REACH + 1, 2 * REACH + 1)
        weight[:3, :, REACH, REACH] = torch.eye(3) + colours
        mean = torch.full((1, 3), 1 / (6 * len(TAPS)))
        for (dy, dx), tap in zip(TAPS, torch.split(taps, 3, 1), strict=True):
            outputs = torch.cat([tap, mean])
            weight[:, :, REACH + dy, REACH + dx] += outputs
            weight[:, :, REACH - dy, REACH - dx] += outputs
            weight[:, :, REACH, REACH] -= 2 * outputs
        bias = OFFSET * constant[:, 0] - 0.5 * colours.sum(1)
        return weight, F.pad(bias, (0, 1)), products

    def filtered(self, image: Tensor, coefficients: Coefficients, level: int) -> Tensor:
        """Of an image (1, 3, H, W) in [0, 1]; what comes out may be beyond.

        Pixels that the filter would see less of than its reach stay as they are.
        """
        height, width = image.shape[2:]
        if min(height, width) <= 2 * REACH:
            return image
        weight, bias, products = self.layers(coefficients, level)
        linear, detail = torch.split(F.conv2d(image, weight, bias)[0], [3, 1])
        inner = image[0, :, REACH : height - REACH, REACH : width - REACH]
        more = torch.cat(_products(inner - 0.5, detail))
        result = image.clone()
        result[0, :, REACH : height - REACH, REACH : width - REACH] = linear + torch.einsum(
            "ct,thw->chw", products, more
        )
        return result

    def fit(self, found: Statistics, level: int, worth: float) -> Coefficients | None:
        """The filter of least squared error plus bits, None if that is none.

        `worth`: bits for a squared error of 1 in each of the picture's pixels, colours summed up.
        """
        scaled = self.kernels.astype(np.float64) * self.steps[level]
        gains = worth * np.einsum("kct,tc->k", scaled, found.wanted)
        inner = np.einsum("kct,tu->kcu", scaled, found.products)
        squares = worth * np.einsum("kcu,lcu->kl", inner, scaled)
        values = np.arange(-self.largest, self.largest + 1)
        ridge = np.diag(np.diag(squares)) * 1e-3 + np.eye(len(squares))
        start = np.rint(np.linalg.solve(squares + ridge, gains))
        chosen = np.clip(start, -self.largest, self.largest)
        for _ in range(SWEEPS):
            before = chosen.copy()
            for k in range(len(chosen)):
                slope = gains[k] - squares[k] @ chosen + squares[k, k] * chosen[k]
                cost = squares[k, k] * values**2 - 2 * slope * values + self.bits[k]
                chosen[k] = values[cost.argmin()]
            if (chosen == before).all():
                break
        codes = chosen.astype(np.int32)
        taken = self.bits[np.arange(len(codes)), codes + self.largest].sum()
        cost = chosen @ squares @ chosen - 2 * gains @ chosen + taken
        return codes if cost < 0 else None
