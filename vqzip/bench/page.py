"""The report: one HTML page that needs no other file."""

from __future__ import annotations

import base64
import datetime as dt
import io
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import jinja2
from PIL import Image

from vqzip.bench import plots
from vqzip.bench.crops import Scene
from vqzip.bench.plan import Plan
from vqzip.bench.rates import FEWEST_POINTS, LEAST_OVERLAP, Comparison
from vqzip.bench.rows import Row
from vqzip.image import load, to_image

_THUMBNAIL = (144, 96)


@dataclass(frozen=True)
class Page:
    """All that the page tells.

    Attributes:
        plan: What was asked for.
        rows: The measurements.
        comparisons: One for each metric.
        scenes: Pictures to look at.
        scene_bpp: Bits per pixel that these should have.
        notes: What was left out or failed, a line each.
        jobs: How many processes measured at the same time.
    """

    plan: Plan
    rows: Sequence[Row]
    comparisons: Sequence[Comparison]
    scenes: Sequence[Scene]
    scene_bpp: float
    notes: Sequence[str]
    jobs: int


def render(page: Page) -> str:
    """The HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    labels = page.plan.labels
    sizes = {row.picture: (row.width, row.height) for row in page.rows}
    return environment.get_template("page.html.jinja").render(
        page=page,
        labels=labels,
        sizes=dict(sorted(sizes.items())),
        compared=[name for name in labels if name != page.plan.anchor],
        figures=[plots.to_svg(plots.figure([c], labels)) for c in page.comparisons],
        thumbnails={name: _thumbnail(page.plan.pictures[name]) for name in sizes},
        scenes=[_views(scene, labels) for scene in page.scenes],
        versions={row.codec: row.version for row in page.rows},
        speeds={name: _speeds(row for row in page.rows if row.codec == name) for name in labels},
        machine=machine(),
        date=dt.datetime.now().astimezone().date().isoformat(),
        fewest_points=FEWEST_POINTS,
        least_overlap=LEAST_OVERLAP,
    )


def machine() -> str:
    """Processor, system and Python."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass  # not Linux, or a processor that does not say
    system = f"{platform.system()} {platform.release()}"
    return f"{name}, {os.cpu_count()} cores, {system}, Python {platform.python_version()}"


def _speeds(rows: Iterable[Row]) -> tuple[float, float] | None:
    """Median seconds for a megapixel, to encode and to decode."""
    pairs = [
        (1e6 * seconds / (row.width * row.height) for seconds in (row.encode_s, row.decode_s))
        for row in rows
    ]
    if not pairs:
        return None
    encode, decode = zip(*pairs, strict=True)
    return median(encode), median(decode)


def _thumbnail(path: Path) -> str:
    picture = load(path)
    image = to_image(picture.pixels, picture.grayscale)
    image.thumbnail(_THUMBNAIL)
    return _data_uri(image, "JPEG", quality=80)


def _views(scene: Scene, labels: Mapping[str, str]) -> dict[str, Any]:
    """A scene for the script in the page."""
    Image.init()
    format_name = "WEBP" if "WEBP" in Image.SAVE else "PNG"

    def view(label: str, note: str, image: Image.Image) -> dict[str, str]:
        return {"label": label, "note": note, "src": _data_uri(image, format_name, lossless=True)}

    views = [view("original", "", scene.original)]
    for name, crop in scene.crops.items():
        note = f"{crop.bpp:.3f} bpp, setting {crop.setting:g}"
        views.append(view(labels[name], note, crop.image))
    return {"name": scene.picture, "size": scene.original.size, "views": views}


def _data_uri(image: Image.Image, format_name: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    text = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{format_name.lower()};base64,{text}"
