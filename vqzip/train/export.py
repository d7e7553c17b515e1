"""From a trained model to what codes: the prior in integers, the transform in half precision."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vqzip import integer
from vqzip.container import MAX_LEVEL
from vqzip.integer import Tensors
from vqzip.layers import at_level
from vqzip.model import Model
from vqzip.prior import ACTIVATION_MAX, INPUT_LEVELS, WEIGHT_MAX, CausalConv, PixelCNN
from vqzip.quantizer import FEATURES, Quantizer, precision

TILE = 128
"""Side of a tile in codes of the bottom map."""

ACTIVATION = integer.ACTIVATION_LEVELS / ACTIVATION_MAX  # integers to the unit
FIXED = ACTIVATION * 2**integer.ACTIVATION_SHIFT
HEAD = 2.0**integer.HEAD_SHIFT


def head_units(channels: int) -> Tensor:
    """Integers to the unit of a head's outputs, (FEATURES * channels,); tails are in bits."""
    per_bit = HEAD / math.log(2)
    units = torch.tensor([HEAD, HEAD, per_bit, per_bit]).repeat(channels)
    assert len(units) == FEATURES * channels
    return units


def _to_int(x: Tensor, dtype: type[np.signedinteger[Any]]) -> NDArray[np.generic]:
    info = np.iinfo(dtype)
    return x.double().round().clamp(info.min, info.max).numpy().astype(dtype)


def _linear(
    name: str, weight: Tensor, bias: Tensor | None, input_levels: float, output: Tensor | float
) -> Tensors:
    """int8 weight (O, I), multiplier and bias; `output` integers to the unit, for each output."""
    step = (weight.abs().amax(1) / WEIGHT_MAX + 1e-12).double()
    per_unit = torch.as_tensor(output, dtype=torch.float64).expand(len(weight))
    one = 2.0**integer.REQUANTIZE_SHIFT
    start = torch.zeros(len(weight)) if bias is None else bias
    return {
        f"{name}.weight": _to_int(weight.double() / step[:, None], np.int8),
        f"{name}.multiplier": _to_int(step / input_levels * per_unit * one, np.int32),
        f"{name}.bias": _to_int(start.double() * per_unit * one, np.int64),
    }


def _flat(layer: nn.Conv2d) -> Tensor:
    """Weights (O, taps * I) in the order of `Layout.taps`: rows, columns, then inputs."""
    weight = layer.weight.detach()
    if not isinstance(layer, CausalConv):
        return weight.permute(0, 2, 3, 1).flatten(1)
    seen = layer.mask.flatten().bool()
    return weight.permute(0, 2, 3, 1).flatten(1, 2)[:, seen].flatten(1)


