"""Seconds to encode and decode pictures, beside Pillow's WebP and AVIF in the same run.

    python examples/speed.py PICTURE... [--repeats N] [--large]

Prints medians.  The model is loaded before; the last line is the whole `vqzip decompress` from the
shell, above `python -c "import torch"`.  `--large` adds a picture of 12 megapixels, and the peak
of memory.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from vqzip.process import prepare

prepare()

from PIL import Image  # noqa: E402

import vqzip  # noqa: E402
from vqzip import codec, store  # noqa: E402
from vqzip.image import load  # noqa: E402
from vqzip.quality import DEFAULT_QUALITY, level_of_quality  # noqa: E402


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median time of a call, the first one left out."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return median(times[1:] or times)


def pillow(image: Image.Image, repeats: int, name: str, **options: object) -> tuple[float, float]:
    """Seconds to encode and to decode with one of Pillow's codecs."""
    buffer = io.BytesIO()

    def encode() -> None:
        buffer.seek(0)
        image.save(buffer, name, **options)

    encoding = seconds(encode, repeats)
    return encoding, seconds(lambda: Image.open(buffer).convert("RGB"), repeats)


def measure(image: Image.Image, model: codec.CodecModel, repeats: int) -> None:
    """Print the times of one picture."""
    pixels, level = load(image).pixels, level_of_quality(DEFAULT_QUALITY)
    height, width, _ = pixels.shape
    codes = codec.analyse(model, pixels, level)
    stream = codec.pack(model, codes, level)
    rows = {
        "analysis, choice of codes": lambda: codec.analyse(model, pixels, level),
        "codes to bytes": lambda: codec.pack(model, codes, level),
        "bytes to codes": lambda: codec.unpack(model, stream, width, height, level),
        "synthesis": lambda: codec.synthesise(model, codes, width, height, level),
    }
    times = {name: seconds(work, repeats) for name, work in rows.items()}
    encoding, decoding = sum(list(times.values())[:2]), sum(list(times.values())[2:])
    print(f"{width} x {height}, {8 * len(stream) / (width * height):.3f} bpp")
    for name, time_taken in times.items():
        print(f"  {name:28} {time_taken:7.3f} s")
    print(f"  {'vqzip encode / decode':28} {encoding:7.3f} s {decoding:7.3f} s")
    for name, options in (("WEBP", {"method": 6}), ("AVIF", {"speed": 4, "quality": 60})):
        encode, decode = pillow(image, repeats, name, **options)
        ratios = f"{encoding / encode:.1f} and {decoding / decode:.0f} times as long"
        print(f"  {name.lower():28} {encode:7.3f} s {decode:7.3f} s  vqzip takes {ratios}")


def whole_process(picture: Path, repeats: int) -> None:
    """Print the time of a decompression from the shell, above that of importing torch."""
    with tempfile.TemporaryDirectory() as folder:
        packed, out = Path(folder) / "a.vqz", Path(folder) / "a.png"
        packed.write_bytes(vqzip.compress(picture))
        command = [sys.executable, "-m", "vqzip", "decompress", "-f", str(packed), "-o", str(out)]
        whole = seconds(lambda: subprocess.run(command, check=True), repeats)
        torch = [sys.executable, "-c", "import torch"]
        above = whole - seconds(lambda: subprocess.run(torch, check=True), repeats)
    print(f"vqzip decompress from the shell: {whole:.2f} s, {above:.2f} s above `import torch`")


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--large", action="store_true")
    arguments = parser.parse_args()
    model = store.load_model()
    for picture in arguments.pictures:
        with Image.open(picture) as image:
            measure(image.convert("RGB"), model, arguments.repeats)
    whole_process(arguments.pictures[0], arguments.repeats)
    if arguments.large:
        import resource

        with Image.open(arguments.pictures[0]) as image:
            measure(image.convert("RGB").resize((4000, 3000)), model, 1)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"peak of memory: {peak:.0f} MB")


if __name__ == "__main__":
    main()
