"""Fixtures: the tiny model in its forms from training to coding, none of them to be changed.

A plugin and not part of conftest.py, so that tests without the model do not wait for torch: modules
that want the fixtures say `pytest_plugins = ["tiny_fixtures"]`.
"""

from pathlib import Path

import pytest
import tiny_model
from safetensors.numpy import load_file

from vqzip import store
from vqzip.codec import CodecModel
from vqzip.integer import Tensors
from vqzip.model import Model
from vqzip.train.export import export

TILE = 8
"""Side of a tile of the bottom map: one tile is 64 x 64 pixels."""


@pytest.fixture(scope="session")
def trained() -> Model:
    """The model as training holds it."""
    return tiny_model.build()


@pytest.fixture(scope="session")
def exported(trained: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tensors, config = export(trained)
    store.save(tensors, config | {"tile": TILE}, folder)
    return folder


@pytest.fixture(scope="session")
def tensors(exported: Path) -> Tensors:
    """The tensors of the model's file."""
    loaded: Tensors = load_file(exported / "model.safetensors")
    return loaded


@pytest.fixture(scope="session")
def model(exported: Path) -> CodecModel:
    """The model, ready to code."""
    return store.load_model(exported)
