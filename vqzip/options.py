"""Options that several commands share, each group handed to the command as one dataclass."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar, cast

import click

from vqzip.batch import Running
from vqzip.container import DEFAULT_MAX_PIXELS
from vqzip.files import STANDARD_STREAM
from vqzip.inputs import Inputs
from vqzip.plan import Outputs
from vqzip.quality import DEFAULT_QUALITY, HIGHEST_QUALITY, LOWEST_QUALITY

F = TypeVar("F", bound=Callable[..., Any])

# For shells to complete names by; what is wrong with a file is told when it is read.
FILE = click.Path(readable=False, allow_dash=True)
FOLDER = click.Path(readable=False, file_okay=False)


def examples(*lines: str) -> str:
    """The end of a command's help."""
    # \b keeps click from filling the lines.
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


force = click.option("-f", "--force", is_flag=True, help="Overwrite existing outputs.")
"""Whether to overwrite, as `force`."""


def grouped(name: str, cls: type, *options: Callable[[Any], Any]) -> Callable[[F], F]:
    """Add `options` to a command, which gets their values as one argument, `name`.

    That is an instance of the dataclass `cls`, whose fields have the names of the options; fields
    without an option keep their default.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def command(**values: Any) -> Any:
            keys = [field.name for field in fields(cls) if field.name in values]
            values[name] = cls(**{key: values.pop(key) for key in keys})
            return function(**values)

        for option in reversed(options):
            command = option(command)
        return cast(F, command)

    return decorate


def inputs(metavar: str) -> Callable[[F], F]:
    """The files to work on, as `inputs`."""
    return grouped(
        "inputs",
        Inputs,
        click.argument("names", metavar=metavar, nargs=-1, type=FILE),
        click.option("-r", "--recursive", is_flag=True, help="Take folders for what is in them."),
        click.option(
            "--files-from", metavar="FILE", type=FILE, help="Read more names from FILE, one a line."
        ),
        click.option("-0", "--null", is_flag=True, help="They end with NUL instead."),
    )


def outputs(*more: Callable[[Any], Any]) -> Callable[[F], F]:
    """Where to write, as `outputs`."""
    return grouped(
        "outputs",
        Outputs,
        click.option(
            "-o",
            "--output",
            metavar="OUT",
            type=FILE,
            help="Where to write, - for standard output.",
        ),
        click.option(
            "-d",
            "--folder",
            metavar="DIR",
            type=FOLDER,
            help="Write to DIR, which gets the shape of a folder that is given with -r.",
        ),
        *more,
        force,
        click.option("--skip-existing", is_flag=True, help="Leave files whose output exists."),
        click.option(
            "--rm", "remove", is_flag=True, help="Remove each input once its output is verified."
        ),
    )


def running(*, writes: bool) -> Callable[[F], F]:
    """How to run and what to tell, as `running`."""
    dry_run = click.option("--dry-run", is_flag=True, help="Only print what would be written.")
    return grouped(
        "running",
        Running,
        click.option(
            "-j",
            "--processes",
            metavar="N",
            type=click.IntRange(min=0),
            default=1,
            show_default=True,
            help="Work on N files at once, 0 for one a processor.",
        ),
        *([dry_run] if writes else []),
        click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each file."),
        click.option("--quiet", is_flag=True, help="Print errors only."),
        click.option("-v", "--verbose", is_flag=True, help="Print a line for each file."),
    )


def model(default: str) -> Callable[[F], F]:
    """Which model to use, as `model`."""
    return click.option(
        "--model", metavar="DIR", type=FOLDER, help=f"Folder of a model.  [default: {default}]"
    )


def quality(function: F) -> F:
    """The quality, as `quality`, None if not given."""
    return click.option(
        "-q",
        "--quality",
        type=click.IntRange(LOWEST_QUALITY, HIGHEST_QUALITY),
        help=f"Smallest to best.  [default: {DEFAULT_QUALITY}]",
    )(function)


def frame(function: F) -> F:
    """Which frame of a picture to take, as `frame`."""
    return click.option(
        "--frame",
        metavar="N",
        type=click.IntRange(min=0),
        help="Which one of an animation's frames, from 0.",
    )(function)


def max_pixels(function: F) -> F:
    """How large a picture may be, as `max_pixels`."""
    return click.option(
        "--max-pixels",
        metavar="N",
        type=click.IntRange(min=1),
        default=DEFAULT_MAX_PIXELS,
        show_default=True,
        help="Refuse larger pictures.",
    )(function)


def check_usage(
    inputs: Inputs, outputs: Outputs | None = None, running: Running | None = None
) -> None:
    """Refuse what makes no sense together.  Raises click.UsageError."""
    listed = inputs.files_from is not None
    piped = STANDARD_STREAM in inputs.names
    several = len(inputs.names) > 1 or inputs.recursive or listed
    rules = [
        (not inputs.names and not listed, "Missing argument: the files to work on."),
        (piped and several, "Standard input is taken alone."),
        (inputs.null and not listed, "-0 is for --files-from."),
    ]
    if running is not None:
        rules += [(running.quiet and running.verbose, "--quiet and --verbose contradict.")]
    if outputs is not None and running is not None:
        to_stdout = outputs.output == STANDARD_STREAM or (piped and outputs.output is None)
        rules += [
            (outputs.output is not None and several, "-o is for one file, use -d for several."),
            (outputs.output is not None and outputs.folder is not None, "-o and -d contradict."),
            (outputs.force and outputs.skip_existing, "-f and --skip-existing contradict."),
            (piped and outputs.folder is not None, "Standard input has no name for -d, use -o."),
            (outputs.remove and (piped or to_stdout), "--rm is for files, not for pipes."),
            (running.as_json and to_stdout, "--json and the output both want standard output."),
        ]
    for broken, message in rules:
        if broken:
            raise click.UsageError(message)
