"""What a valid model's files contain: every tensor of the prior with its type and shape.

A model may come from anywhere, and its fingerprint says only that it is what its author made.
Whatever passes here and loads can decode any stream, without surprises from a shape that happens
to broadcast, and without taking more memory than its files do.  FORMAT.md has the same table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqzip.container import MAX_LEVEL
from vqzip.integer import SCALE_HIGHEST, SCALE_LOWEST, SCALE_STEP, Tensors

WIDEST, MOST_BLOCKS = 1024, 64  # a configuration beyond these would only exhaust memory
WIDEST_TILE, MOST_CODEWORDS = 2**15, 4096

MOST_KERNELS = 256
KERNELS, WEIGHTS, STEPS = "wiener.kernels", "wiener.weights", "wiener.steps"
LARGEST_WEIGHT = 2**28  # of the coder's, so that it knows what codes take at least
LARGEST_STEP = 2**16  # so that pixels are finite
TERMS = 53, 84, 188  # of a filter and a colour: `terms.PLAIN_TERMS`, `TONED_TERMS`, `TERMS`

Entry = tuple[str, str, tuple[int, ...]]  # name, type, shape


def check_config(config: dict[str, Any]) -> None:
    """Refuse a configuration that could not be meant, before anything is built from it.

    Raises ValueError; AttributeError, KeyError and TypeError where parts are missing or not what
    they should be.
    """
    transform = config["transform"]
    for name, value in transform.items():
        _check_size(name, value)
    steps, tile = config["steps"], config["tile"]
    if type(steps) is not int or steps < 1 or steps * (transform["levels"] - 1) != MAX_LEVEL:
        raise ValueError(f"its levels do not span 0 to {MAX_LEVEL}")
    if type(tile) is not int or not 2 <= tile <= WIDEST_TILE or tile % 2:
        raise ValueError(f"tile is {str(tile)[:20]}")
    if type(config.get("adaptive", False)) is not bool:
        raise ValueError(f"adaptive is {str(config['adaptive'])[:20]}")
    for which in ("top", "bottom"):
        slices = config[which]["slices"]
        if not all(type(size) is int and size > 0 for size in slices):
            raise ValueError(f"{which}.slices is {str(slices)[:20]}")
        if sum(slices) != transform[f"{which}_latents"]:
            raise ValueError(f"{which}.slices do not add up to its latents")


def _check_size(name: str, value: Any) -> None:
    if name == "lowest_lambda":
        meant = type(value) is float and 0 < value < 1
    elif name in ("modulated", "graded"):
        meant = type(value) is bool
    else:
        blocks = name.endswith("_blocks")
        least = 0 if blocks or name in ("refine_width", "fine_latents") else 1
        meant = type(value) is int and least <= value <= (MOST_BLOCKS if blocks else WIDEST)
    if not meant:
        raise ValueError(f"{name} is {str(value)[:20]}")


def check_tensors(tensors: Tensors, config: dict[str, Any]) -> None:
    """Refuse tensors that are not those of the configuration, which is valid.

    The shapes of the transform's are left to PyTorch, but not how large a network it builds first.

    Raises ValueError; IndexError and KeyError where what gives a size is not there.
    """
    transform = {name: t for name, t in tensors.items() if name.startswith("transform.")}
    for name, tensor in transform.items():
        if tensor.dtype != np.float16 or not np.isfinite(tensor).all():
            raise ValueError(f"{name} is not of finite float16")
    blocks = config["transform"]["top_blocks"] * config["transform"]["top_width"] ** 2
    if 2 * blocks > sum(tensor.size for tensor in transform.values()):
        raise ValueError("its top blocks are not those of its tensors")
    expected = {name: (kind, shape) for name, kind, shape in _prior(tensors, config)}
    for name in sorted(expected.keys() | (tensors.keys() - transform.keys())):
        if name not in expected:
            raise ValueError(f"{name} is not a tensor of a model")
        kind, shape = expected[name]
        if (tensors[name].dtype.name, tensors[name].shape) != (kind, shape):
            raise ValueError(f"{name} is not {kind} of shape {list(shape)}")
        if kind.startswith("float") and not np.isfinite(tensors[name]).all():
            raise ValueError(f"{name} is not finite")
    if WEIGHTS in tensors:
        _check_filters(tensors[WEIGHTS], tensors[STEPS])


def _check_filters(weights: NDArray[Any], steps: NDArray[Any]) -> None:
    if weights.min() < 1 or (weights.max(1) != LARGEST_WEIGHT).any():
        raise ValueError(f"{WEIGHTS} are not 1 to {LARGEST_WEIGHT} in each row")
    if not 0 < steps.min() <= steps.max() < LARGEST_STEP:
        raise ValueError(f"{STEPS} are not all above 0 and below {LARGEST_STEP}")


def _prior(tensors: Tensors, config: dict[str, Any]) -> Iterator[Entry]:
    top, bottom = (config["transform"][f"{which}_latents"] for which in ("top", "bottom"))
    yield from _map(tensors, config, "top", top)
    yield from _map(tensors, config, "bottom", bottom)
    condition = tensors["bottom.condition.weight"].shape[1]
    yield from _linear("bottom.condition", _outputs(tensors, "bottom.embedding"), condition)
    first, second = _outputs(tensors, "lift.0.bias"), _outputs(tensors, "lift.1.bias")
    yield from _linear("lift.0", first, 9 * top)
    yield from _linear("lift.1", second, 9 * first)
    yield from _linear("lift.2", 4 * condition, second)
    if WEIGHTS in tensors:
        yield from _filters(tensors)


def _map(tensors: Tensors, config: dict[str, Any], which: str, channels: int) -> Iterator[Entry]:
    slices, levels = config[which]["slices"], config["transform"]["levels"]
    width = _outputs(tensors, f"{which}.embedding")
    yield f"{which}.embedding", "int32", (MAX_LEVEL + 1, width)
    for table in ("unit", "inverse_unit", "log_scale"):
        yield f"{which}.{table}", "int32", (MAX_LEVEL + 1, channels)
    yield f"{which}.precision", "int32", ((SCALE_HIGHEST - SCALE_LOWEST) * SCALE_STEP + 1,)
    yield f"{which}.weight", "float32", (levels, channels)
    yield from _linear(f"{which}.context", width, 11 * channels)
    layers = sum(name.startswith(f"{which}.spatial.") for name in tensors) // 3
    for i in range(layers):
        middle = _outputs(tensors, f"{which}.spatial.{i}.bias")
        yield from _linear(f"{which}.spatial.{i}", middle, 5 * width)
        yield from _linear(f"{which}.pointwise.{i}", width, middle)
    for i, size in enumerate(slices):
        inner, before = _outputs(tensors, f"{which}.to_slice.{i}.bias"), sum(slices[:i])
        yield from _linear(f"{which}.to_slice.{i}", inner, width)
        yield from _linear(f"{which}.previous.{i}", inner, max(1, before))
        yield from _linear(f"{which}.head.{i}", 4 * size, inner)
        for level in range(levels):
            yield from _codebook(tensors, f"{which}.codebook.{level}.{i}", size)


def _filters(tensors: Tensors) -> Iterator[Entry]:
    count, values = tensors[WEIGHTS].shape
    if not 0 < count <= MOST_KERNELS or values % 2 == 0 or values > MOST_CODEWORDS:
        raise ValueError(f"{WEIGHTS} are {count} rows of {values}")
    terms = tensors[KERNELS].shape[-1]
    if terms not in TERMS:
        raise ValueError(f"{KERNELS} are of {terms} terms")
    yield KERNELS, "float16", (count, 3, terms)
    yield STEPS, "float32", (MAX_LEVEL + 1,)
    yield WEIGHTS, "int32", (count, values)


def _linear(name: str, outputs: int, inputs: int) -> Iterator[Entry]:
    yield f"{name}.weight", "int8", (outputs, inputs)
    yield f"{name}.multiplier", "int32", (outputs,)
    yield f"{name}.bias", "int64", (outputs,)


def _codebook(tensors: Tensors, name: str, channels: int) -> Iterator[Entry]:
    groups, size = tensors[f"{name}.bias"].shape[:2]
    if groups * size == 0 or channels % groups or size > MOST_CODEWORDS:
        raise ValueError(f"{name} has {groups} groups of {size} codewords for {channels} channels")
    for part in ("codewords", "labels"):
        yield f"{name}.{part}", "int16", (groups, size, channels // groups)
    yield f"{name}.bias", "int32", (groups, size)


def _outputs(tensors: Tensors, name: str) -> int:
    """The last of a tensor's sizes: how many values it holds for a position."""
    outputs: int = tensors[name].shape[-1]
    return outputs
