"""What is done to one file: a job goes in, and whatever happens, a row comes out."""

from __future__ import annotations

import io
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from vqzip import api, container, files
from vqzip.container import DEFAULT_MAX_PIXELS
from vqzip.errors import VqzError, refusing
from vqzip.files import STANDARD_STREAM
from vqzip.quality import DEFAULT_EFFORT
from vqzip.rate import Rate

if TYPE_CHECKING:
    from vqzip.codec import CodecModel


@dataclass(frozen=True)
class Job:
    """A file to read and, unless it is only to be tested, one to write.

    Attributes:
        source: Path, or "-" for standard input.
        target: Path, "-" for standard output, or None.
        size: Bytes of the source, 0 if unknown; for the progress alone.
    """

    source: str
    target: str | None = None
    size: int = 0


@dataclass(frozen=True)
class Row:
    """What became of a file; names are as they were given, and None is what is not known.

    Attributes:
        input: The file that was read.
        output: The file that was written, or would have been.
        status: "ok", "failed", "skipped" as the output exists, "planned" where nothing was done.
        error: Of a failed file: which file it is about, and what is wrong, printable.
        bytes_in: Size of the input.
        bytes_out: Size of the output.
        width: Pixels.
        height: Pixels.
        bpp: Bits per pixel of the vqz file.
        seconds: Time from reading to the end.
        model: Fingerprint of the model, 16 hexadecimal digits.
        notices: What of the picture was dropped or converted.
    """

    input: str
    output: str | None
    status: Literal["ok", "failed", "skipped", "planned"]
    error: str | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None
    width: int | None = None
    height: int | None = None
    bpp: float | None = None
    seconds: float | None = None
    model: str | None = None
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class CompressOptions:
    """How to compress.

    Attributes:
        rate: The quality, or what the file is to meet.
        effort: 0 (fastest) to 9 (smallest).
        strip: Drop metadata.
        frame: Which one of an animation.
        model: Folder of the model, or None for the one that comes with vqzip.
        force: Overwrite an existing output.
        remove: Remove the source once the output is verified.
    """

    rate: Rate = field(default_factory=Rate)
    effort: int = DEFAULT_EFFORT
    strip: bool = False
    frame: int | None = None
    model: str | None = None
    force: bool = False
    remove: bool = False


@dataclass(frozen=True)
class DecompressOptions:
    """How to decompress or to test.

    Attributes:
        model: Folder of the model, or None for the one that a file was made with.
        max_pixels: Larger pictures are refused.
        piped_format: Suffix of the format for standard output; files have their own.
        preview: Decode the top map alone.
        force: Overwrite an existing output.
        remove: Remove the source once the output is verified.
    """

    model: str | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS
    piped_format: str = "png"
    preview: bool = False
    force: bool = False
    remove: bool = False


class Models:
    """Models by the folder they were loaded from: each is loaded once in a process."""

    def __init__(self) -> None:
        self._loaded: dict[str | None, CodecModel] = {}

    def load(self, path: str | None) -> CodecModel:
        """The model in a folder, or the default one.  Raises VqzError."""
        from vqzip.store import load_model

        if path not in self._loaded:
            self._loaded[path] = load_model(path)
        return self._loaded[path]

    def find(self, fingerprint: bytes) -> CodecModel | None:
        """The installed model with this fingerprint.  Raises VqzError if it is damaged."""
        from vqzip.store import find_model

        for model in self._loaded.values():
            if model.fingerprint == fingerprint:
                return model
        path = find_model(fingerprint)
        return None if path is None else self.load(os.fspath(path))


Work: TypeAlias = Callable[[Job, Models], Row]
"""One of the functions below, its options given."""


