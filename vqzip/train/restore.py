"""The inverse of `export`: a model that codes, as the start of more training.

What rounding to int8, half precision and fixed point took is lost, which is little; moving averages
of the codebooks start again.  Parts that the file has not keep their start values, so a model can
grow by parts that start as nothing.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vqzip import integer
from vqzip.container import MAX_LEVEL
from vqzip.errors import VqzError
from vqzip.integer import Tensors
from vqzip.model import Model, ModelConfig
from vqzip.prior import INPUT_LEVELS, CausalConv, PixelCNN
from vqzip.quantizer import Quantizer, QuantizerConfig
from vqzip.store import load_tensors
from vqzip.train.export import ACTIVATION, FIXED, HEAD, head_units


def _real(array: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(array.astype(np.float64))


def _fill(
    layer: nn.Conv2d,
    tensors: Tensors,
    name: str,
    input_levels: float,
    output: Tensor | float = FIXED,
) -> None:
    """The weights of `layer` back from int8, multipliers and biases."""
    one = 2.0**integer.REQUANTIZE_SHIFT
    per_unit = torch.as_tensor(output, dtype=torch.float64)
    step = _real(tensors[f"{name}.multiplier"]) / per_unit / one * input_levels
    flat = _real(tensors[f"{name}.weight"]) * step[:, None]
    outputs, inputs, *taps = layer.weight.shape
    if isinstance(layer, CausalConv):
        weight = torch.zeros(outputs, math.prod(taps), inputs, dtype=torch.float64)
        weight[:, layer.mask.flatten().bool()] = flat.reshape(outputs, -1, inputs)
    else:
        weight = flat.reshape(outputs, math.prod(taps), inputs)
    layer.weight.copy_(weight.reshape(outputs, *taps, inputs).permute(0, 3, 1, 2))
    if layer.bias is not None:
        layer.bias.copy_(_real(tensors[f"{name}.bias"]) / per_unit / one)


def _fill_pixelcnn(cnn: PixelCNN, tensors: Tensors, name: str, log_gain: Tensor) -> None:
    steps = MAX_LEVEL // (len(log_gain) - 1)
    inverse = _real(tensors[f"{name}.inverse_unit"])[::steps]
    unit = INPUT_LEVELS / inverse / integer.CODEWORD_ONE * 2.0**integer.INPUT_SHIFT
    cnn.scale.copy_((unit.log() - log_gain).mean(0).exp())
    cnn.level_embedding.copy_(_real(tensors[f"{name}.embedding"])[::steps] / FIXED)
    cnn.log_scale.copy_(_real(tensors[f"{name}.log_scale"])[::steps] / HEAD)
    _fill(cnn.context, tensors, f"{name}.context", INPUT_LEVELS)
    if cnn.condition is not None:
        _fill(cnn.condition, tensors, f"{name}.condition", ACTIVATION)
    for i, (spatial, pointwise) in enumerate(cnn.layers()):
        _fill(spatial, tensors, f"{name}.spatial.{i}", ACTIVATION)
        _fill(pointwise, tensors, f"{name}.pointwise.{i}", ACTIVATION)
    width, start = cnn.config.slice_width, 0
    one = 2.0**integer.REQUANTIZE_SHIFT
    cnn.from_previous.weight.zero_()
    for i, size in enumerate(cnn.config.slices):
        rows = slice(i * width, (i + 1) * width)
        part = nn.Conv2d(cnn.config.width, width, 1)
        _fill(part, tensors, f"{name}.to_slice.{i}", ACTIVATION)
        cnn.to_slices.weight[rows] = part.weight
        assert cnn.to_slices.bias is not None
        assert part.bias is not None
        cnn.to_slices.bias[rows] = part.bias
        if start:
            key = f"{name}.previous.{i}"
            step = _real(tensors[f"{key}.multiplier"]) / FIXED / one * INPUT_LEVELS
            seen = _real(tensors[f"{key}.weight"]) * step[:, None]
            cnn.from_previous.weight[rows, :start, 0, 0] = seen.float()
        _fill(cnn.head_layers()[i], tensors, f"{name}.head.{i}", ACTIVATION, head_units(size))
        start += size


def _fill_quantizer(quantizer: Quantizer, tensors: Tensors, name: str) -> None:
    for level in range(len(quantizer.config.groups)):
        for i, book in enumerate(quantizer.at(level)):
            key = f"{name}.codebook.{level}.{i}"
            book.codewords.copy_(_real(tensors[f"{key}.codewords"]) / integer.CODEWORD_ONE)
            book.labels.copy_(_real(tensors[f"{key}.labels"]) / integer.CODEWORD_ONE)
            book.bias.copy_(_real(tensors[f"{key}.bias"]) * math.log(2) / 2.0**12)
            # The averages start at one use of each codeword: soon forgotten, yet nothing is dead.
            book.total.copy_(book.codewords)


def _quantizer_config(part: dict[str, Any]) -> QuantizerConfig:
    groups = tuple(tuple((d, k) for d, k in level) for level in part["groups"])
    return QuantizerConfig(slices=tuple(part["slices"]), groups=groups)


@torch.no_grad()
def restore(folder: Path, config: ModelConfig) -> Model:
    """The model in `folder` in the shape of `config`, its codes' shape from the file.

    Raises VqzError when it is not a model, or has another shape.
    """
    tensors, stored = load_tensors(folder)
    top, bottom = (_quantizer_config(stored[which]) for which in ("top", "bottom"))
    config = config.with_latents(bottom.slices, stored["transform"].get("fine_latents", 0))
    model = Model(dataclasses.replace(config, top_quantizer=top, bottom_quantizer=bottom))
    try:
        weights = {
            key.removeprefix("transform."): torch.from_numpy(value.astype(np.float32))
            for key, value in tensors.items()
            if key.startswith("transform.")
        }
        t, prior = model.transform, model.prior
        unknown = t.load_state_dict(weights, strict=False).unexpected_keys
        if unknown:
            raise VqzError(f"{folder}: has {unknown[0]}, which the preset has not")
        _fill_pixelcnn(prior.top, tensors, "top", t.top_gain)
        _fill_pixelcnn(prior.bottom, tensors, "bottom", t.bottom_gain)
        for i, layer in enumerate((prior.lift_in, prior.lift_mix, prior.lift_out)):
            levels = INPUT_LEVELS if i == 0 else ACTIVATION
            _fill(layer, tensors, f"lift.{i}", levels)
        _fill_quantizer(model.top_quantizer, tensors, "top")
        _fill_quantizer(model.bottom_quantizer, tensors, "bottom")
        model.top_weight.copy_(_real(tensors["top.weight"]) * math.log(2))
        model.bottom_weight.copy_(_real(tensors["bottom.weight"]) * math.log(2))
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise VqzError(f"{folder}: not a model of this preset: {error}") from error
    return model
