"""Convolutions in products of bytes, for what does not have to be exact: `rough.h` through ctypes.

Only where there are such products, and they are fast: `native.products_of_bytes`.
"""

from __future__ import annotations

import numpy as np

from vqzip.native import QUAD, buffer, call
from vqzip.structures import Array, Convolution


def convolution(
    kernel: Array, bias: Array, taps: list[tuple[int, int]], border: int
) -> Convolution:
    """Of a kernel (outputs, taps, inputs) of floats.

    Taps are rows and columns from the first that there may be, with a border of zeros around what
    it is done to.
    """
    runs: list[list[int]] = []
    for y, x in taps:
        if runs and runs[-1][0] == y and sum(runs[-1][1:]) == x:
            runs[-1][2] += 1
        else:
            runs.append([y, x, 1])
    down, across, length = np.array(runs).T.copy()
    kernel = np.pad(kernel, ((0, 0), (0, 0), (0, -kernel.shape[2] % QUAD)))
    reach = 2 * border if border else max(map(max, taps))
    largest = np.abs(kernel).max((0, 1))
    sizes = len(kernel), kernel.shape[2], len(taps), len(runs)
    return Convolution(kernel, bias, largest, down, across, length, *sizes, border, reach)


def convolve(
    layer: Convolution,
    x: Array,
    active: bool = False,
    to: Array | None = None,
    gate: Array | None = None,
    threads: int = 1,
) -> Array:
    """A map (height, width, channels) through a convolution, roughly, after SiLU if it is `active`.

    What comes out is added to a map if there is one.  A gate is activations as many: what would
    come out is zero where one is the least or the largest that there is.
    """
    height, width, channels = x.shape
    if channels < layer.channels:
        x = np.pad(x, ((0, 0), (0, 0), (0, layer.channels - channels)))
    less = layer.reach - 2 * layer.border
    out = np.empty((height - less, width - less, layer.outputs), np.float32) if to is None else to
    shut = None if gate is None else buffer(gate)
    options = int(active), int(to is not None), shut, buffer(out), threads
    call("vqzip_convolve", layer.pointer, buffer(x), height, width, *options)
    return out
