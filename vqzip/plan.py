"""What goes where: decided, and refused if need be, before anything is done."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from vqzip import files
from vqzip.errors import VqzError, naming, printable
from vqzip.files import STANDARD_STREAM
from vqzip.inputs import Found, Source
from vqzip.jobs import Job, Row, failed


@dataclass(frozen=True)
class Outputs:
    """Where the user wants the outputs.

    Attributes:
        output: The one output, or "-" for standard output.
        folder: A folder for all of them, with the folders that were searched in the same shape.
        keep_suffix: Append the suffix to that of the input, do not replace it.
        force: Overwrite files.
        skip_existing: Leave inputs whose output exists.
        remove: Remove inputs when their output is verified.
    """

    output: str | None = None
    folder: str | None = None
    keep_suffix: bool = False
    force: bool = False
    skip_existing: bool = False
    remove: bool = False


@dataclass
class Plan:
    """What is to be done.

    Attributes:
        jobs: Inputs with their outputs, no two of them the same.
        skipped: Inputs whose outputs exist.
        failed: Inputs that cannot be read.
        refused: Inputs that may not be written where they should be: then nothing is to be done.
    """

    jobs: list[Job] = field(default_factory=list)
    skipped: list[Row] = field(default_factory=list)
    failed: list[Row] = field(default_factory=list)
    refused: list[Row] = field(default_factory=list)


def make_plan(found: Found, outputs: Outputs | None, suffix: str = "") -> Plan:
    """Decide on the output of each input; `suffix` is that of outputs.

    Without `outputs`, the inputs are only to be read.
    """
    plan = Plan(failed=[failed(Job(error.name or ""), error) for error in found.unusable])
    if outputs is None:
        plan.jobs = [Job(source.path, None, _size(source)) for source in found.sources]
        return plan
    inputs = {_identity(source.status) for source in found.sources if source.status}
    taken: dict[str, Source] = {}
    for source in found.sources:
        target = _target(source, outputs, suffix)
        job = Job(source.path, target, _size(source))
        first = taken.setdefault(os.path.realpath(target), source)
        if first is not source and _same(first, source):
            continue  # named twice
        if outputs.skip_existing and os.path.lexists(target) and not os.path.isdir(target):
            plan.skipped.append(Row(source.path, target, "skipped"))
            continue
        try:
            with naming(source.path):
                _check(source, target, first, inputs, outputs)
        except VqzError as error:
            plan.refused.append(failed(job, error))
        else:
            plan.jobs.append(job)
    return plan


def _check(
    source: Source,
    target: str,
    first: Source,
    inputs: set[tuple[int, int]],
    outputs: Outputs,
) -> None:
    """Refuse a target that is that of another source, `first`, or an input, or not writable."""
    if first is not source:
        both = f"{printable(first.path)} and {printable(source.path)}"
        raise VqzError(f"would be the output of both {both}", target)
    if os.path.isfile(target) and _identity(os.stat(target)) in inputs:
        raise VqzError("is both input and output", target)
    files.check_target(target, force=outputs.force, make_folder=outputs.folder is not None)


def _target(source: Source, outputs: Outputs, suffix: str) -> str:
    if outputs.output is not None:
        return outputs.output
    if source.path == STANDARD_STREAM:
        return STANDARD_STREAM
    path = source.path
    if outputs.folder is not None:
        path = os.path.join(outputs.folder, source.below)
    if not outputs.keep_suffix:
        path = os.path.splitext(path)[0]
    # What was made from a.png with its suffix kept, a.png.vqz, becomes a.png again.
    return path if path.lower().endswith(suffix.lower()) else path + suffix


def _size(source: Source) -> int:
    return source.status.st_size if source.status else 0


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _same(a: Source, b: Source) -> bool:
    return a.status is not None and b.status is not None and os.path.samestat(a.status, b.status)
