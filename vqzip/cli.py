"""The command line.  Each command names its work; what it needs is imported once it runs."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click

from vqzip import __version__, api, batch, files, jobs, options
from vqzip.batch import Running
from vqzip.bench.command import bench
from vqzip.container import MAX_LEVEL
from vqzip.errors import VqzError, printable
from vqzip.files import STANDARD_STREAM
from vqzip.generate import complete, sample
from vqzip.inputs import PICTURES, VQZ, Inputs, find
from vqzip.jobs import CompressOptions, DecompressOptions
from vqzip.plan import Outputs
from vqzip.quality import DEFAULT_EFFORT, HIGHEST_EFFORT, LOWEST_EFFORT
from vqzip.rate import Rate
from vqzip.report import Report

INTERRUPTED = 130


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    0 is success, 1 an input that failed, 2 wrong usage, 130 an interruption.  Asked to terminate,
    it raises SystemExit.
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
        except VqzError as error:
            click.echo(f"vqzip: {error}", err=True)
            return 1
        return code


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Compress pictures with a learned codec: VQ-VAE-2 with a PixelCNN prior."""


@cli.command(
    epilog=options.examples(
        "vqzip compress photo.png",
        "vqzip compress photo.jpg -q 70 -o small.vqz",
        "vqzip compress photo.png --max-bytes 20000",
        "vqzip compress -r photos -d compressed -j 4 --skip-existing",
        "find photos -name '*.png' -print0 | vqzip compress --files-from - -0 --rm",
        "cat photo.png | vqzip compress - > photo.vqz",
    )
)
@options.inputs("[IN]...")
@options.quality
@click.option("--target-bpp", metavar="X", type=float, help="Bits per pixel, or up to 3 % fewer.")
@click.option("--max-bytes", metavar="N", type=int, help="Bytes of the file, or up to 3 % fewer.")
@click.option("--target-psnr", metavar="DB", type=float, help="The smallest file of that PSNR.")
@options.outputs(
    click.option(
        "--keep-suffix", is_flag=True, help="Write a.png.vqz, as there may be an a.jpg, too."
    )
)
@click.option(
    "-e",
    "--effort",
    type=click.IntRange(LOWEST_EFFORT, HIGHEST_EFFORT),
    default=DEFAULT_EFFORT,
    show_default=True,
    help="Fastest to smallest; from 2 on, tuned to the picture, which takes long.",
)
@click.option(
    "--strip", is_flag=True, help="Drop ICC profile (colours become sRGB's), EXIF and XMP."
)
@options.frame
@options.model("the one that comes with vqzip")
@options.running(writes=True)
def compress(
    inputs: Inputs,
    outputs: Outputs,
    running: Running,
    quality: int | None,
    target_bpp: float | None,
    max_bytes: int | None,
    target_psnr: float | None,
    effort: int,
    strip: bool,
    frame: int | None,
    model: str | None,
) -> int:
    """Compress the picture IN to IN with the suffix .vqz.

    IN may be of any format that Pillow reads, or - for standard input.  Outputs get the
    permissions and the time of their inputs.  Nothing is done if an output exists, or if two
    inputs have the same.
    """
    options.check_usage(inputs, outputs, running)
    try:
        rate = Rate(quality, target_bpp, max_bytes, target_psnr)
    except VqzError as error:
        raise click.UsageError(error.message) from error
    how = CompressOptions(
        rate, effort, strip, frame, model, force=outputs.force, remove=outputs.remove
    )
    work = partial(jobs.compress_file, options=how)
    return batch.process(work, inputs, PICTURES, running, outputs, ".vqz")


