"""The last step of decoding: a Wiener filter of the picture's own, told in a few codes.

One decoder serves all pictures, and what it leaves over is much the same all over one of them: a
tint, colours that follow the brightness more or less than it thinks, edges that are a little soft.
So the encoder decodes the picture, or parts of it, and sends the filter that takes away most of
that, as video codecs do (Tsai et al. 2013, "Adaptive Loop Filtering for Video Coding").  It has
products of colours and details in it, too, for tints and edges that depend on the colour (a
Volterra filter), differences to neighbours that are clipped, so that edges do not count as much as
what is flat (Taquet et al. 2019, "Non-linear adaptive loop filter"), and all of that by how much
goes on around the pixel.  It is a combination of learned kernels (`train/filters.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vqzip import native, structures
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

_NEIGHBOURS = tuple(np.array(TAPS).T.copy())  # rows down and columns right, for the compiled loop

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

MIXED = tuple((i, j) for i in range(3) for j in range(3) if i != j)
"""Colours of which one is squared."""

PLAIN_PRODUCTS = len(PAIRS) + 3 + 4
"""Of colours: of two, of one and the detail, and of three alike."""

PRODUCTS = PLAIN_PRODUCTS + len(PAIRS) + len(MIXED) + 4 + 4 + 1 + 3 + 3 + 4
"""These and what follows them in `_products`."""

LINEAR = 1 + 3 + 3 * len(TAPS)
"""Terms that are no products."""

NONLINEAR = PRODUCTS + 3 * len(TAPS) + len(TAPS) + PRODUCTS + len(TAPS)
"""All others."""

TERMS = LINEAR + NONLINEAR
"""What a filter is linear in; `terms` says what that is."""

PLAIN_TERMS, TONED_TERMS = LINEAR + PLAIN_PRODUCTS, LINEAR + PRODUCTS
"""Those that older models' filters have, the first ones."""

LIMIT = 1 / 32
"""Of differences that are clipped."""

QUIET = 1 / 16
"""How much goes on around a pixel where half of what counts by that does."""

STRIP = 32
"""Rows that are filtered at once without the compiled loop."""

SWEEPS = 8
"""How often the choice of all coefficients is gone through, at most."""


def of_all_terms(kernels: Floats) -> Floats:
    """Kernels (K, 3, n) of the first terms as kernels of all of them."""
    return np.pad(kernels, ((0, 0), (0, 0), (0, TERMS - kernels.shape[2])))


def terms(image: Tensor, spacing: int = SPACING) -> Tensor:
    """What filters are linear in, (TERMS, h, w), of some inner pixels of an image (3, H, W).

    The constant; each colour less 0.5; for each tap, each colour's two neighbours less twice
    itself; what `_products` gives, a detail being the mean of neighbours less the pixel.

    Then, for each tap, each colour's two differences to the pixel, clipped, and both sizes of those
    in brightness; and, times a share that grows with the mean of these, the products, and for each
    tap the differences in brightness.
    """
    _, height, width = image.shape

    def shifted(dy: int, dx: int) -> Tensor:
        y, x = REACH + dy, REACH + dx
        rows, columns = height - 2 * REACH + y, width - 2 * REACH + x
        return image[:, y:rows:spacing, x:columns:spacing]

    here = shifted(0, 0)
    taps, limited, sizes, differences = [], [], [], []
    for dy, dx in TAPS:
        one, other = shifted(dy, dx) - here, shifted(-dy, -dx) - here
        taps.append(one + other)
        limited.append(one.clamp(-LIMIT, LIMIT) + other.clamp(-LIMIT, LIMIT))
        sizes.append(one.mean(0).abs() + other.mean(0).abs())
        differences.append(taps[-1].mean(0))
    colours, details = here - 0.5, torch.stack(taps).mean(0) / 2
    products = torch.cat(_products(colours, details))
    activity = torch.stack(sizes).mean(0)
    share = activity / (activity + QUIET)
    constant = torch.full_like(here[:1], OFFSET)
    flat = [torch.stack(sizes), share * products, share * torch.stack(differences)]
    return torch.cat([constant, colours, *taps, products, *limited, *flat])


