"""The golden model with parts that it was made without, as golden files have them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from vqzip.codec import CodecModel, Codes, unpack
from vqzip.container import unpack as unpack_container
from vqzip.store import assemble, fingerprint, load_tensors

GOLDEN = Path(__file__).parent / "golden"
FILTERED, TONED = GOLDEN / "filtered", GOLDEN / "toned"  # by the first terms, and by more of them
EDGED = GOLDEN / "edged"  # by all of them
GRADED, ADAPTIVE = GOLDEN / "graded", GOLDEN / "adaptive"


def codes_of(data: bytes, model: CodecModel) -> Codes:
    """The codes of a file."""
    parsed = unpack_container(data)
    header = parsed.header
    return unpack(model, parsed.code_stream, header.width, header.height, header.level)


def digest(codes: Codes) -> str:
    """SHA-256 of all codes, slice by slice, as little-endian 16-bit integers."""
    sha = hashlib.sha256()
    for part in (*codes.top, *codes.bottom):
        sha.update(part.astype("<u2").tobytes())
    return sha.hexdigest()


def with_filters(folder: Path) -> CodecModel:
    """The golden model with the filters in a folder."""
    tensors, config = load_tensors(GOLDEN / "model")
    tensors |= load_file(folder / "filters.safetensors")
    return assemble(tensors, config, fingerprint(tensors, config))


def with_learning() -> CodecModel:
    """The golden model with frequencies that learn."""
    tensors, config = load_tensors(GOLDEN / "model")
    config["adaptive"] = True
    return assemble(tensors, config, fingerprint(tensors, config))


def with_ends() -> CodecModel:
    """The golden model with weights that depend on the level, by numbers that are easily made."""
    tensors, config = load_tensors(GOLDEN / "model")
    layers = ["decoder_merge", "synthesis"]
    layers += [f"decoder.0.{layer}" for layer in ("reduce", "mix", "expand")]
    for sign, end in ((1, "low"), (-1, "high")):
        for layer in layers:
            weight = tensors[f"transform.{layer}.weight"]
            numbers = np.arange(weight.size) * 7919 % 201 - 100
            found = (sign * numbers / 2**12).reshape(weight.shape).astype(np.float16)
            tensors[f"transform.{layer}.ends.{end}"] = found
    config["transform"]["graded"] = True
    return assemble(tensors, config, fingerprint(tensors, config))
