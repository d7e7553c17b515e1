"""What codes cost later, from what a walk through the prior remembers: `foresight.py`, sooner.

Compiled loops know all of a position's network when they choose its codes.  They tell how bits
change with each slice's hidden activations; from there the gradient goes back through the layers
that all slices share, each of which is a convolution, in bytes (`rough.h`) where that is faster.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from vqzip import native
from vqzip.bands import each_on_one_thread
from vqzip.coding import Memory
from vqzip.convolution import convolution, convolve
from vqzip.integer import (
    ACTIVATION_LEVELS,
    ACTIVATION_SHIFT,
    CODEWORD_ONE,
    INPUT_MAX,
    INPUT_SHIFT,
    Floats,
    IntegerPixelCNN,
    Linear,
)
from vqzip.layout import causal


def _weights(layer: Linear) -> Floats:
    """What outputs change with inputs (inputs, outputs), in activations."""
    matrix, scale, _ = layer.parts()
    return (matrix * (scale * 2.0**-ACTIVATION_SHIFT)).astype(np.float32)


class _Transposed:
    """From slopes of a causal layer's outputs to those of its inputs."""

    def __init__(self, weights: Floats, radius: int = 0, inclusive: bool = True) -> None:
        """Of weights (taps * inputs, outputs)."""
        taps = causal(radius, inclusive)
        kernel = weights.reshape(len(taps), -1, weights.shape[1]).transpose(1, 0, 2)
        places = [(radius - y, radius - x) for y, x in taps]
        self._radius, self._in_bytes = radius, None
        if native.products_of_bytes():
            bias = np.zeros(len(kernel), np.float32)
            self._in_bytes = convolution(np.ascontiguousarray(kernel), bias, places, radius)
            return
        self._whole = torch.zeros(len(kernel), kernel.shape[2], 2 * radius + 1, 2 * radius + 1)
        for tap, (y, x) in enumerate(places):
            self._whole[:, :, y, x] = torch.from_numpy(kernel[:, tap].copy())

    def __call__(
        self, slopes: Floats, gate: NDArray[np.uint8] | None = None, to: Floats | None = None
    ) -> Floats:
        """Maps (height, width, channels); `convolve` says what a gate and `to` are."""
        if self._in_bytes is not None:
            threads = native.threads()
            return convolve(self._in_bytes, slopes, to=to, gate=gate, threads=threads)
        planes = torch.from_numpy(slopes).permute(2, 0, 1)[None]
        found = F.conv2d(planes, self._whole, padding=self._radius)[0].permute(1, 2, 0).numpy()
        if gate is not None:
            found = found * ((gate > 0) & (gate < ACTIVATION_LEVELS))
        return found if to is None else np.add(to, found, out=to)


class Backward:
    """One map's prior at a position of the quality scale, backwards, to its first channels."""

    def __init__(self, prior: IntegerPixelCNN, level: int, channels: int) -> None:
        scale = prior.inverse_unit[level, :channels] * 2.0**-INPUT_SHIFT
        self._scale = scale.astype(np.float32)
        starts = prior.starts[:-1]
        shares = [x for x, start in zip(prior.shares, starts, strict=True) if start < channels]
        hidden = shares[-1].stop
        self._to_slices = _Transposed(_weights(prior.to_slices)[:, :hidden])
        previous = np.zeros((channels, hidden), np.float32)
        for share, start, layer in zip(shares, starts, prior.previous, strict=False):
            previous[:start, share] = _weights(layer)[:start]
        self._previous = _Transposed(previous)
        layers = zip(prior.pointwise, prior.spatial, strict=True)
        self._layers = [(_Transposed(_weights(p)), _Transposed(_weights(s), 1)) for p, s in layers]
        width = prior.embedding.shape[1]
        context = _weights(prior.context).reshape(-1, prior.channels, width)[:, :channels]
        self._context = _Transposed(context.reshape(-1, width), 2, inclusive=False)

    def costs(
        self, vectors: NDArray[np.int16], memory: Memory, shape: tuple[int, int], tile: int
    ) -> Floats:
        """Bits that all codes cost more for a code unit more, (positions, channels).

        Given code vectors (positions, channels) in sixty-fourths, and what is remembered of how
        they were chosen, of a map of so many rows and columns in tiles of some side.
        """
        height, width = shape
        gates = memory.gates.reshape(len(memory.gates), height, width, -1)
        slopes = memory.costs.reshape(height, width, -1)
        found = np.empty((height, width, len(self._scale)), np.float32)
        tiles = [
            (slice(y, y + tile), slice(x, x + tile))
            for y in range(0, height, tile)
            for x in range(0, width, tile)
        ]

        def work(place: tuple[slice, slice]) -> None:
            rows, columns = place
            found[place] = self._tile(slopes[place], gates[:, rows, columns])

        if native.products_of_bytes():  # threads share convolutions
            for place in tiles:
                work(place)
        else:  # sums of floats would depend on how many threads there are
            each_on_one_thread(work, tiles)
        costs = found.reshape(height * width, -1)
        costs *= self._scale * CODEWORD_ONE
        costs *= np.abs(vectors) * self._scale < INPUT_MAX
        return costs

    def _tile(self, slopes: Floats, gates: NDArray[np.uint8]) -> Floats:
        hidden, count = np.ascontiguousarray(slopes), len(self._layers)
        first, second, last = (
            np.ascontiguousarray(x) for x in (gates[:count], gates[count:-1], gates[-1])
        )
        f = self._to_slices(hidden, last)
        for i, (pointwise, spatial) in reversed(list(enumerate(self._layers))):
            spatial(pointwise(f, second[i]), first[i], f)
        return self._context(f, to=self._previous(hidden))


@lru_cache(maxsize=8)
def backward(prior: IntegerPixelCNN, level: int, channels: int) -> Backward:
    """A prior at a level, backwards."""
    return Backward(prior, level, channels)
