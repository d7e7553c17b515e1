import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from vqzip import schema
from vqzip.integer import Tensors
from vqzip.schema import check_config, check_tensors
from vqzip.store import models_folder

GOLDEN = Path(__file__).parent / "golden" / "model"
Array = NDArray[np.generic]


def read(folder: Path) -> tuple[Tensors, dict[str, Any]]:
    return load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())


@pytest.fixture(scope="module")
def golden() -> tuple[Tensors, dict[str, Any]]:
    return read(GOLDEN)


def assert_refused(tensors: Tensors, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared
        check_tensors(tensors, config)
    assert str(caught.value) == message


@pytest.mark.parametrize("folder", [GOLDEN, *models_folder().iterdir()], ids=lambda p: p.name)
def test_models_are_valid(folder: Path) -> None:
    tensors, config = read(folder)
    check_config(config)
    check_tensors(tensors, config)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        # All of these would load without the check, and some would decode: they broadcast.
        ("top.context.bias", lambda t: t[:1], "top.context.bias is not int64 of shape [16]"),
        ("top.context.bias", lambda t: t[:, None], "top.context.bias is not int64 of shape [16]"),
        ("bottom.unit", lambda t: t[:64], "bottom.unit is not int32 of shape [129, 32]"),
        ("bottom.unit", lambda t: t[:, :1], "bottom.unit is not int32 of shape [129, 32]"),
        ("top.precision", lambda t: t[:0], "top.precision is not int32 of shape [577]"),
        ("lift.2.weight", lambda t: t[:, :8], "lift.2.weight is not int8 of shape [64, 16]"),
        ("top.weight", lambda t: t[:1], "top.weight is not float32 of shape [3, 16]"),
        ("top.weight", lambda t: t * np.float32(np.inf), "top.weight is not finite"),
        (
            "bottom.codebook.0.1.codewords",
            lambda t: t.repeat(2, 1),
            "bottom.codebook.0.1.codewords is not int16 of shape [3, 13, 4]",
        ),
        (
            "bottom.codebook.0.1.bias",
            lambda t: t[:, :0],
            "bottom.codebook.0.1 has 3 groups of 0 codewords for 12 channels",
        ),
        (
            "bottom.codebook.0.1.bias",
            lambda t: t.repeat(4096, 1),
            "bottom.codebook.0.1 has 3 groups of 53248 codewords for 12 channels",
        ),
        (
            "bottom.codebook.0.1.bias",
            lambda t: t.repeat(3, 0),
            "bottom.codebook.0.1 has 9 groups of 13 codewords for 12 channels",
        ),
        # Exact as floats, but not what the format says.
        (
            "top.head.0.weight",
            lambda t: t.astype(np.float32),
            "top.head.0.weight is not int8 of shape [16, 16]",
        ),
        (
            "transform.top_gain",
            lambda t: t.astype(np.float32),
            "transform.top_gain is not of finite float16",
        ),
        (
            "transform.top_gain",
            lambda t: np.full_like(t, np.nan),
            "transform.top_gain is not of finite float16",
        ),
    ],
)
def test_wrong_tensors(
    golden: tuple[Tensors, dict[str, Any]],
    name: str,
    change: Callable[[Array], Array],
    message: str,
) -> None:
    tensors, config = golden
    assert_refused(tensors | {name: change(tensors[name])}, config, message)


def filters_of(terms: int) -> Tensors:
    """Those of four kernels of some terms."""
    return {
        "wiener.kernels": np.ones((4, 3, terms), np.float16),
        "wiener.steps": np.ones(129, np.float32),
        "wiener.weights": np.full((4, 7), 2**28, np.int32),
    }


