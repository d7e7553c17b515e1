"""A finished model as the start of more training."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tiny_model
import torch

from vqzip import VqzError, store
from vqzip.integer import Tensors
from vqzip.model import Model
from vqzip.train.export import export
from vqzip.train.restore import restore
from vqzip.vqvae import TransformConfig

pytest_plugins = ["tiny_fixtures"]


@pytest.fixture(scope="module")
def restored(exported: Path) -> Model:
    """The tiny model after a way through its file."""
    return restore(exported, tiny_model.CONFIG)


def test_export_of_a_restored_model_is_the_file(restored: Model, tensors: Tensors) -> None:
    again, config = export(restored)
    assert config["top"]["groups"] == tiny_model.TOP_GROUPS
    assert again.keys() == tensors.keys()
    for name, first in tensors.items():
        second = again[name]
        assert (first.shape, first.dtype) == (second.shape, second.dtype), name
        # Weights come back exactly; tables of scales by way of gains in half precision.
        exact = first.dtype in (np.int8, np.float16, np.int16)
        limit = 0 if exact else 1 + 1e-3 * np.abs(first.astype(np.float64))
        difference = np.abs(first.astype(np.float64) - second.astype(np.float64))
        assert (difference <= limit).all(), (name, float(difference.max()))


def test_restored_prior_gives_what_the_model_gave(restored: Model, trained: Model) -> None:
    level = torch.tensor([3.0])
    vectors = torch.randn(1, 8, 4, 4, generator=torch.Generator().manual_seed(0)).round()
    gain = torch.ones(1, 8, 1, 1)
    for model in (restored, trained):
        model.prior.arithmetic.integer = True
    first, second = (m.prior.top(vectors, gain, level).detach() for m in (trained, restored))
    trained.prior.arithmetic.integer = False
    torch.testing.assert_close(first, second, atol=5e-3, rtol=5e-3)


SHAPE = tiny_model.CONFIG.transform


@pytest.mark.parametrize(
    "transform",
    [
        dataclasses.replace(SHAPE, refine_width=8),
        dataclasses.replace(SHAPE, modulated=True),
        dataclasses.replace(SHAPE, graded=True, refine_width=8),
    ],
    ids=["refine", "modulated", "graded"],
)
def test_a_model_may_grow_by_parts_that_start_as_nothing(
    exported: Path, transform: TransformConfig
) -> None:
    image, level = tiny_model.pictures(1, 32, seed=2), torch.tensor([4.0])
    seen = []
    for config in (tiny_model.CONFIG, dataclasses.replace(tiny_model.CONFIG, transform=transform)):
        t = restore(exported, config).eval().transform
        h = t.decode_top(torch.zeros(1, 8, 2, 2), level)
        vectors = t.bottom_latent(t.features(image, level), h, level)
        seen.append((vectors.detach(), t.decode(vectors, h, level).detach()))
    (vectors, decoded), (same_vectors, same) = seen
    assert torch.equal(vectors, same_vectors)
    assert torch.equal(decoded, same)


def test_another_shape_is_refused(exported: Path) -> None:
    transform = dataclasses.replace(tiny_model.CONFIG.transform, top_width=16)
    with pytest.raises(VqzError, match="not a model of this preset"):
        restore(exported, dataclasses.replace(tiny_model.CONFIG, transform=transform))
    smaller = dataclasses.replace(tiny_model.CONFIG.transform, decoder_blocks=0)
    with pytest.raises(VqzError, match=r"has decoder\.0.*, which the preset has not"):
        restore(exported, dataclasses.replace(tiny_model.CONFIG, transform=smaller))


def test_a_damaged_model_is_refused(trained: Model, tmp_path: Path) -> None:
    tensors, config = export(trained)
    store.save(tensors, config, tmp_path)
    file = tmp_path / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(VqzError, match="damaged model"):
        restore(tmp_path, tiny_model.CONFIG)
