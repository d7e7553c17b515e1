"""A stand-in for the learned codec, where a test is about what surrounds it.

It stores the pixels, and its models are folders that hold a file `fingerprint`.
"""

import os
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from vqzip.errors import VqzError

DEFAULT = b"default!"

installed: dict[bytes, Path] = {}
"""Models that find_model knows besides the default one."""


@dataclass(frozen=True)
class CodecModel:
    fingerprint: bytes


def load_model(path: str | os.PathLike[str] | None) -> CodecModel:
    if path is None or os.fspath(path) == "/default":
        return CodecModel(DEFAULT)
    file = Path(path) / "fingerprint"
    if not file.is_file():
        raise VqzError("not a model", os.fspath(path))
    return CodecModel(file.read_bytes())


def find_model(fingerprint: bytes) -> Path | None:
    return {DEFAULT: Path("/default"), **installed}.get(fingerprint)


def analyse(
    model: CodecModel, pixels: NDArray[np.uint8], level: int, search: object = None
) -> NDArray[np.uint8]:
    return pixels


def synthesise(
    model: CodecModel, codes: NDArray[np.uint8], width: int, height: int, level: int
) -> NDArray[np.uint8]:
    return codes


def pack(model: CodecModel, codes: NDArray[np.uint8], level: int) -> bytes:
    return bytes([level]) + zlib.compress(codes.tobytes())


def encode(
    model: CodecModel, pixels: NDArray[np.uint8], level: int, search: object = None
) -> bytes:
    return pack(model, pixels, level)


def decode(
    model: CodecModel, stream: bytes, width: int, height: int, level: int
) -> NDArray[np.uint8]:
    if stream[0] != level:
        raise VqzError("broken code stream")
    pixels = np.frombuffer(zlib.decompress(stream[1:]), np.uint8)
    return pixels.reshape(height, width, 3)


def preview(
    model: CodecModel, stream: bytes, width: int, height: int, level: int
) -> NDArray[np.uint8]:
    return np.zeros((height, width, 3), np.uint8)


def modules() -> dict[str, ModuleType]:
    """The modules to put in the place of vqzip.store, vqzip.codec and vqzip.encoding."""
    store, codec = ModuleType("vqzip.store"), ModuleType("vqzip.codec")
    encoding = ModuleType("vqzip.encoding")
    vars(store).update(load_model=load_model, find_model=find_model, CodecModel=CodecModel)
    vars(codec).update(synthesise=synthesise, pack=pack, decode=decode, preview=preview)
    vars(encoding).update(analyse=analyse, encode=encode)
    return {"vqzip.store": store, "vqzip.codec": codec, "vqzip.encoding": encoding}


def main() -> int:
    """The command line on top of this codec, for tests that need a process of their own."""
    sys.modules.update(modules())
    from vqzip.cli import main as cli_main

    return cli_main()


if __name__ == "__main__":
    sys.exit(main())
if __name__ == "__mp_main__":  # a process that `vqzip -j` has started
    sys.modules.update(modules())