@pytest.mark.parametrize("terms", schema.TERMS)
def test_filters_are_of_the_first_terms_or_of_all(
    golden: tuple[Tensors, dict[str, Any]], terms: int
) -> None:
    tensors, config = golden
    check_tensors(tensors | filters_of(terms), config)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("weights", lambda t: t[:, :6], "wiener.weights are 4 rows of 6"),
        ("weights", lambda t: t[:0], "wiener.weights are 0 rows of 7"),
        ("weights", lambda t: t.repeat(65, 0), "wiener.weights are 260 rows of 7"),
        ("weights", lambda t: t.repeat(2, 0), "wiener.kernels is not float16 of shape [8, 3, 188]"),
        ("weights", lambda t: t - 2**28, "wiener.weights are not 1 to 268435456 in each row"),
        ("weights", lambda t: t // 2, "wiener.weights are not 1 to 268435456 in each row"),
        ("weights", lambda t: t * 2, "wiener.weights are not 1 to 268435456 in each row"),
        ("steps", lambda t: t[:64], "wiener.steps is not float32 of shape [129]"),
        ("steps", lambda t: -t, "wiener.steps are not all above 0 and below 65536"),
        ("steps", lambda t: t * np.float32(np.nan), "wiener.steps is not finite"),
        ("kernels", lambda t: t[:, :, :52], "wiener.kernels are of 52 terms"),
        ("kernels", lambda t: t[:3], "wiener.kernels is not float16 of shape [4, 3, 188]"),
        ("kernels", lambda t: t * np.float16(np.inf), "wiener.kernels is not finite"),
    ],
)
def test_wrong_filters(
    golden: tuple[Tensors, dict[str, Any]],
    name: str,
    change: Callable[[Array], Array],
    message: str,
) -> None:
    tensors, config = golden
    filters = filters_of(schema.TERMS[-1])
    check_tensors(tensors | filters, config)
    key = f"wiener.{name}"
    assert_refused(tensors | filters | {key: change(filters[key])}, config, message)


def test_filters_are_there_as_a_whole_or_not_at_all(golden: tuple[Tensors, dict[str, Any]]) -> None:
    tensors, config = golden
    with pytest.raises(ValueError, match=r"^wiener\.steps is not a tensor of a model$"):
        check_tensors(tensors | {"wiener.steps": np.ones(129, np.float32)}, config)
    with pytest.raises(KeyError):
        check_tensors(tensors | {"wiener.weights": np.ones((4, 7), np.int32)}, config)


def test_tensors_that_are_none_of_a_model(golden: tuple[Tensors, dict[str, Any]]) -> None:
    tensors, config = golden
    for name in ("top.head.2.bias", "extra"):
        with pytest.raises(ValueError, match=f"^{name} is not a tensor of a model$"):
            check_tensors(tensors | {name: np.zeros(3)}, config)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("transform", "lowest_lambda"), 10**400, "lowest_lambda is 10000000000000000000"),
        (("transform", "lowest_lambda"), "0.01", "lowest_lambda is 0.01"),
        (("transform", "modulated"), 1, "modulated is 1"),
        (("transform", "graded"), "yes", "graded is yes"),
        (("transform", "top_width"), 0, "top_width is 0"),
        (("transform", "top_width"), 1025, "top_width is 1025"),
        (("transform", "decoder_blocks"), 65, "decoder_blocks is 65"),
        (("transform", "levels"), 0, "levels is 0"),
        (("adaptive",), 1, "adaptive is 1"),
        (("steps",), -64, "its levels do not span 0 to 128"),
        (("tile",), 2**16, "tile is 65536"),
        (("tile",), 127, "tile is 127"),
        (("top", "slices"), [4, 11], "top.slices do not add up to its latents"),
        (("top", "slices"), "4, 12", "top.slices is 4, 12"),
    ],
)
def test_wrong_configurations(
    golden: tuple[Tensors, dict[str, Any]], path: tuple[str, ...], value: object, message: str
) -> None:
    config = copy.deepcopy(golden[1])
    inner = config
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared
        check_config(config)

    assert str(caught.value) == message


def test_a_network_larger_than_its_tensors_is_not_built(
    golden: tuple[Tensors, dict[str, Any]],
) -> None:
    """It would take gigabytes before PyTorch saw that its weights are not there."""
    tensors, config = golden
    config = copy.deepcopy(config)
    config["transform"] |= {"top_blocks": 64, "top_width": 1024}
    check_config(config)
    with pytest.raises(ValueError, match=r"^its top blocks are not those of its tensors$"):
        check_tensors(tensors, config)
