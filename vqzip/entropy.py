"""Codebooks as the coder sees them: features to integer frequencies to bytes, and back.

The range coder is constriction's; a code's frequency is its count plus one out of 2^24, and the
counts are integers that sum to 2^24 - K, which constriction then takes as they are.
"""

from __future__ import annotations

import constriction
import numpy as np
from numpy.typing import NDArray

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
    Ints,
)

TOTAL = 2**24
EXP2_STEP = 256  # entries of the exponential table to a factor of two
EXP2_BITS = 28  # a logit this far below the largest has a frequency of zero plus one

EXP2: Doubles = np.round(
    2.0**EXP2_BITS * 2.0 ** (-np.arange(EXP2_BITS * EXP2_STEP + 1, dtype=np.float64) / EXP2_STEP)
)
"""2^(28 - i / 256) rounded; entries beyond the last are zero.  A test pins its checksum."""


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
        self.codewords: Ints = codewords.astype(np.int64)
        self.groups, self.size, self.dim = self.codewords.shape
        self.phi = _phi(labels)
        self.bias: Doubles = bias.astype(np.float64) * 2.0**BIAS_SHIFT
        largest = np.array([2 * MAX_PRECISION * MEAN_MAX, MAX_PRECISION, MAX_TAIL, MAX_TAIL])
        reach = np.einsum("gfk,f->gk", np.abs(self.phi), np.tile(largest, self.dim))
        if (reach + np.abs(self.bias)).max() >= EXACT_FLOAT64:
            raise VqzError("model: a codebook's logits are not exact")
        self._error_phi = _phi(codewords)

    def logits(self, features: Doubles) -> Doubles:
        """Features (n, channels, 4) to logits (n, G, K), bits with 28 fraction bits."""
        product = self._grouped(features) @ self.phi + self.bias[:, None]
        logits: Doubles = product.transpose(1, 0, 2)
        return logits

    def closeness(self, error: Doubles) -> Doubles:
        """Minus the squared error of each codeword (n, G, K), of `error` shaped like features."""
        closeness: Doubles = (self._grouped(error) @ self._error_phi).transpose(1, 0, 2)
        return closeness

    def _grouped(self, features: Doubles) -> Doubles:
        """(n, channels, 4) to (G, n, 4 * d)."""
        grouped: Doubles = features.reshape(len(features), self.groups, -1).transpose(1, 0, 2)
        return grouped

    def counts(self, features: Doubles) -> Doubles:
        """Features (n, channels, 4) to counts (n * G, K), integers that sum to 2^24 - K a row."""
        logits = self.logits(features).reshape(-1, self.size)
        best = logits.argmax(1)
        rows = np.arange(len(logits))
        below = logits[rows, best][:, None] - logits
        entry = np.floor(below * 2.0 ** -(LOGIT_SHIFT - 8))
        weight = EXP2[np.minimum(entry, len(EXP2) - 1).astype(np.int64)]
        weight[entry >= len(EXP2)] = 0
        free = TOTAL - self.size
        counts: Doubles = np.floor(weight * free / weight.sum(1, keepdims=True))
        counts[rows, best] += free - counts.sum(1)
        return counts

    def vectors(self, codes: Ints) -> Ints:
        """Codes (n, G) to vectors (n, channels) in sixty-fourths."""
        return self.codewords[np.arange(self.groups), codes].reshape(len(codes), -1)


_FAMILY = constriction.stream.model.Categorical(perfect=False)


class Encoder:
    """Codes to bytes."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def put(self, codes: NDArray[np.int64], counts: Doubles) -> None:
        """Append codes (n,) with counts (n, K)."""
        self._coder.encode(codes.astype(np.int32), _FAMILY, counts)

    def finish(self) -> bytes:
        """The stream: 32-bit words, little-endian."""
        words: bytes = self._coder.get_compressed().astype("<u4").tobytes()
        return words


class Decoder:
    """Bytes to codes."""

    def __init__(self, stream: bytes) -> None:
        if len(stream) % 4:
            raise VqzError("corrupt code stream: its length is not a multiple of four")
        self._coder = constriction.stream.queue.RangeDecoder(
            np.frombuffer(stream, "<u4").astype(np.uint32)
        )

    def get(self, counts: Doubles) -> Ints:
        """The next codes (n,), given counts (n, K)."""
        try:
            codes: Ints = self._coder.decode(_FAMILY, counts).astype(np.int64)
        except (AssertionError, ValueError) as error:
            raise VqzError(f"corrupt code stream: {error}") from error
        return codes
