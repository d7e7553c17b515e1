"""What a picture's own filter is linear in: terms of a pixel and of its neighbours.

Most are no linear ones.  Products of colours and details are for tints and edges that depend on the
colour (a Volterra filter).  Differences to neighbours are clipped, too, so that edges do not count
as much as what is flat (Taquet et al. 2019, "Non-linear adaptive loop filter").  And all of that
may depend on how much goes on around the pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from vqzip.integer import Floats

REACH = 3
"""Pixels that a filter looks up, down, left and right."""

TAPS = tuple(
    (dy, dx)
    for dy in range(REACH + 1)
    for dx in range(-REACH, REACH + 1)
    if (dy, dx) > (0, 0) and dy + abs(dx) <= REACH
)
"""Pixels of a diamond, one of each pair that lies opposite: (rows down, columns right)."""

OFFSET = 1 / 8
"""What stands for brightness itself, so that coefficients are alike."""

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


def of_all_terms(kernels: Floats) -> Floats:
    """Kernels (K, 3, n) of the first terms as kernels of all of them."""
    return np.pad(kernels, ((0, 0), (0, 0), (0, TERMS - kernels.shape[2])))


def inner(image: Tensor, dy: int = 0, dx: int = 0) -> Tensor:
    """Inner pixels of an image (3, H, W), or what is so far down and to the right of them."""
    _, height, width = image.shape
    y, x = REACH + dy, REACH + dx
    return image[:, y : height - 2 * REACH + y, x : width - 2 * REACH + x]


def terms(image: Tensor) -> Tensor:
    """What filters are linear in, (TERMS, h, w), of the inner pixels of an image (3, H, W).

    The constant; each colour less 0.5; for each tap, each colour's two neighbours less twice
    itself; what `_products` gives, a detail being the mean of neighbours less the pixel.

    Then, for each tap, each colour's two differences to the pixel, clipped, and both sizes of those
    in brightness; and, times a share that grows with the mean of these, the products, and for each
    tap the differences in brightness.
    """
    return _terms(partial(inner, image))


def terms_at(image: Tensor, pixels: Tensor) -> Tensor:
    """The same, (TERMS, n), of some of the inner pixels: numbers (n,), row after row."""
    _, height, width = image.shape
    y, x = pixels // (width - 2 * REACH), pixels % (width - 2 * REACH)
    flat, here = image.reshape(3, height * width), (y + REACH) * width + x + REACH
    return _terms(lambda dy, dx: flat.index_select(1, here + (dy * width + dx)))


def _terms(colours_at: Callable[[int, int], Tensor]) -> Tensor:
    """Of pixels: their colours (3, ...), and those so far down and to the right of them."""
    here = colours_at(0, 0)
    taps, limited, sizes, differences = [], [], [], []
    for dy, dx in TAPS:
        one, other = colours_at(dy, dx) - here, colours_at(-dy, -dx) - here
        taps.append(one + other)
        limited.append(one.clamp(-LIMIT, LIMIT) + other.clamp(-LIMIT, LIMIT))
        sizes.append(one.mean(0).abs() + other.mean(0).abs())
        differences.append(taps[-1].mean(0))
    colours, details = here - 0.5, torch.stack(taps).mean(0) / 2
    products = torch.cat(_products(colours, details))
    around = torch.stack(sizes)
    activity = around.mean(0)
    share = activity / (activity + QUIET)
    constant = torch.full_like(here[:1], OFFSET)
    flat = [around, share * products, share * torch.stack(differences)]
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