def _products(colours: Tensor, details: Tensor) -> list[Tensor]:
    """Of colours (3, H, W), less 0.5, with each other, and with their details (3, H, W).

    Two colours, a colour and the mean detail, cubes of colours and of their mean, the brightness.
    Then two colours and the mean detail, a colour and another one's square, and Chebyshev
    polynomials of twice a colour and brightness: of degrees four, five and, of brightness, six; a
    colour's own detail times brightness and times the colour; and cubes of four times the details
    and their mean.
    """
    pairs = [colours[i : i + 1] * colours[j : j + 1] for i, j in PAIRS]
    brightness, detail = (x.mean(0, keepdim=True) for x in (colours, details))
    tones = torch.cat([colours, brightness])
    squares = colours * colours
    mixed = (squares[i : i + 1] * colours[j : j + 1] for i, j in MIXED)
    degrees = [torch.ones_like(tones), 2 * tones]
    for _ in range(2, 7):
        degrees.append(4 * tones * degrees[-1] - degrees[-2])
    sharp = 4 * torch.cat([details, detail])
    return [
        *pairs,
        colours * detail,
        tones * tones * tones,
        *(pair * detail for pair in pairs),
        *mixed,
        degrees[4],
        degrees[5],
        degrees[6][3:],
        details * brightness,
        details * colours,
        sharp * sharp * sharp,
    ]


def _filtered(image: Tensor, weights: Floats) -> Tensor:
    """What `FilterBank.filtered` does, with PyTorch: slower, but with gradients.

    Weights are (3, TERMS).  Terms of some rows are made at once, and again for gradients.
    """
    factors = torch.from_numpy(weights)

    def correction(rows: Tensor) -> Tensor:
        return torch.einsum("ct,thw->chw", factors, terms(rows, 1))

    height = image.shape[2]
    strips = []
    for top in range(0, height - 2 * REACH, STRIP):
        rows = image[0, :, top : min(top + STRIP + 2 * REACH, height)]
        strips.append(checkpoint(correction, rows, use_reentrant=False, preserve_rng_state=False))
    return image + F.pad(torch.cat(strips, 1), (REACH,) * 4)


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
        x = terms(decoded).flatten(1)
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


def _of_pixels(weights: Floats) -> tuple[Floats, ...]:
    """Weights of terms (3, TERMS) as bias (3,) and weights of what the compiled loop has.

    That is a pixel's colours (3, 3), sums of pairs of neighbours (3, taps, 3), and all other terms
    (3, NONLINEAR).
    """
    constant, colours, taps, others = np.split(weights, [1, 4, LINEAR], 1)
    taps = taps.reshape(3, len(TAPS), 3)
    bias = OFFSET * constant[:, 0] - 0.5 * colours.sum(1)
    centre = np.eye(3, dtype=np.float32) + colours - 2 * taps.sum(1)
    return tuple(np.ascontiguousarray(x, np.float32) for x in (bias, centre, taps, others))


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

    def weights_of(self, coefficients: Coefficients, level: int) -> Floats:
        """Those of terms in a filter (3, TERMS)."""
        scaled = (coefficients * self.steps[level])[:, None, None]
        sums: Floats = (self.kernels * scaled).sum(0).astype(np.float32)
        return sums

    def filtered(self, image: Tensor, coefficients: Coefficients, level: int) -> Tensor:
        """Of an image (1, 3, H, W) in [0, 1]; what comes out may be beyond.

        Pixels that the filter would see less of than its reach stay as they are.
        """
        if min(image.shape[2:]) <= 2 * REACH:
            return image
        weights = self.weights_of(coefficients, level)
        if native.library() is None or image.requires_grad:
            return _filtered(image, weights)
        source = image.contiguous()
        result = source.clone()
        filter_ = structures.Filter(*_of_pixels(weights), *_NEIGHBOURS)
        before, after, threads = source.data_ptr(), result.data_ptr(), torch.get_num_threads()
        native.call("vqzip_filter", filter_.pointer, before, *image.shape[2:], after, threads)
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
