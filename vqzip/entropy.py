"""Codebooks as the coder sees them: features to a weight for each codeword, in integers."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vqzip import native, structures
from vqzip.coder import WEIGHT_BITS, row_starts
from vqzip.errors import VqzError
from vqzip.integer import (
    BIAS_SHIFT,
    CODEWORD_ONE,
    EXACT_FLOAT64,
    HEAD_MAX,
    LOGIT_SHIFT,
    MAX_PRECISION,
    MEAN_MAX,
    TAIL_SHIFT,
    Doubles,
    Floats,
)

Codes = NDArray[np.uint16]
_Number = TypeVar("_Number", bound=np.generic)

EXP2_STEP = 256  # entries of the exponential table to a factor of two
EXP2_BITS = WEIGHT_BITS  # a codeword this many bits below the most likely one has a weight of zero
BLOCK = 2**16  # weights that are worked on at once, to stay in the processor's cache
RAREST = -24.0 * EXP2_STEP  # logarithm of the least frequency, as logits are written
ERROR_STEP = 2.0**-16  # of the terms of errors

EXP2: Doubles = np.append(
    np.round(2.0 ** (EXP2_BITS - np.arange(EXP2_BITS * EXP2_STEP + 1) / EXP2_STEP)), 0.0
)
"""2^(28 - i / 256) rounded, and zero for all that is farther.  A test pins its checksum."""

MAX_TAIL = HEAD_MAX * 2**TAIL_SHIFT


def _phi(points: NDArray[np.generic]) -> Doubles:
    """(c, -c^2, |c|, min(|c|, 1)) of points (G, K, d) for each channel, (G, 4 * d, K)."""
    c = points.astype(np.float64)
    size = np.abs(c)
    phi = np.stack([c, -c * c, size, np.minimum(size, CODEWORD_ONE)], axis=-1)
    features: Doubles = phi.reshape(*c.shape[:2], -1).transpose(0, 2, 1).copy()
    return features


class CodebookTable:
    """The codebooks of one slice at one level, in integers: G groups of K codewords, d channels."""

    def __init__(
        self,
        codewords: NDArray[np.generic],
        labels: NDArray[np.generic],
        bias: NDArray[np.generic],
    ) -> None:
        """Codewords and labels (G, K, d) in sixty-fourths, bias (G, K) in 2^-12 bits."""
        self.codewords: NDArray[np.int16] = codewords.astype(np.int16)
        self.groups, self.size, self.dim = self.codewords.shape
        self.labels = labels.astype(np.float64).transpose(0, 2, 1)  # (G, d, K)
        phi = _phi(labels)
        start: Doubles = bias.astype(np.float64)[:, None] * 2.0**BIAS_SHIFT
        largest = np.array([2 * MAX_PRECISION * MEAN_MAX, MAX_PRECISION, MAX_TAIL, MAX_TAIL])
        reach = np.einsum("gfk,f->gk", np.abs(phi), np.tile(largest, self.dim))
        if (reach + np.abs(start[:, 0])).max() >= EXACT_FLOAT64:
            raise VqzError("model: a codebook's logits are not exact")
        # Steps of the exponential table to the unit: powers of two lose nothing.
        self.phi = np.concatenate([phi, start], axis=1) * (EXP2_STEP * 2.0**-LOGIT_SHIFT)
        c = self.codewords.astype(np.float64)
        squares = np.stack([c, -c * c], axis=-1).reshape(self.groups, self.size, -1)
        by_term = np.ascontiguousarray(squares.transpose(0, 2, 1))
        self._squares = by_term * (EXP2_STEP / CODEWORD_ONE**2)
        self.rows = max(1, BLOCK // (self.groups * self.size))
        """Positions that are worked on at once."""
        self._native: structures.Book | None = None

    def logits(self, features: Doubles, starts: Doubles | None = None) -> Doubles:
        """Features (n, channels, 4) to logits (n, G, K), in 1/256 bits with 20 fraction bits.

        They start from the codewords' biases, or from `starts` (G, K).
        """
        grouped = features.reshape(len(features), self.groups, -1).transpose(1, 0, 2)
        product = self._product(np.ascontiguousarray(grouped), self.phi[:, :-1])
        product += self.phi[:, -1] if starts is None else starts
        return product

    def closeness(self, error: tuple[Doubles, Doubles]) -> Doubles:
        """Minus the squared error of each codeword (n, G, K) up to a constant, as logits are."""
        terms = np.stack(error, axis=-1)  # (n, channels, 2)
        grouped = terms.reshape(len(terms), self.groups, -1).transpose(1, 0, 2)
        return self._product(np.ascontiguousarray(grouped), self._squares)

    def best(
        self,
        error: tuple[Doubles, Doubles],
        features: Doubles | None,
        starts: Doubles | None = None,
    ) -> Codes:
        """Codes (n, G) of least squared error, plus bits if there are features (see `logits`)."""
        slopes, squares = error
        codes = np.zeros((len(slopes), self.groups), np.uint16)
        for start in range(0, len(slopes), self.rows):
            block = slice(start, start + self.rows)
            score = self.closeness((slopes[block], squares[block]))
            if features is not None:
                likely = self.logits(features[block], starts)
                rows = likely.reshape(-1, self.size)
                rows -= largest(rows)
                score += np.maximum(likely, RAREST, out=likely)
            codes[block] = score.argmax(2)
        return codes

    def native(self) -> structures.Book:
        """For the compiled loops."""
        if self._native is None:
            shape = self.groups, self.size, self.dim
            self._native = native.book(self.phi, self._squares, shape)
        return self._native

    def _product(self, grouped: Doubles, phi: Doubles) -> Doubles:
        product = np.empty((grouped.shape[1], self.groups, self.size))
        np.matmul(grouped, phi, out=product.transpose(1, 0, 2))
        return product

    def weights(
        self, features: Doubles, out: Doubles | None = None, starts: Doubles | None = None
    ) -> Doubles:
        """Features (n, channels, 4) to weights (n * G, K), integers from 0 to 2^28.

        The most likely codeword of a row has 2^28.  For `starts` see `logits`.
        """
        n = len(features)
        weights = np.empty((n * self.groups, self.size)) if out is None else out
        for start in range(0, n, self.rows):
            rows = self.logits(features[start : start + self.rows], starts).reshape(-1, self.size)
            np.subtract(largest(rows), rows, out=rows)
            first = start * self.groups
            target = weights[first : first + len(rows)]
            EXP2.take(rows.astype(np.int64), mode="clip", out=target)
        return weights

    def vectors(self, codes: Codes) -> NDArray[np.int16]:
        """Codes (n, G) to vectors (n, channels) in sixty-fourths."""
        return look_up(self.codewords, codes)


def error_terms(points: Floats, weight: Floats) -> tuple[Doubles, Doubles]:
    """What `weight (z - c)^2` is linear in, (n, channels) each.

    Points (n, channels) in code units, weight (n, channels) in bits for a squared unit.  They are
    rounded, so that sums are exact and no two machines choose differently.
    """
    slopes = 2 * CODEWORD_ONE * weight * points
    steps = (np.rint(x * np.float32(1 / ERROR_STEP)) for x in (slopes, weight))
    slope, square = (np.multiply(x, ERROR_STEP, dtype=np.float64) for x in steps)
    return slope, square


def largest(rows: Doubles) -> Doubles:
    """The largest number of each row (n, K), (n, 1).  NumPy finds its place sooner than itself."""
    found: Doubles = rows.take(row_starts(rows) + rows.argmax(1))
    return found[:, None]


def look_up(table: NDArray[_Number], codes: NDArray[np.integer[Any]]) -> NDArray[_Number]:
    """Rows of a table (G, K, d) for codes (n, G), side by side, (n, G * d)."""
    groups, size, dim = table.shape
    rows = codes + np.arange(0, groups * size, size)
    return table.reshape(-1, dim).take(rows, axis=0).reshape(len(codes), groups * dim)
