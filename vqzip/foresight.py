"""What a code costs those after it: how the bits of a whole map change with the codes in it.

The encoder chooses each code by its own distortion and bits.  But it is context, too: one that
stands alone makes the zeros around it dearer, one like its neighbours makes others cheap.  How much
is the gradient of all bits by the vectors that the prior's network sees, the codes being what they
are.  Chosen again with that on top, codes are better, and have a gradient of their own.  (Campos et
al. 2019, "Content Adaptive Optimization for Neural Image Compression", follow gradients of latents
before these are rounded.)

Nothing here has to be exact: it is the integer prior in floating point, without rounding, and only
the encoder has it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vqzip.codemap import CodeMap
from vqzip.entropy import EXP2_STEP, CodebookTable, Codes
from vqzip.integer import (
    ACTIVATION_LEVELS,
    ACTIVATION_SHIFT,
    CODEWORD_ONE,
    HEAD_MAX,
    HEAD_SHIFT,
    INPUT_MAX,
    INPUT_SHIFT,
    MEAN_MAX,
    SCALE_LOWEST,
    SCALE_STEP,
    TAIL_SHIFT,
    UNIT_SHIFT,
    Bytes,
    Floats,
    Linear,
)
from vqzip.layout import causal

WEIGHTS = 2**22  # of codewords that are worked on at once

_Layer = tuple[Tensor, Tensor]  # kernel and bias of a convolution


def _real(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(array.astype(np.float32))


def _channels(array: NDArray[Any]) -> Tensor:
    """A number for each channel, for maps (1, C, H, W)."""
    return _real(array)[:, None, None]


def _map(array: NDArray[Any]) -> Tensor:
    """(H, W, C) to (1, C, H, W)."""
    return _real(array).permute(2, 0, 1)[None]


def _layer(linear: Linear, radius: int = 0, inclusive: bool = True) -> _Layer:
    """A causal convolution of integers whose outputs are activations, not clamped and rounded."""
    matrix, scale, offset = linear.parts()
    unit = 2.0**-ACTIVATION_SHIFT
    taps = causal(radius, inclusive)
    weight = _real(matrix.T * (scale * unit)[:, None]).reshape(len(scale), len(taps), -1)
    kernel = torch.zeros(len(scale), weight.shape[2], radius + 1, 2 * radius + 1)
    for i, (y, x) in enumerate(taps):
        kernel[:, :, radius + y, radius + x] = weight[:, i]
    return kernel, _real((offset - 0.5) * unit)


def _convolve(x: Tensor, layer: _Layer) -> Tensor:
    radius = layer[0].shape[2] - 1
    return F.conv2d(F.pad(x, (radius, radius, radius, 0)), *layer)


def _active(x: Tensor) -> Tensor:
    return x.clamp(0, ACTIVATION_LEVELS)


class Foresight:
    """One map's prior at a position of the quality scale."""

    def __init__(self, code_map: CodeMap, level: int) -> None:
        prior = self._prior = code_map.prior
        self._map, self._level, self._books = code_map, level, code_map.books(level)
        self._inverse_unit = _channels(prior.inverse_unit[level] * 2.0**-INPUT_SHIFT)
        self._embedding = _channels(prior.embedding[level] * 2.0**-ACTIVATION_SHIFT)
        self._context = _layer(prior.context, 2, inclusive=False)
        self._condition = None if prior.condition is None else _layer(prior.condition)
        self._spatial = [_layer(layer, 1) for layer in prior.spatial]
        self._pointwise = [_layer(layer) for layer in prior.pointwise]
        self._to_slices = _layer(prior.to_slices)
        self._previous = self._all_previous()
        self._heads = [_layer(layer) for layer in prior.heads]
        self._unit = _channels(prior.unit[level] * 2.0**-UNIT_SHIFT)
        self._log_scale = _channels(prior.log_scale[level])
        self._precision = _real(prior.precision)

    def _all_previous(self) -> _Layer:
        """What all slices see of those before them, as one layer."""
        prior = self._prior
        weight = torch.zeros(prior.shares[-1].stop, prior.channels, 1, 1)
        bias = torch.zeros(len(weight))
        for share, start, layer in zip(prior.shares, prior.starts, prior.previous, strict=False):
            if start:
                weight[share, :start], bias[share] = _layer(layer)
        return weight, bias

    def costs(self, codes: list[Codes], shape: tuple[int, int], condition: Bytes | None) -> Floats:
        """Bits that all codes cost more for a code unit more, (positions, channels)."""
        height, width = shape
        vectors = self._map.vectors(codes, self._level).reshape(height, width, -1)
        chosen = [c.reshape(height, width, -1) for c in codes]
        given = None if condition is None else condition.reshape(height, width, -1)
        found, side = np.empty(vectors.shape, np.float32), self._map.tile
        for y in range(0, height, side):
            for x in range(0, width, side):
                tile = slice(y, y + side), slice(x, x + side)
                parts = [c[tile] for c in chosen]
                found[tile] = self._tile(
                    vectors[tile], parts, None if given is None else given[tile]
                )
        return found.reshape(height * width, -1)

    def _tile(
        self, vectors: NDArray[np.int16], codes: list[Codes], condition: Bytes | None
    ) -> Floats:
        seen = _map(vectors).requires_grad_()
        features = self.features(seen, None if condition is None else _map(condition))
        coded = [i for i, book in enumerate(self._books) if book.size > 1]
        if not coded:
            return np.zeros(vectors.shape, np.float32)
        outputs = [features[i] for i in coded]
        slopes = [_slope(self._books[i], features[i].detach(), codes[i]) for i in coded]
        (gradient,) = torch.autograd.grad(outputs, seen, slopes)
        found: Floats = gradient[0].permute(1, 2, 0).numpy() * CODEWORD_ONE
        return found

    def features(self, vectors: Tensor, condition: Tensor | None) -> list[Tensor]:
        """Code vectors (1, C, H, W) in sixty-fourths to features (1, H, W, channels, 4).

        Of each slice, as `Slice.features` gives them.
        """
        x = (vectors * self._inverse_unit).clamp(-INPUT_MAX, INPUT_MAX)
        f = _convolve(x, self._context) + self._embedding
        if self._condition is not None:
            assert condition is not None
            f = f + _convolve(condition, self._condition)
        for spatial, pointwise in zip(self._spatial, self._pointwise, strict=True):
            f = f + _convolve(_active(_convolve(_active(f), spatial)), pointwise)
        u = _convolve(_active(f), self._to_slices) + _convolve(x, self._previous)
        parts = torch.split(
            _active(u), [share.stop - share.start for share in self._prior.shares], 1
        )
        return [self._slice(i, part) for i, part in enumerate(parts)]

    def _slice(self, i: int, u: Tensor) -> Tensor:
        start, end = (int(place) for place in self._prior.starts[i : i + 2])
        y = _convolve(u, self._heads[i]) * 2.0**ACTIVATION_SHIFT
        y = y.reshape(1, end - start, 4, *y.shape[2:]).clamp(-HEAD_MAX, HEAD_MAX)
        mean = (y[:, :, 0] * self._unit[start:end]).clamp(-MEAN_MAX, MEAN_MAX)
        weight = self._weight(y[:, :, 1] + self._log_scale[start:end])
        tails = (y[:, :, k] * 2.0**TAIL_SHIFT for k in (2, 3))
        return torch.stack([2 * mean * weight, weight, *tails], 2).permute(0, 3, 4, 1, 2)

    def _weight(self, log_scale: Tensor) -> Tensor:
        """The precision table between its entries, too."""
        at = log_scale * (SCALE_STEP * 2.0**-HEAD_SHIFT) - SCALE_LOWEST * SCALE_STEP
        at = at.clamp(0, len(self._precision) - 1)
        low = at.detach().floor().clamp_max(len(self._precision) - 2)
        first = low.long()
        return torch.lerp(self._precision[first], self._precision[first + 1], at - low)


def _slope(book: CodebookTable, features: Tensor, codes: Codes) -> Tensor:
    """How the bits of codes (H, W, G) change with features (1, H, W, channels, 4), same shape.

    That is the mean of phi over the codewords, by how likely they are, less that of the code.
    """
    n = features[0, ..., 0, 0].numel()
    rows = features.reshape(n, book.groups, -1)
    phi = _real(book.phi)  # (G, features, K)
    index = torch.from_numpy(codes.reshape(n, book.groups).astype(np.int64))
    slope = torch.empty_like(rows)
    step = max(1, WEIGHTS // (book.groups * book.size))
    for start in range(0, n, step):
        some = slice(start, start + step)
        for g in range(book.groups):
            table = phi[g]
            logits = rows[some, g] @ table[:-1] + table[-1]
            likely = torch.softmax(logits * (np.log(2) / EXP2_STEP), 1)
            likely[torch.arange(len(likely)), index[some, g]] -= 1
            slope[some, g] = likely @ table[:-1].T
    return slope.view_as(features) / EXP2_STEP
