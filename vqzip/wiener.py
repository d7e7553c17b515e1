"""The last step of decoding: a Wiener filter of the picture's own, told in a few codes.

One decoder serves all pictures, and what it leaves over is much the same all over one of them: a
tint, colours that follow the brightness more or less than it thinks, edges that are a little soft.
So the encoder decodes the picture, or parts of it, and sends the filter that takes away most of
that, as video codecs do (Tsai et al. 2013, "Adaptive Loop Filtering for Video Coding").  It is
linear in many terms (`terms.py`), and a combination of learned kernels (`train/filters.py`).
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
from vqzip.least_squares import Statistics
from vqzip.terms import LINEAR, OFFSET, REACH, TAPS, terms

Coefficients = NDArray[np.int32]

_NEIGHBOURS = tuple(np.array(TAPS).T.copy())  # rows down and columns right, for the compiled loop

EVEN = np.full((1, 2), 2.0**EXP2_BITS)
"""Weights of whether there is a filter."""

STRIP = 32
"""Rows that are filtered at once without the compiled loop."""

BEAM = 16
"""Choices of some coefficients that are gone on with."""

CAUTION = 2.0
"""How much closer to zero coefficients are taken to be that are not chosen yet."""

SMALLEST = 1e-6
"""Mean square of a coefficient, at least."""

ROUNDING = 1e-6
"""Of squares, in shares of their sum: those of a picture with little in it may be below zero."""

SWEEPS = 8
"""How often the choice of all coefficients is gone through once more, at most."""


def _filtered(image: Tensor, weights: Floats) -> Tensor:
    """What `FilterBank.filtered` does, with PyTorch: slower, but with gradients.

    Weights are (3, TERMS).  Terms of some rows are made at once, and again for gradients.
    """
    factors = torch.from_numpy(weights)

    def correction(rows: Tensor) -> Tensor:
        return torch.einsum("ct,thw->chw", factors, terms(rows))

    height = image.shape[2]
    strips = []
    for top in range(0, height - 2 * REACH, STRIP):
        rows = image[0, :, top : min(top + STRIP + 2 * REACH, height)]
        strips.append(checkpoint(correction, rows, use_reentrant=False, preserve_rng_state=False))
    return image + F.pad(torch.cat(strips, 1), (REACH,) * 4)


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

    def _likely(self, squares: Doubles, gains: Doubles) -> Doubles:
        """Coefficients (K,) of next to the least `x @ squares @ x - 2 * x @ gains` plus bits.

        They are chosen from the last one to the first, the least important ones first, as if those
        still to choose were real numbers, normal and as large as frequencies say; the best `BEAM`
        choices are gone on with (Babai 1986, "On Lovasz' lattice reduction and the nearest lattice
        point problem"; with a beam, Guo & Nilsson 2006, "Algorithm and implementation of the K-best
        sphere decoding for MIMO detection").
        """
        values = np.arange(-self.largest, self.largest + 1)
        precision = CAUTION / np.maximum((2.0**-self.bits * values**2).sum(1), SMALLEST)
        known = squares + np.diag(precision + ROUNDING * np.trace(squares))
        root, best = np.linalg.cholesky(known).T, np.linalg.solve(known, gains)
        scale = np.diag(root)
        ways = root / scale[:, None]
        chosen, cost = np.zeros((1, len(gains))), np.zeros(1)
        for k in reversed(range(len(gains))):
            mean = best[k] - (chosen[:, k + 1 :] - best[k + 1 :]) @ ways[k, k + 1 :]
            taken = self.bits[k] - precision[k] * values**2
            after = cost[:, None] + (scale[k] * (values - mean[:, None])) ** 2 + taken
            least = np.argsort(after, None)[:BEAM]
            before, at = np.divmod(least, len(values))
            chosen, cost = chosen[before], after.ravel()[least]
            chosen[:, k] = values[at]
        return np.asarray(chosen[cost.argmin()])

    def fit(self, found: Statistics, level: int, worth: float) -> Coefficients | None:
        """The filter of least squared error plus bits, None if that is none.

        `worth`: bits for a squared error of 1 in each of the picture's pixels, colours summed up.
        """
        scaled = self.kernels.astype(np.float64) * self.steps[level]
        gains = worth * np.einsum("kct,tc->k", scaled, found.wanted)
        inner = np.einsum("kct,tu->kcu", scaled, found.products)
        squares = worth * np.einsum("kcu,lcu->kl", inner, scaled)
        values = np.arange(-self.largest, self.largest + 1)
        chosen = self._likely(squares, gains)
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
