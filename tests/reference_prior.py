"""The integer prior spelled out: one position after the other, in integers throughout.

It computes what `vqzip/integer.py` and `vqzip/entropy.py` compute with whole arrays in floating
point, from the same tensors, and shares no code with them: slow, but short, and a start for
whoever writes a decoder in another language.  64-bit integers hold every number in it.

Fixed point: an activation of 1 is 40, and 1280 before `activate`; heads give 4096 to the unit;
codewords, labels and means are in sixty-fourths, biases in 2^-12 bits, logits in 2^-28 bits.
"""

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from functools import cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Tensors = Mapping[str, NDArray[np.generic]]


def shift(x: Ints, bits: int) -> Ints:
    """Divide by 2^bits, rounding half up."""
    return (x + (1 << (bits - 1))) >> bits


def activate(x: Ints) -> Ints:
    """Fixed point to activations, 0 to 240."""
    return shift(x, 5).clip(0, 240)


class Layer:
    """A linear layer: int8 weights, then a multiplier and a bias for each output."""

    def __init__(self, tensors: Tensors, name: str) -> None:
        self.weight = tensors[f"{name}.weight"].astype(np.int64)  # (outputs, inputs)
        self.multiplier = tensors[f"{name}.multiplier"].astype(np.int64)
        self.bias = tensors[f"{name}.bias"].astype(np.int64)

    def __call__(self, x: Ints) -> Ints:
        """Integers (inputs,) to fixed point (outputs,)."""
        return shift(self.weight @ x * self.multiplier + self.bias, 22)


def inputs_of(vectors: Ints, inverse_unit: Ints) -> Ints:
    """Codewords to the integers that the networks see, -127 to 127."""
    return shift(vectors * inverse_unit, 16).clip(-127, 127)


def lift(tensors: Tensors, inputs: Ints) -> Ints:
    """Inputs of the top map (h, w, channels) to the bottom's condition (2 h, 2 w, condition)."""
    first, second, out = (Layer(tensors, f"lift.{i}") for i in range(3))

    def convolve(layer: Layer, x: Ints) -> Ints:
        """3x3, zeros beyond the map."""
        padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
        return np.array(
            [
                [activate(layer(padded[y : y + 3, x : x + 3].reshape(-1))) for x in range(w)]
                for y in range(h)
            ]
        )

    h, w, _ = inputs.shape
    hidden = convolve(second, convolve(first, inputs))
    condition = len(out.bias) // 4
    lifted = np.zeros((2 * h, 2 * w, condition), np.int64)
    for y in range(h):
        for x in range(w):
            # The four outputs of a channel are its values at the four positions below this one.
            square = activate(out(hidden[y, x])).reshape(condition, 2, 2)
            lifted[2 * y : 2 * y + 2, 2 * x : 2 * x + 2] = square.transpose(1, 2, 0)
    return lifted


