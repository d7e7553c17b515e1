"""The command line.  Each command names its work; what it needs is imported once it runs."""

from __future__ import annotations

import io
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

from vqzip import __version__, api, files
from vqzip.container import DEFAULT_MAX_PIXELS, MAX_LEVEL
from vqzip.errors import VqzError
from vqzip.files import STANDARD_STREAM
from vqzip.quality import DEFAULT_QUALITY, HIGHEST_QUALITY, LOWEST_QUALITY
from vqzip.report import Report

F = TypeVar("F", bound=Callable[..., Any])

INTERRUPTED = 130


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    0 is success, 1 an input that failed, 2 wrong usage, 130 an interruption.
    """
    with warnings.catch_warnings():
        if not sys.warnoptions:
            # Written for developers; what users should know comes as a notice.
            warnings.simplefilter("ignore")
        try:
            code: int = cli.main(args, prog_name="vqzip", standalone_mode=False)
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except click.Abort:
            return INTERRUPTED
        return code


def _examples(*lines: str) -> str:
    # \b keeps click from filling the lines.
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def _output_options(function: F) -> F:
    output = click.option(
        "-o", "--output", metavar="OUT", help="Where to write, - for standard output."
    )
    force = click.option("-f", "--force", is_flag=True, help="Overwrite an existing output.")
    return output(force(function))


def _model_option(default: str) -> Callable[[F], F]:
    return click.option("--model", metavar="DIR", help=f"Folder of a model.  [default: {default}]")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Compress pictures with a learned codec: VQ-VAE-2 with a PixelCNN prior."""


@cli.command(
    epilog=_examples(
        "vqzip compress photo.png",
        "vqzip compress photo.jpg -q 70 -o small.vqz",
        "cat photo.png | vqzip compress - > photo.vqz",
    )
)
@click.argument("source", metavar="IN")
@click.option(
    "-q",
    "--quality",
    type=click.IntRange(LOWEST_QUALITY, HIGHEST_QUALITY),
    default=DEFAULT_QUALITY,
    show_default=True,
    help="Smallest to best.",
)
@_output_options
@_model_option("the one that comes with vqzip")
@click.option(
    "--strip", is_flag=True, help="Drop ICC profile (colours become sRGB's), EXIF and XMP."
)
@click.option(
    "--frame",
    metavar="N",
    type=click.IntRange(min=0),
    help="Which one of an animation's frames, from 0.",
)
@click.option("-v", "--verbose", is_flag=True, help="Always print size and time.")
def compress(
    source: str,
    output: str | None,
    quality: int,
    model: str | None,
    force: bool,
    strip: bool,
    frame: int | None,
    verbose: bool,
) -> int:
    """Compress the picture IN to IN with the suffix .vqz.

    IN may be of any format that Pillow reads, or - for standard input.
    """
    report = Report(verbose=verbose or sys.stderr.isatty())
    with report.about(source):
        start = time.perf_counter()
        target = _target(source, output, ".vqz", force)

        from vqzip.image import load

        piped = source == STANDARD_STREAM
        content = io.BytesIO(files.read(source)) if piped else source
        picture = load(content, strip=strip, frame=frame)
        if picture.notices:
            report.notice(source, ", ".join(picture.notices))
        data = api.compress_picture(picture, quality, model)
        files.write(target, data, force=force)

        height, width, _ = picture.pixels.shape
        bpp = 8 * len(data) / (width * height)
        seconds = time.perf_counter() - start
        report.detail(source, f"{len(data):,} bytes, {bpp:.3f} bpp, {seconds:.1f} s")
    return report.exit_code


@cli.command(
    epilog=_examples(
        "vqzip decompress photo.vqz",
        "vqzip decompress photo.vqz -o photo.tiff",
        "vqzip decompress - < photo.vqz > photo.png",
    )
)
@click.argument("source", metavar="IN")
@_output_options
@_model_option("the one the file was made with")
@click.option(
    "--max-pixels",
    metavar="N",
    type=click.IntRange(min=1),
    default=DEFAULT_MAX_PIXELS,
    show_default=True,
    help="Refuse larger pictures.",
)
def decompress(
    source: str, output: str | None, model: str | None, force: bool, max_pixels: int
) -> int:
    """Decompress the vqz file IN to IN with the suffix .png.

    The suffix of OUT decides the format (png, tiff, webp, avif, jpg, ...); standard output gets a
    PNG.
    """
    report = Report()
    with report.about(source):
        target = _target(source, output, ".png", force)

        from vqzip.image import fitted, format_of, to_bytes

        format_name = "PNG" if target == STANDARD_STREAM else format_of(target)
        image = api.decompress(files.read(source), model, max_pixels)
        image, losses = fitted(image, format_name)
        if losses:
            report.notice(source, ", ".join(losses))
        files.write(target, to_bytes(image, format_name), force=force)
    return report.exit_code


@cli.command(epilog=_examples("vqzip info photo.vqz", "vqzip info photo.vqz --json"))
@click.argument("source", metavar="FILE")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def info(source: str, as_json: bool) -> int:
    """Describe the vqz file FILE without decoding it."""
    report = Report()
    with report.about(source):
        about = api.info(files.read(source))
        if as_json:
            click.echo(json.dumps({"file": source, **asdict(about)}))
        else:
            click.echo(_table(about))
    return report.exit_code


@cli.command(
    epilog=_examples(
        "vqzip train photos --out my-model", "vqzip train photos --out my-model --minutes 60"
    )
)
@click.argument("folder", metavar="FOLDER")
@click.option("--out", metavar="DIR", required=True, help="Folder of the model to make.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=480.0,
    show_default=True,
    help="Time to train, in total.",
)
@click.option("--preset", default="photo", show_default=True, help="Kind of model to train.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of all that is random.")
@click.option("--from", "start", metavar="DIR", help="Go on from this model.")
def train(folder: str, out: str, minutes: float, preset: str, seed: int, start: str | None) -> int:
    """Train a model on the pictures in FOLDER.

    Run the same command again to resume a training that was interrupted.
    """
    report = Report()
    with report.about(folder):
        from vqzip.train.command import train as run

        before = None if start is None else Path(start)
        run(Path(folder), Path(out), minutes=minutes, preset=preset, seed=seed, start=before)
    return report.exit_code


def _target(source: str, output: str | None, suffix: str, force: bool) -> str:
    """Where the output goes: `output`, or beside the source; refused before any work is done."""
    if output is not None:
        target = output
    elif source == STANDARD_STREAM:
        target = STANDARD_STREAM
    else:
        target = os.fspath(Path(source).with_suffix(suffix))
    if os.path.isfile(source) and os.path.isfile(target) and os.path.samefile(source, target):
        raise VqzError("is both input and output", target)
    files.check_target(target, force=force)
    return target


def _table(about: api.Info) -> str:
    colour = "grayscale" if about.grayscale else "colour"
    alpha = " and alpha" if about.alpha else ""
    chunks = ", ".join(f"{type_} {size:,} bytes" for type_, size in about.chunks.items())
    rows = {
        "picture": f"{about.width} x {about.height}, {colour}{alpha}",
        "quality": f"{about.quality} (level {about.level} of {MAX_LEVEL})",
        "size": f"{about.bytes:,} bytes, {about.bpp:.3f} bpp",
        "model": about.fingerprint,
        "chunks": chunks,
        "format": f"version {about.version}",
    }
    return "\n".join(f"{name:8} {text}" for name, text in rows.items())
