"""`vqzip sample` and `vqzip complete`: pictures drawn from the prior."""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Callable
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vqzip import api, container, files, options
from vqzip.errors import VqzError
from vqzip.files import STANDARD_STREAM
from vqzip.process import prepare
from vqzip.quality import DEFAULT_QUALITY
from vqzip.rate import Rate
from vqzip.report import Report

if TYPE_CHECKING:
    from vqzip.sampling import Drawn

F = TypeVar("F", bound=Callable[..., Any])

VQZ_SUFFIX = ".vqz"


def _size(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, int]:
    numbers = re.fullmatch(r"([1-9][0-9]{0,9})x([1-9][0-9]{0,9})", value)
    if numbers is None:
        raise click.BadParameter(f"{value!r} is not like 384x256.", ctx, param)
    return int(numbers[1]), int(numbers[2])


def _drawing(function: F) -> F:
    """How to draw, as `seed` and `temperature`, and over what not to, as `force`."""
    for option in (
        options.force,
        click.option(
            "--temperature",
            metavar="T",
            type=click.FloatRange(0, math.inf, min_open=True, max_open=True),
            default=1.0,
            show_default=True,
            help="Below 1 what is likely is drawn more often, at 1 as often as the prior has it.",
        ),
        click.option(
            "--seed",
            metavar="S",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            help="Decides what is drawn; the same one draws the same.",
        ),
    ):
        function = option(function)
    return function


@click.command(
    epilog=options.examples(
        "vqzip sample -o samples",
        "vqzip sample -n 10 --size 512x512 --temperature 0.9 -q 25 -o samples",
        "vqzip sample --seed 7 --to vqz -o samples",
    )
)
@click.option(
    "-n",
    "count",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many; each has a seed of its own, from S on.",
)
@click.option(
    "--size",
    metavar="WxH",
    callback=_size,
    default="384x256",
    show_default=True,
    help="Width and height in pixels.",
)
@_drawing
@options.quality
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=options.FOLDER,
    required=True,
    help="Where to write 0001.png and so on.",
)
@click.option(
    "--to", metavar="FORMAT", default="png", show_default=True, help="Suffix of the outputs."
)
@options.model("the one that comes with vqzip")
@options.max_pixels
def sample(
    count: int,
    size: tuple[int, int],
    seed: int,
    temperature: float,
    quality: int | None,
    output: str,
    to: str,
    force: bool,
    model: str | None,
    max_pixels: int,
) -> int:
    """Draw pictures from the prior: what the model takes for a photo.

    The top map is drawn first, then the bottom map, code by code.  The same seed gives the same
    codes on every machine.  With --to vqz they are written as files that decompress to the picture.
    """
    prepare()
    suffix = f".{to.removeprefix('.')}"
    width, height = size
    container.check_size(width, height, max_pixels)
    targets = [os.path.join(output, f"{number:04}{suffix}") for number in range(1, count + 1)]
    _check_format(targets[0])
    for target in targets:
        files.check_target(target, force=force, make_folder=True)

    from vqzip.store import load_model

    codec = load_model(model)
    level_quality = DEFAULT_QUALITY if quality is None else quality
    report = Report()
    for number, target in enumerate(targets):
        with report.about(target):
            drawn = api.draw(
                width, height, level_quality, codec, seed + number, temperature, max_pixels
            )
            _write(drawn, target, force, report)
            report.output(target)
    return report.exit_code


@click.command(
    epilog=options.examples(
        "vqzip complete photo.png -o invented.png",
        "vqzip complete photo.jpg -q 25 --temperature 0.8 --seed 3 -o invented.png",
        "vqzip complete photo.vqz -o invented.vqz",
    )
)
@click.argument("name", metavar="IN", type=options.FILE)
@click.option(
    "--keep",
    type=click.Choice(["top"]),
    default="top",
    show_default=True,
    help="The map that stays as it is.",
)
@_drawing
@options.quality
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    type=options.FILE,
    required=True,
    help="Where to write, - for a PNG to standard output.",
)
@options.frame
@options.model("the one IN was made with, or that comes with vqzip")
@options.max_pixels
def complete(
    name: str,
    keep: str,
    seed: int,
    temperature: float,
    quality: int | None,
    output: str,
    frame: int | None,
    force: bool,
    model: str | None,
    max_pixels: int,
) -> int:
    """Draw the details of the picture IN anew: its bottom map, given its top map.

    IN is a vqz file, or a picture, which is compressed first; - is standard input.  The suffix of
    OUT decides its format, which can be vqz.  Alpha and metadata stay.
    """
    assert keep == "top"
    prepare()
    _check_format(output)
    files.check_target(output, force=force)
    report = Report()
    with report.about(name):
        content = files.read(name)
        if content.startswith(container.MAGIC):
            if quality is not None or frame is not None:
                raise VqzError("is a vqz file: its quality and frame are chosen already")
            drawn = api.draw_completion(content, model, seed, temperature, max_pixels)
        else:
            from vqzip.image import load
            from vqzip.store import load_model

            picture = load(io.BytesIO(content), frame=frame)
            height, width, _ = picture.pixels.shape
            container.check_size(width, height, max_pixels)
            for notice in picture.notices:
                report.notice(f"{name}: {notice}")
            codec = load_model(model)
            content = api.compress_picture(picture, Rate(quality), codec)
            drawn = api.draw_completion(content, codec, seed, temperature, max_pixels)
        _write(drawn, output, force, report)
    return report.exit_code


def _is_vqz(path: str) -> bool:
    return PurePath(path).suffix.lower() == VQZ_SUFFIX


def _format_of(path: str) -> str:
    from vqzip.image import format_of

    return "PNG" if path == STANDARD_STREAM else format_of(path)


def _check_format(path: str) -> None:
    """Raise VqzError for a suffix that nothing can be written with."""
    if not _is_vqz(path):
        _format_of(path)


def _write(drawn: Drawn, path: str, force: bool, report: Report) -> None:
    """Write a vqz file or a picture, by the suffix."""
    if _is_vqz(path):
        data = drawn.pack()
    else:
        from vqzip.image import fitted, to_bytes

        image, losses = fitted(api.image_of(drawn), _format_of(path))
        for loss in losses:
            report.notice(f"{path}: {loss}")
        data = to_bytes(image, _format_of(path))
    files.write(path, data, force=force, make_folder=True)
