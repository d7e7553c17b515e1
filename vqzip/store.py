"""Models on disk: `model.safetensors`, `config.json`, and the fingerprint that names them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqzip.errors import VqzError

if TYPE_CHECKING:
    from vqzip.codec import CodecModel
    from vqzip.integer import Tensors

DEFAULT = "photo"
CODEBOOK_PARTS = ("codewords", "labels", "bias")
_HERE = Path(__file__).parent


def models_folder() -> Path:
    """Where shipped models are: inside the package, or beside it in a checkout."""
    inside = _HERE / "models"
    return inside if inside.is_dir() else _HERE.parent / "models"


def installed() -> list[tuple[Path, bytes]]:
    """Folder and fingerprint of every shipped model."""
    folders = [path.parent for path in sorted(models_folder().glob("*/config.json"))]
    return [(path, _named_fingerprint(path, _read_config(path))) for path in folders]


def find_model(fingerprint: bytes) -> Path | None:
    """Folder of the shipped model with this fingerprint."""
    return next((path for path, known in installed() if known == fingerprint), None)


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise VqzError(f"{folder}: not a model: {error}") from error
    if not isinstance(config, dict):
        raise VqzError(f"{folder}: not a model: config.json is no object")
    return config


def _named_fingerprint(folder: Path, config: dict[str, Any]) -> bytes:
    try:
        return bytes.fromhex(config["fingerprint"])
    except (KeyError, TypeError, ValueError) as error:
        raise VqzError(f"{folder}: not a model: no fingerprint in config.json") from error


def fingerprint(tensors: Tensors, config: dict[str, Any]) -> bytes:
    """First 8 bytes of the SHA-256 over configuration and tensors in canonical form."""
    digest = hashlib.sha256()
    shape = {key: value for key, value in config.items() if key != "fingerprint"}
    digest.update(json.dumps(shape, sort_keys=True, separators=(",", ":")).encode())
    for name in sorted(tensors):
        array = tensors[name]
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name} {array.dtype.name} {list(array.shape)}\n".encode())
        digest.update(little.tobytes())
    return digest.digest()[:8]


def save(tensors: Tensors, config: dict[str, Any], folder: Path) -> bytes:
    """Write a model; returns its fingerprint."""
    from safetensors.numpy import save as save_tensors

    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads(json.dumps(config))
    name = fingerprint(tensors, config)
    (folder / "model.safetensors").write_bytes(save_tensors(dict(tensors)))
    text = json.dumps(config | {"fingerprint": name.hex()}, indent=1)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    return name


def load_tensors(folder: Path) -> tuple[Tensors, dict[str, Any]]:
    """A model's tensors and configuration, as `save` took them.

    Raises VqzError when they are missing, damaged or cannot be meant.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    from vqzip.schema import check_config, check_tensors

    config = _read_config(folder)
    try:
        tensors: Tensors = load_file(folder / "model.safetensors")
    except (OSError, SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise VqzError(f"{folder}: not a model: {error}") from error
    name = fingerprint(tensors, config)
    if name.hex() != config.get("fingerprint"):
        raise VqzError(f"{folder}: damaged model: its fingerprint is {name.hex()}")
    try:
        check_config(config)
        check_tensors(tensors, config)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise VqzError(f"{folder}: not a model of this version: {error}") from error
    return tensors, config


def load_model(path: str | os.PathLike[str] | None = None) -> CodecModel:
    """Load a model from its folder, or the default one.

    Raises VqzError when it is missing, damaged or not exact.
    """
    folder = models_folder() / DEFAULT if path is None else Path(path)
    tensors, config = load_tensors(folder)
    try:
        return assemble(tensors, config, bytes.fromhex(config["fingerprint"]))
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise VqzError(f"{folder}: not a model of this version: {error}") from error


def assemble(tensors: Tensors, config: dict[str, Any], name: bytes = b"") -> CodecModel:
    """A model from its tensors and its configuration; the name is its fingerprint.

    Raises VqzError when it is not exact.
    """
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from vqzip.codec import CodecModel
    from vqzip.codemap import CodeMap
    from vqzip.entropy import CodebookTable
    from vqzip.integer import IntegerPixelCNN, Lift
    from vqzip.terms import of_all_terms
    from vqzip.vqvae import Transform, TransformConfig
    from vqzip.wiener import FilterBank

    def code_map(which: str, tile: int) -> CodeMap:
        slices = tuple(config[which]["slices"])
        levels = range(config["transform"]["levels"])
        keys = [[f"{which}.codebook.{v}.{i}" for i in range(len(slices))] for v in levels]
        return CodeMap(
            prior=IntegerPixelCNN(tensors, which, slices),
            tables=[
                [CodebookTable(*(tensors[f"{k}.{part}"] for part in CODEBOOK_PARTS)) for k in row]
                for row in keys
            ],
            weight=tensors[f"{which}.weight"].astype(np.float32),
            tile=tile,
            steps=config["steps"],
            adaptive=config.get("adaptive", False),
        )

    def weight_of(array: NDArray[np.generic]) -> torch.Tensor:
        weight = torch.from_numpy(array.astype(np.float32))
        # Channels last, networks take a tenth of their time less, or more.
        last = weight.ndim == 4
        return weight.contiguous(memory_format=torch.channels_last) if last else weight

    # Not on the meta device, though the start values are for nothing: it would import dynamo.
    transform = Transform(TransformConfig(**config["transform"]))
    weights = {
        key.removeprefix("transform."): weight_of(value)
        for key, value in tensors.items()
        if key.startswith("transform.")
    }
    transform.load_state_dict(weights, assign=True)
    bank = None
    if "wiener.kernels" in tensors:
        bank = FilterBank(
            kernels=of_all_terms(tensors["wiener.kernels"].astype(np.float32)),
            steps=tensors["wiener.steps"].astype(np.float32),
            weights=tensors["wiener.weights"].astype(np.float64),
        )
    return CodecModel(
        fingerprint=name,
        transform=transform.eval().requires_grad_(False),
        top=code_map("top", config["tile"] // 2),
        bottom=code_map("bottom", config["tile"]),
        lift=Lift(tensors),
        bank=bank,
    )