@cli.command(
    epilog=options.examples(
        "vqzip decompress photo.vqz",
        "vqzip decompress photo.vqz -o photo.tiff",
        "vqzip decompress -r compressed -d photos --to jpg -j 4",
        "vqzip decompress - < photo.vqz > photo.png",
    )
)
@options.inputs("[IN]...")
@options.outputs()
@click.option(
    "--to", metavar="FORMAT", default="png", show_default=True, help="Suffix of the outputs."
)
@click.option("--preview", is_flag=True, help="Decode the top map alone: coarse, but fast.")
@options.model("the one the file was made with")
@options.max_pixels
@options.running(writes=True)
def decompress(
    inputs: Inputs,
    outputs: Outputs,
    running: Running,
    to: str,
    preview: bool,
    model: str | None,
    max_pixels: int,
) -> int:
    """Decompress the vqz file IN to IN with the suffix .png.

    The suffix of the output decides its format (png, tiff, webp, avif, jpg, ...); --to is for
    many and for standard output.  Outputs get the permissions and the time of their inputs.
    Nothing is done if an output exists, or if two inputs have the same.
    """
    options.check_usage(inputs, outputs, running)
    from vqzip.image import format_of

    to = to.removeprefix(".")
    output = None if outputs.output == STANDARD_STREAM else outputs.output
    format_of(output or f"*.{to}")  # refused now, not file by file
    if preview and outputs.remove:
        raise click.UsageError("a preview is no reason to remove its source")
    how = DecompressOptions(
        model, max_pixels, to, preview, force=outputs.force, remove=outputs.remove
    )
    work = partial(jobs.decompress_file, options=how)
    return batch.process(work, inputs, VQZ, running, outputs, f".{to}")


@cli.command(
    epilog=options.examples("vqzip test photo.vqz", "vqzip test -r compressed -j 4 --json")
)
@options.inputs("[FILE]...")
@options.model("the one the file was made with")
@options.max_pixels
@options.running(writes=False)
def test(inputs: Inputs, running: Running, model: str | None, max_pixels: int) -> int:
    """Verify the vqz file FILE: decode all of it, and write nothing."""
    options.check_usage(inputs, None, running)
    work = partial(jobs.verify_file, options=DecompressOptions(model, max_pixels))
    return batch.process(work, inputs, VQZ, running)


@cli.command(
    epilog=options.examples(
        "vqzip info photo.vqz", "vqzip info photo.vqz --json", "vqzip info -r compressed --json"
    )
)
@options.inputs("[FILE]...")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each file.")
def info(inputs: Inputs, as_json: bool) -> int:
    """Describe the vqz file FILE without decoding it."""
    options.check_usage(inputs)
    report = Report()
    found = find(inputs, VQZ)
    for error in found.unusable:
        report.error(str(error))
    for source in found.sources:
        about: api.Info | None = None
        with report.about(source.path):
            about = api.info(files.read(source.path))
        if about is not None and as_json:
            report.output(json.dumps({"file": source.path, **asdict(about)}))
        elif about is not None and len(found.sources) == 1:
            report.output(_table(about))
        elif about is not None:
            report.output(f"{'file':8} {printable(source.path)}\n{_table(about)}\n")
    return report.exit_code


@cli.command(epilog=options.examples("vqzip models", "vqzip models --json"))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each model.")
def models(as_json: bool) -> int:
    """List the installed models: name, fingerprint, size and the page about it."""
    from vqzip import store

    report = Report()
    for folder, fingerprint in store.installed():
        weights, card = folder / "model.safetensors", folder / "README.md"
        row = {
            "name": folder.name,
            "fingerprint": fingerprint.hex(),
            "bytes": weights.stat().st_size if weights.exists() else 0,
            "card": os.fspath(card) if card.exists() else None,
            "default": folder.name == store.DEFAULT,
        }
        if as_json:
            report.output(json.dumps(row))
        else:
            default = "  (default)" if row["default"] else ""
            report.output("{name}  {fingerprint}  {bytes:,} bytes  {card}".format(**row) + default)
    return report.exit_code


@cli.command(
    epilog=options.examples(
        "vqzip train photos --out my-model", "vqzip train photos --out my-model --minutes 60"
    )
)
@click.argument("folder", metavar="FOLDER", type=options.FOLDER)
@click.option(
    "--out", metavar="DIR", type=options.FOLDER, required=True, help="Folder of the model to make."
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=480.0,
    show_default=True,
    help="Time to train, in total.",
)
@click.option("--preset", default="photo", show_default=True, help="Kind of model to train.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of all that is random.")
@click.option("--from", "start", metavar="DIR", type=options.FOLDER, help="Go on from this model.")
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


for command in (sample, complete, bench):
    cli.add_command(command)


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