def compress_file(job: Job, models: Models, options: CompressOptions) -> Row:
    """Compress a picture.  Raises VqzError if that cannot be done; then nothing is written."""
    from vqzip.image import load

    status = files.regular_status(job.source)
    content = files.read(job.source)
    picture = load(io.BytesIO(content), strip=options.strip, frame=options.frame)
    model = models.load(options.model)
    data = api.compress_picture(picture, options.rate, model, options.effort)
    _write(job, data, status, options.force)
    if options.remove:
        _remove_source(job, data, status, lambda written: api.decompress(written, model))
    shortfall = options.rate.shortfall(api.info(data))
    notices = picture.notices if shortfall is None else (*picture.notices, shortfall)
    return replace(_row(job, len(content), data), bytes_out=len(data), notices=notices)


def decompress_file(job: Job, models: Models, options: DecompressOptions) -> Row:
    """Decompress a vqz file.  Raises VqzError if that cannot be done; then nothing is written."""
    from vqzip.image import fitted, format_of, load, to_bytes

    assert job.target is not None
    status = files.regular_status(job.source)
    content = files.read(job.source)
    piped = job.target == STANDARD_STREAM
    format_name = format_of(f"-.{options.piped_format}" if piped else job.target)
    model = _model_for(content, models, options)
    image = api.decompress(content, model, options.max_pixels, preview=options.preview)
    image, losses = fitted(image, format_name)
    data = to_bytes(image, format_name)
    _write(job, data, status, options.force)
    if options.remove:
        _remove_source(job, data, status, lambda written: load(io.BytesIO(written)))
    return replace(_row(job, len(content), content), bytes_out=len(data), notices=tuple(losses))


def verify_file(job: Job, models: Models, options: DecompressOptions) -> Row:
    """Decode a vqz file and write nothing.  Raises VqzError if there is anything wrong with it."""
    content = files.read(job.source)
    api.decompress(content, _model_for(content, models, options), options.max_pixels)
    return _row(job, len(content), content)


def attempt(work: Work, job: Job, models: Models) -> Row:
    """Do the work; a failure becomes a row, and so does a bug, whose traceback is shown."""
    start = time.perf_counter()
    try:
        with refusing(job.source):
            row = work(job, models)
    except VqzError as error:
        row = failed(job, error)
    except Exception as bug:  # noqa: BLE001 - the other files are not to suffer from it
        traceback.print_exc()
        row = failed(job, VqzError(f"internal error: {type(bug).__name__}: {bug}", job.source))
    return replace(row, seconds=round(time.perf_counter() - start, 3))


def failed(job: Job, error: VqzError) -> Row:
    """The row of a job that could not be done."""
    return Row(job.source, job.target, "failed", str(error), bytes_in=job.size or None)


def _model_for(content: bytes, models: Models, options: DecompressOptions) -> CodecModel | None:
    """The model that was asked for, or else the one that the file was made with, if installed."""
    if options.model is not None:
        return models.load(options.model)
    return models.find(container.read_header(content, options.max_pixels).fingerprint)


def _write(job: Job, data: bytes, like: os.stat_result | None, force: bool) -> None:
    assert job.target is not None
    files.write(job.target, data, force=force, make_folder=True, like=like)


def _remove_source(
    job: Job, data: bytes, status: os.stat_result | None, decode: Callable[[bytes], object]
) -> None:
    """Remove the source if the target, read back from the disk, is what it should be.

    Raises VqzError if it is not: both files stay then.
    """
    assert job.target is not None
    if status is None:
        raise VqzError("not a regular file, it is not removed", job.source)
    with refusing(job.target):
        written = files.read(job.target, limit=len(data))
        if written != data:
            raise VqzError("reads back other than it was written, its source is kept")
        decode(written)
    files.remove(job.source, status)


def _row(job: Job, bytes_in: int, data: bytes) -> Row:
    about = api.info(data)
    return Row(
        input=job.source,
        output=job.target,
        status="ok",
        bytes_in=bytes_in,
        width=about.width,
        height=about.height,
        bpp=about.bpp,
        model=about.fingerprint,
    )