def _pixelcnn(name: str, cnn: PixelCNN, log_gain: Tensor) -> Tensors:
    """A prior's tensors, its tables for every position of the quality scale included."""

    def conv(part: str, layer: nn.Conv2d, input_levels: float, output: float = FIXED) -> Tensors:
        bias = None if layer.bias is None else layer.bias.detach()
        return _linear(f"{name}.{part}", _flat(layer), bias, input_levels, output)

    steps_a_level = MAX_LEVEL // (len(log_gain) - 1)
    positions = torch.arange(MAX_LEVEL + 1) / steps_a_level
    unit = at_level(log_gain.detach(), positions)[:, :, 0, 0].exp() * cnn.scale
    embedding = at_level(cnn.level_embedding.detach(), positions)[:, :, 0, 0]
    log_scale = at_level(cnn.log_scale.detach(), positions)[:, :, 0, 0]
    inverse = INPUT_LEVELS / unit.double() / integer.CODEWORD_ONE * 2.0**integer.INPUT_SHIFT
    mean_one = integer.CODEWORD_ONE / HEAD * 2.0**integer.UNIT_SHIFT
    steps = range((integer.SCALE_HIGHEST - integer.SCALE_LOWEST) * integer.SCALE_STEP + 1)
    scales = torch.tensor([s / integer.SCALE_STEP + integer.SCALE_LOWEST for s in steps])
    weights = precision(scales.double()) / math.log(2) * 2.0**16
    tensors: Tensors = {
        f"{name}.embedding": _to_int(embedding * FIXED, np.int32),
        f"{name}.unit": _to_int(unit * mean_one, np.int32),
        f"{name}.inverse_unit": _to_int(inverse, np.int32),
        f"{name}.log_scale": _to_int(log_scale * HEAD, np.int32),
        f"{name}.precision": _to_int(weights.clamp_max(integer.MAX_PRECISION), np.int32),
    }
    tensors |= conv("context", cnn.context, INPUT_LEVELS)
    if cnn.condition is not None:
        tensors |= conv("condition", cnn.condition, ACTIVATION)
    for i, (spatial, pointwise) in enumerate(cnn.layers()):
        tensors |= conv(f"spatial.{i}", spatial, ACTIVATION)
        tensors |= conv(f"pointwise.{i}", pointwise, ACTIVATION)
    to_slices, previous = _flat(cnn.to_slices), _flat(cnn.from_previous)
    assert cnn.to_slices.bias is not None
    width, start = cnn.config.slice_width, 0
    for i, size in enumerate(cnn.config.slices):
        rows = slice(i * width, (i + 1) * width)
        bias = cnn.to_slices.bias.detach()[rows]
        tensors |= _linear(f"{name}.to_slice.{i}", to_slices[rows], bias, ACTIVATION, FIXED)
        seen = previous[rows, :start] if start else torch.zeros(width, 1)
        tensors |= _linear(f"{name}.previous.{i}", seen, None, INPUT_LEVELS, FIXED)
        head = cnn.head_layers()[i]
        assert head.bias is not None
        scale = head_units(size)
        tensors |= _linear(f"{name}.head.{i}", _flat(head), head.bias.detach(), ACTIVATION, scale)
        start += size
    return tensors


def _quantizer(name: str, quantizer: Quantizer) -> Tensors:
    tensors: Tensors = {}
    for level in range(len(quantizer.config.groups)):
        for i, book in enumerate(quantizer.at(level)):
            key = f"{name}.codebook.{level}.{i}"
            bits = book.bias.detach() / math.log(2)
            tensors[f"{key}.codewords"] = _to_int(book.codewords * integer.CODEWORD_ONE, np.int16)
            tensors[f"{key}.labels"] = _to_int(book.labels * integer.CODEWORD_ONE, np.int16)
            tensors[f"{key}.bias"] = _to_int(bits * 2.0**12, np.int32)
    return tensors


@torch.no_grad()
def export(model: Model) -> tuple[Tensors, dict[str, Any]]:
    """Tensors and configuration of a trained model, as `store.save` takes them."""
    prior, t = model.prior, model.transform
    tensors = _pixelcnn("top", prior.top, t.top_gain)
    tensors |= _pixelcnn("bottom", prior.bottom, t.bottom_gain)
    for i, layer in enumerate((prior.lift_in, prior.lift_mix, prior.lift_out)):
        assert layer.bias is not None
        levels = INPUT_LEVELS if i == 0 else ACTIVATION
        tensors |= _linear(f"lift.{i}", _flat(layer), layer.bias.detach(), levels, FIXED)
    tensors |= _quantizer("top", model.top_quantizer)
    tensors |= _quantizer("bottom", model.bottom_quantizer)
    tensors["top.weight"] = (model.top_weight / math.log(2)).numpy()
    tensors["bottom.weight"] = (model.bottom_weight / math.log(2)).numpy()
    for name, value in t.state_dict().items():
        tensors[f"transform.{name}"] = value.numpy().astype(np.float16)
    config = {
        "transform": dataclasses.asdict(t.config),
        "steps": MAX_LEVEL // (t.config.levels - 1),
        "tile": TILE,
        "adaptive": model.config.adaptive,
        "top": {"slices": prior.top.config.slices, "groups": model.top_quantizer.config.groups},
        "bottom": {
            "slices": prior.bottom.config.slices,
            "groups": model.bottom_quantizer.config.groups,
        },
    }
    return tensors, config
