"""What files decode to and what pictures are encoded to, here: with this process's settings.

    python tests/exactness_process.py FOLDER NAME

Encodes the pictures in FOLDER to files whose names begin with NAME, decodes all files in FOLDER,
saves their pixels, and prints the facts that have to be the same everywhere as JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import vqzip
from vqzip import codec, container, store, threads
from vqzip.codec import CodecModel
from vqzip.coder import Decoder, Encoder, Intervals, intervals_of, sums_of
from vqzip.integer import Doubles

MODELS = {None: (15, 100), Path(__file__).parent / "golden" / "model": (60,)}
"""Folders of models, and qualities to encode at: the default model, and one of small tiles."""


@dataclass(frozen=True)
class Facts:
    """What must not depend on the machine: SHA-256 of integers."""

    intervals: str
    codes: str
    stream: str


@contextmanager
def listening() -> Iterator[Callable[[], str]]:
    """Note the intervals that `codec` codes with; gives their SHA-256."""
    digest = hashlib.sha256()

    def note(intervals: Intervals) -> None:
        digest.update(np.stack(intervals, axis=1).astype("<u4").tobytes())

    class NotingEncoder(Encoder):
        def put(self, codes: NDArray[np.integer[Any]], weights: Doubles) -> None:
            note(intervals_of(codes, sums_of(codes, weights), weights.shape[1]))
            super().put(codes, weights)

        def put_intervals(self, intervals: Intervals) -> None:
            note(intervals)
            super().put_intervals(intervals)

    class NotingDecoder(Decoder):
        def get(self, weights: Doubles) -> NDArray[np.int32]:
            codes = super().get(weights)
            note(intervals_of(codes, sums_of(codes, weights), weights.shape[1]))
            return codes

    vars(codec).update(Encoder=NotingEncoder, Decoder=NotingDecoder)
    try:
        yield digest.hexdigest
    finally:
        vars(codec).update(Encoder=Encoder, Decoder=Decoder)


def load() -> list[CodecModel]:
    """The models that files are made with."""
    return [store.load_model(folder) for folder in MODELS]


def encode(models: list[CodecModel], folder: Path, name: str) -> None:
    """Compress the pictures in a folder to files there."""
    for picture in sorted(folder.glob("*.png")):
        for model, qualities in zip(models, MODELS.values(), strict=True):
            for quality in qualities:
                path = folder / f"{name}-{model.fingerprint.hex()}-q{quality}.vqz"
                path.write_bytes(vqzip.compress(picture, quality, model))


def decode(models: list[CodecModel], file: Path) -> tuple[Facts, NDArray[np.uint8]]:
    """A file's facts, the same by decoder and by encoder, and its pixels (height, width, 3)."""
    known = {model.fingerprint: model for model in models}
    parsed = container.unpack(file.read_bytes())
    header, stream = parsed.header, parsed.code_stream
    model = known[header.fingerprint]
    with listening() as decoded_with:
        codes = codec.unpack(model, stream, header.width, header.height, header.level)
    with listening() as encoded_with:
        packed = codec.pack(model, codes, header.level)
    assert encoded_with() == decoded_with()
    pixels = codec.synthesise(model, codes, header.width, header.height, header.level)
    numbers = b"".join(part.astype("<u2").tobytes() for part in (*codes.top, *codes.bottom))
    shas = (hashlib.sha256(data).hexdigest() for data in (numbers, packed))
    return Facts(decoded_with(), *shas), pixels


def main() -> None:
    """Do both, and print."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    threads.LEAST = 8  # rows of a piece: small pictures are shared among threads, too
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    models = load()
    encode(models, folder, name)
    facts = {}
    for file in sorted(folder.glob("*.vqz")):
        facts[file.name], pixels = decode(models, file)
        np.save(folder / f"{name}-{file.stem}.npy", pixels)
    about = {"torch": torch.__version__, "simd": torch.backends.cpu.get_cpu_capability()}
    print(json.dumps({**about, "facts": {k: asdict(v) for k, v in facts.items()}}))  # noqa: T201


if __name__ == "__main__":
    main()
