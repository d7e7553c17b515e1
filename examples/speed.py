"""Seconds to encode and decode pictures, beside Pillow's WebP and AVIF in the same run.

    python examples/speed.py PICTURE... [--repeats N] [--sizes 4000x3000,10000x10000]

Prints medians, the model being loaded before, and how many times as long vqzip takes as the others.
Encoding, the range coder works beside the prior.  Then commands from the shell, `vqzip decompress`
also above `python -c "import torch"`.  `--sizes` adds the first picture at other sizes, each once,
encoded and decoded in processes of their own for the peak of their memory.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from statistics import median
from typing import Any

from vqzip.process import prepare

prepare()

from PIL import Image  # noqa: E402

import vqzip  # noqa: E402
from vqzip import bands, codec, encoding, store  # noqa: E402
from vqzip.coder import Decoder, Encoder  # noqa: E402
from vqzip.image import load  # noqa: E402
from vqzip.quality import DEFAULT_QUALITY, level_of_quality  # noqa: E402

PARTS: dict[str, list[tuple[Any, str]]] = {
    "network": [
        (bands.Analysis, "top_latent"),
        (bands.Analysis, "bottom_latent"),
        (bands, "synthesise"),
    ],
    "range coder": [(Encoder, "put"), (Decoder, "get")],
}
REST = "prior"  # and the choice of codes
spent = dict.fromkeys(PARTS, 0.0)


def watch(part: str, owner: Any, name: str) -> None:
    """Count the seconds that a function takes for those of a part."""
    function = getattr(owner, name)

    @wraps(function)
    def timed(*args: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **options)
        finally:
            spent[part] += time.perf_counter() - start

    setattr(owner, name, timed)


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median time of a call, the first one left out if there are others."""
    return split(work, repeats)["all"]


def split(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """Median times of a call and of its parts, the first one left out if there are others."""
    runs = []
    for _ in range(repeats + 1):
        spent.update(dict.fromkeys(PARTS, 0.0))
        start = time.perf_counter()
        work()
        whole = time.perf_counter() - start
        runs.append({"all": whole, **spent, REST: whole - sum(spent.values())})
    return {part: median(run[part] for run in runs[1:] or runs) for part in runs[0]}


def pillow(image: Image.Image, repeats: int, name: str, **options: object) -> tuple[float, float]:
    """Seconds to encode and to decode with one of Pillow's codecs."""
    buffer = io.BytesIO()

    def encode() -> None:
        buffer.seek(0)
        image.save(buffer, name, **options)

    to_encode = seconds(encode, repeats)
    return to_encode, seconds(lambda: Image.open(buffer).convert("RGB"), repeats)


def measure(image: Image.Image, model: codec.CodecModel, repeats: int) -> None:
    """Print the times of one picture."""
    pixels, level = load(image).pixels, level_of_quality(DEFAULT_QUALITY)
    height, width, _ = pixels.shape
    streams: list[bytes] = []
    to_encode = split(lambda: streams.append(encoding.encode(model, pixels, level)), repeats)
    stream = streams[0]
    to_decode = split(lambda: codec.decode(model, stream, width, height, level), repeats)
    print(f"{width} x {height}, {8 * len(stream) / (width * height):.3f} bpp: encode, decode")
    for part, time_taken in to_encode.items():
        print(f"  {part.replace('all', 'vqzip'):12} {time_taken:8.3f} s {to_decode[part]:8.3f} s")
    for name, options in (("WEBP", {"method": 6}), ("AVIF", {"speed": 4, "quality": 60})):
        if f".{name.lower()}" not in Image.registered_extensions():
            continue
        encode, decode = pillow(image, repeats, name, **options)
        ratios = to_encode["all"] / encode, to_decode["all"] / decode
        print(
            f"  {name.lower():12} {encode:8.3f} s {decode:8.3f} s, vqzip takes "
            f"{ratios[0]:.1f} and {ratios[1]:.0f} times as long"
        )


def alone(direction: str, picture: Path, width: int, height: int, stream: Path) -> None:
    """Encode a picture at another size to a file, or decode that; print times and peak."""
    model, level = store.load_model(), level_of_quality(DEFAULT_QUALITY)
    if direction == "encode":
        with Image.open(picture) as image:
            pixels = load(image.convert("RGB").resize((width, height))).pixels
        times = split(lambda: stream.write_bytes(encoding.encode(model, pixels, level)), 0)
    else:
        data = stream.read_bytes()
        times = split(lambda: codec.decode(model, data, width, height, level), 0)
    parts = ", ".join(f"{part} {time_taken:.1f}" for part, time_taken in times.items())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{direction} {width} x {height}: seconds {parts}; peak of memory {peak:.0f} MB")


def each_alone(picture: Path, size: str) -> None:
    """Encode and decode a picture at another size, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        stream = os.path.join(folder, "stream")
        for direction in ("encode", "decode"):
            command = [sys.executable, __file__, str(picture), "--alone", direction, size, stream]
            subprocess.run(command, check=True)


def from_the_shell(picture: Path, repeats: int) -> None:
    """Print the times of whole commands."""
    with tempfile.TemporaryDirectory() as folder:
        packed, out = os.path.join(folder, "a.vqz"), os.path.join(folder, "a.png")
        Path(packed).write_bytes(vqzip.compress(picture))

        def command(*arguments: str) -> float:
            line = [sys.executable, *arguments]
            return seconds(
                lambda: subprocess.run(line, check=True, stdout=subprocess.DEVNULL), repeats
            )

        print(f"vqzip --help: {command('-m', 'vqzip', '--help'):.2f} s")
        print(f"vqzip info: {command('-m', 'vqzip', 'info', packed):.2f} s")
        whole = command("-m", "vqzip", "decompress", "-f", packed, "-o", out)
        above = whole - command("-c", "import torch")
    print(f"vqzip decompress: {whole:.2f} s, {above:.2f} s above `import torch`")


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sizes", type=lambda text: text.split(","), default=[])
    parser.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for part, functions in PARTS.items():
        for owner, name in functions:
            watch(part, owner, name)
    first = arguments.pictures[0]
    if arguments.alone:
        direction, size, stream = arguments.alone
        width, height = map(int, size.split("x"))
        alone(direction, first, width, height, Path(stream))
        return
    model = store.load_model()
    for picture in arguments.pictures:
        with Image.open(picture) as image:
            measure(image.convert("RGB"), model, arguments.repeats)
    from_the_shell(first, arguments.repeats)
    for size in arguments.sizes:
        each_alone(first, size)


if __name__ == "__main__":
    main()