class Map:
    """A code map on its way through its prior.

    Positions are (y, x).  They are visited in any order in which a position comes after those it
    depends on: all of its tile with smaller `x + 2 y`.
    """

    def __init__(
        self,
        tensors: Tensors,
        name: str,
        slices: Sequence[int],
        shape: tuple[int, int],
        tile: int,
        level: int,
        condition: Ints | None = None,
    ) -> None:
        """`condition` (height, width, channels) is what `lift` gives; the top map has none."""
        part = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(name)}
        layers = len([key for key in part if key.startswith("spatial.") and "weight" in key])
        self.context = Layer(part, "context")
        self.conditional = None if condition is None else Layer(part, "condition")
        self.spatial = [Layer(part, f"spatial.{i}") for i in range(layers)]
        self.pointwise = [Layer(part, f"pointwise.{i}") for i in range(layers)]
        self.to_slice = [Layer(part, f"to_slice.{i}") for i in range(len(slices))]
        self.previous = [Layer(part, f"previous.{i}") for i in range(len(slices))]
        self.head = [Layer(part, f"head.{i}") for i in range(len(slices))]
        names = ("embedding", "unit", "inverse_unit", "log_scale")
        self.embedding, self.unit, self.inverse_unit, self.log_scale = (
            part[name][level].astype(np.int64) for name in names
        )
        self.precision = part["precision"].astype(np.int64)
        ends = np.cumsum(slices)
        self.channels = [slice(e - size, e) for e, size in zip(ends, slices, strict=True)]
        self.tile, self.condition = tile, condition
        self.inputs = np.zeros((*shape, sum(slices)), np.int64)
        self.activations = [np.zeros((*shape, len(self.embedding)), np.int64) for _ in self.spatial]

    def neighbours(self, values: Ints, y: int, x: int, radius: int, *, inclusive: bool) -> Ints:
        """What a causal kernel sees, row by row: rows above up to as many columns to the right.

        Positions beyond the tile are zeros.
        """
        seen = []
        for up in range(radius, -1, -1):
            right = up or int(inclusive) - 1
            for across in range(-radius, right + 1):
                ny, nx = y - up, x + across
                inside = ny >= 0 and 0 <= nx < values.shape[1]
                tile = (y // self.tile, x // self.tile)
                if inside and (ny // self.tile, nx // self.tile) == tile:
                    seen.append(values[ny, nx])
                else:
                    seen.append(np.zeros_like(values[y, x]))
        return np.concatenate(seen)

    def hidden(self, y: int, x: int) -> Ints:
        """What all slices of a position share; to be asked for once all it depends on was."""
        f = self.context(self.neighbours(self.inputs, y, x, 2, inclusive=False)) + self.embedding
        if self.conditional is not None:
            assert self.condition is not None
            f = f + self.conditional(self.condition[y, x])
        for spatial, pointwise, stored in zip(
            self.spatial, self.pointwise, self.activations, strict=True
        ):
            stored[y, x] = activate(f)
            seen = self.neighbours(stored, y, x, 1, inclusive=True)
            f = f + pointwise(activate(spatial(seen)))
        return activate(f)

    def features(self, y: int, x: int, hidden: Ints, i: int) -> Ints:
        """Features (channels of slice i, 4); the slices before it are known at this position."""
        channels = self.channels[i]
        u = self.to_slice[i](hidden)
        if i > 0:
            u = u + self.previous[i](self.inputs[y, x, : channels.start])
        out = self.head[i](activate(u)).clip(-(2**18), 2**18)
        features: list[list[int]] = []
        for mean, log_scale, *tails in zip(*[iter(out.tolist())] * 4, strict=True):
            c = channels.start + len(features)
            middle = _clip(round_shift(mean * int(self.unit[c]), 14), 2**15)
            entry = round_shift((log_scale + int(self.log_scale[c])) * 64, 12) + 256
            precision = int(self.precision[min(max(entry, 0), len(self.precision) - 1)])
            features.append([2 * precision * middle, precision, *(t << 10 for t in tails)])
        return np.array(features)

    def put(self, y: int, x: int, i: int, vector: Ints) -> None:
        """Make the codewords of slice i at a position known."""
        channels = self.channels[i]
        self.inputs[y, x, channels] = inputs_of(vector, self.inverse_unit[channels])


def round_shift(x: int, bits: int) -> int:
    """Divide by 2^bits, rounding half up."""
    return (x + (1 << (bits - 1))) >> bits


def _clip(x: int, limit: int) -> int:
    return min(max(x, -limit), limit)


@cache
def exp2() -> list[int]:
    """2^(28 - i / 256), rounded, for i from 0 to 28 * 256."""
    with localcontext() as context:
        context.prec = 30
        exact = (Decimal(2) ** (28 - Decimal(i) / 256) for i in range(28 * 256 + 1))
        return [int(x.to_integral_value(ROUND_HALF_EVEN)) for x in exact]


def weights(labels: Ints, bias: Ints, features: Ints) -> list[int]:
    """Weights of one group of codewords: labels (K, d), bias (K,), features (d, 4)."""
    logits = []
    for label, start in zip(labels.tolist(), bias.tolist(), strict=True):
        logit = start << 16
        for c, (linear, square, size, small) in zip(label, features.tolist(), strict=True):
            logit += linear * c - square * c * c + size * abs(c) + small * min(abs(c), 64)
        logits.append(logit)
    steps = [(max(logits) - logit) >> 20 for logit in logits]
    return [exp2()[step] if step <= 28 * 256 else 0 for step in steps]


def counts(weights: Sequence[int]) -> list[int]:
    """Counts of codewords with such weights: their frequencies less one, out of 2^24."""
    free = 2**24 - len(weights)
    ratio = free / sum(weights)  # Python's floats are IEEE doubles
    starts = [int(before * ratio) for before in accumulate(weights[:-1], initial=0)]
    return [end - start for start, end in zip(starts, [*starts[1:], free], strict=True)]
