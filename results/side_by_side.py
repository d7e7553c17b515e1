"""One picture from vqzip, WebP and AVIF at three sizes of file: docs/side_by_side.jpg.

    python results/side_by_side.py [PICTURE] [--model DIR] [--bpp 0.15,0.3,0.6] [--out FILE]

WebP and AVIF are at the quality whose file comes closest to vqzip's, which is the smallest it can
be where that is more than was asked for.
"""

from __future__ import annotations

import argparse
import io
from dataclasses import dataclass
from pathlib import Path

from vqzip.process import prepare

prepare()

from PIL import Image, ImageDraw, ImageFont  # noqa: E402

import vqzip  # noqa: E402
from vqzip.image import load, to_image  # noqa: E402
from vqzip.quality import LOWEST_QUALITY  # noqa: E402
from vqzip.store import load_model  # noqa: E402

ROOT = Path(__file__).parent.parent
LABEL = 24  # pixels above each picture
GAP = 8


@dataclass(frozen=True)
class Other:
    """One of Pillow's codecs; `steps` are the smallest of its scale of qualities, 0 to 100."""

    name: str
    label: str
    steps: int
    options: dict[str, object]

    def encode(self, image: Image.Image, step: int) -> bytes:
        """The bytes of a file."""
        buffer = io.BytesIO()
        quality = step / self.steps if self.steps > 1 else step
        image.save(buffer, self.name, quality=quality, **self.options)
        return buffer.getvalue()

    def closest(self, image: Image.Image, size: int) -> bytes:
        """The file whose size comes closest; on the whole they grow with the quality."""
        low, high = 0, 100 * self.steps
        while low < high:
            middle = (low + high) // 2
            if len(self.encode(image, middle)) < size:
                low = middle + 1
            else:
                high = middle
        near = (self.encode(image, step) for step in range(max(low - 3, 0), low + 1))
        return min(near, key=lambda file: abs(len(file) - size))


OTHERS = (
    Other("WEBP", "WebP", 10, {"method": 6}),
    Other("AVIF", "AVIF", 1, {"speed": 4, "subsampling": "4:4:4"}),
)


def main() -> None:
    """Draw what the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("picture", nargs="?", default=str(ROOT / "examples" / "photo.png"))
    parser.add_argument("--model")
    parser.add_argument("--bpp", default="0.15,0.3,0.6")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "side_by_side.jpg")
    arguments = parser.parse_args()
    picture = load(arguments.picture)
    image = to_image(picture.pixels, picture.grayscale)
    targets = [float(part) for part in arguments.bpp.split(",")]
    model = load_model(arguments.model)

    width, height = image.size
    across, down = width + GAP, height + LABEL + GAP
    sheet = Image.new("RGB", (4 * across - GAP, len(targets) * down - GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for row, bpp in enumerate(targets):
        try:
            files = {"vqzip": vqzip.compress(image, model=model, target_bpp=bpp)}
        except vqzip.VqzError:  # its smallest file is larger
            files = {"vqzip": vqzip.compress(image, LOWEST_QUALITY, model)}
        files |= {other.label: other.closest(image, len(files["vqzip"])) for other in OTHERS}
        cells = [(f"original, {width} x {height}", image)]
        for name, file in files.items():
            label = f"{name}, {8 * len(file) / (width * height):.3f} bpp, {len(file):,} bytes"
            opened = io.BytesIO(file)
            shown = vqzip.decompress(file, model) if name == "vqzip" else Image.open(opened)
            cells.append((label, shown))
        for column, (label, cell) in enumerate(cells):
            x, y = column * across, row * down
            draw.text((x + 2, y + 2), label, "black", font)
            sheet.paste(cell, (x, y + LABEL))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(arguments.out, quality=75, optimize=True)


if __name__ == "__main__":
    main()
