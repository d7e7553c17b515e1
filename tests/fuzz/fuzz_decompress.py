"""Fuzzing with atheris: whatever the bytes, decompression gives a picture or raises VqzError.

    python tests/fuzz/fuzz_decompress.py build/corpus tests/fuzz/corpus -max_total_time=1800

README.md in this folder says more.
"""

from __future__ import annotations

import os
import random
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import atheris

# PyTorch keeps the kernels of 1024 shapes otherwise, which looks like a leak.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")

with atheris.instrument_imports(include=["vqzip"]):
    import vqzip
    import vqzip.codec  # otherwise imported when needed, and then not instrumented
    from vqzip import container, store
    from vqzip.container import MAX_LEVEL, MAX_NUMBER, Chunk

MODEL = store.load_model(Path(__file__).parents[1] / "golden" / "model")
SIDES = (1, 2, 16, 17, 64, 115, 4096, 2**14, 2**28, MAX_NUMBER)


def one_input(data: bytes) -> None:
    """Decompress; every exception that is not a VqzError ends the run."""
    try:
        about = vqzip.info(data)
        image = vqzip.decompress(data, MODEL)
    except vqzip.VqzError as error:
        assert str(error).isprintable()  # noqa: PT017 - not a test of pytest
        return
    assert image.size == (about.width, about.height)


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Change a part of a file and mend the rest: fuzzing alone would hardly pass the checksum."""
    rng = random.Random(seed)
    try:
        file = container.unpack(data, max_pixels=None)
    except vqzip.VqzError:
        return bytes(atheris.Mutate(data, max_size))
    part = rng.choice(["bytes", "body", "header", "chunk", "chunk"])
    if part == "bytes":
        changed = bytes(atheris.Mutate(data, max_size))
    elif part == "body":
        body = bytes(atheris.Mutate(data[:-4], max_size - 4))
        changed = body + zlib.crc32(body).to_bytes(4, "little")
    elif part == "header":
        header = replace(
            file.header,
            width=rng.choice([file.header.width, *SIDES]),
            height=rng.choice([file.header.height, *SIDES]),
            level=rng.randint(0, MAX_LEVEL),
            fingerprint=MODEL.fingerprint,
        )
        changed = replace(file, header=header).pack()
    else:
        chunks = list(file.chunks)
        i = rng.randrange(len(chunks))
        payload = bytes(atheris.Mutate(chunks[i].payload, max_size))
        chunks[i] = Chunk(chunks[i].type, payload)
        changed = replace(file, chunks=tuple(chunks)).pack()
    return changed[:max_size]


if __name__ == "__main__":
    arguments = ["-timeout=10", "-rss_limit_mb=2048", "-max_len=4096", *sys.argv[1:]]
    atheris.Setup([sys.argv[0], *arguments], one_input, custom_mutator=mutate)
    atheris.Fuzz()
