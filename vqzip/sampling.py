"""Pictures out of the prior: codes are drawn at random instead of being read from a file.

Decoding asks for the next codes and gives the prior's weights for them.  What answers is a
`Decoder` if there is a file, and here a `Sampler`: all else is decoding.

The same seed gives the same codes on every machine: weights are integers, random numbers are those
of PCG64, whose stream NumPy keeps for good, and what is left is exact or rounded as IEEE 754 says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from itertools import accumulate, repeat
from operator import mul

import numpy as np
from numpy.typing import NDArray

from vqzip import codec
from vqzip.bands import Pixels
from vqzip.codec import CodecModel, Codes
from vqzip.coder import TOTAL, frequencies
from vqzip.container import CODE_STREAM, Chunk, Container, Header
from vqzip.entropy import EXP2, EXP2_BITS, EXP2_STEP
from vqzip.errors import VqzError
from vqzip.integer import Doubles

RANDOM_BITS, TOTAL_BITS = 64, 24

_ASCENDING = EXP2[::-1]


class Sampler:
    """Draws codes by their probability under the prior; takes the place of a `Decoder`.

    Args:
        seed: A whole number from 0.
        temperature: Probabilities to the power of 1 / temperature, and scaled to sum to 1, are
            what codes are drawn by.  At 1 these are the coder's frequencies themselves.  Towards 0
            the most likely code is drawn, towards infinity all that have a weight are as likely.

    Raises VqzError for a temperature that is not above 0 or not finite, or a negative seed.
    """

    def __init__(self, seed: int = 0, temperature: float = 1.0) -> None:
        if not 0 < temperature < math.inf:
            raise VqzError(f"temperature must be above 0 and finite, not {temperature}")
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise VqzError(f"seed must be a whole number from 0, not {seed!r}")
        self._random = np.random.PCG64(seed)
        self._tempered = None if temperature == 1 else tempered(temperature)[::-1]

    def get(self, weights: Doubles) -> NDArray[np.int32]:
        """Codes (n,), given weights (n, K) as a codebook gives them."""
        # Not a Generator: what that makes of the stream may change with NumPy.
        drawn = self._random.random_raw(len(weights)) >> np.uint64(RANDOM_BITS - TOTAL_BITS)
        below = self._ends(weights) <= drawn.astype(np.float64)[:, None]
        codes: NDArray[np.int32] = below.sum(1, dtype=np.int32)
        return codes

    def _ends(self, weights: Doubles) -> Doubles:
        """Cumulative probabilities (n, K), in 2^-24."""
        if self._tempered is None:
            return np.cumsum(frequencies(weights), axis=1)
        ends = np.cumsum(self._tempered[np.searchsorted(_ASCENDING, weights)], axis=1)
        ends *= TOTAL / ends[:, -1:]
        return ends


def tempered(temperature: float) -> Doubles:
    """`EXP2` to the power of 1 / temperature: 2^(28 - i / (256 * temperature)), rounded.

    In decimals, as powers of floating-point numbers are not the same on all machines.
    """
    with localcontext(Context(prec=40)):
        step = Decimal(2) ** (-1 / (EXP2_STEP * Decimal(temperature)))
        powers = accumulate(repeat(step, len(EXP2) - 2), mul, initial=Decimal(2**EXP2_BITS))
        return np.array([*map(round, powers), 0], np.float64)


@dataclass(frozen=True)
class Drawn:
    """A picture that was drawn, in codes.

    Attributes:
        model: The model whose codes they are.
        header: That of the picture's file.
        codes: Both code maps.
        others: Chunks of that file besides the code stream.
    """

    model: CodecModel
    header: Header
    codes: Codes
    others: tuple[Chunk, ...] = ()

    def pixels(self) -> Pixels:
        """Pixels (height, width, 3)."""
        h = self.header
        return codec.synthesise(self.model, self.codes, h.width, h.height, h.level)

    def pack(self) -> bytes:
        """A vqz file that decodes to these pixels."""
        stream = codec.pack(self.model, self.codes, self.header.level)
        return Container(self.header, (Chunk(CODE_STREAM, stream), *self.others)).pack()


def sample(model: CodecModel, width: int, height: int, level: int, sampler: Sampler) -> Drawn:
    """Draw both code maps of a picture, the top map first.

    Raises VqzError for a size or a level that no file can have.
    """
    header = Header(width, height, grayscale=False, fingerprint=model.fingerprint, level=level)
    shape = codec.top_shape(width, height)
    fixed = codec.fixed(model)
    top = codec.read_top(fixed, shape, level, sampler)
    return Drawn(model, header, codec.read_bottom(fixed, top, shape, level, sampler))


def complete(model: CodecModel, file: Container, sampler: Sampler) -> Drawn:
    """Draw the bottom map anew to the top map of a file, whose other chunks are kept.

    Raises VqzError if the file's code stream is corrupt.
    """
    h = file.header
    shape, top = codec.unpack_top(model, file.code_stream, h.width, h.height, h.level)
    codes = codec.read_bottom(codec.fixed(model), top, shape, h.level, sampler)
    others = tuple(chunk for chunk in file.chunks if chunk.type != CODE_STREAM)
    return Drawn(model, h, codes, others)
