"""Whole files in and out, such that an output is either complete or not there at all.

Everywhere the path "-" stands for standard input or output.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from vqzip.errors import VqzError

STANDARD_STREAM = "-"
MAX_FILE_BYTES = 2**30
"""Default limit of what is read into memory."""

_EXISTS = "already exists, use -f to overwrite it"
_BLOCK = 2**20


def read(path: str, limit: int = MAX_FILE_BYTES) -> bytes:
    """Read a file of at most `limit` bytes.

    Raises VqzError, naming the path, if it is larger or cannot be read.
    """
    data = bytearray()
    with _os_errors("read", path), _open_input(path) as file:
        # In blocks, as neither the size of a pipe nor that of a growing file is known ahead.
        while block := file.read(_BLOCK):
            data += block
            if len(data) > limit:
                raise VqzError(f"larger than {limit} bytes", path)
    return bytes(data)


def regular_status(path: str) -> os.stat_result | None:
    """Status of a regular file, or of the one a symbolic link leads to; None for all else.

    Raises VqzError, naming the path.
    """
    if path == STANDARD_STREAM:
        return None
    with _os_errors("read", path):
        status = os.stat(path)
    return status if stat.S_ISREG(status.st_mode) else None


def check_target(path: str, *, force: bool = False, make_folder: bool = False) -> None:
    """Refuse an output that `write` would refuse, to know it before the work is done.

    Raises VqzError, naming the path.
    """
    if path == STANDARD_STREAM:
        if os.isatty(1) and not force:
            raise VqzError("binary data is not written to a terminal, use -o or -f")
    elif os.path.isdir(path):
        raise VqzError("is a folder", path)
    elif not _is_special(path):
        if os.path.lexists(path) and not force:
            raise VqzError(_EXISTS, path)
        folder = os.path.dirname(os.path.realpath(path))
        while make_folder and not os.path.lexists(folder):
            folder = os.path.dirname(folder)
        if not os.path.isdir(folder):
            raise VqzError("cannot write: its folder does not exist", path)


def write(
    path: str,
    data: bytes,
    *,
    force: bool = False,
    make_folder: bool = False,
    like: os.stat_result | None = None,
) -> None:
    """Write a file atomically: whatever goes wrong, the path is left as it was.

    A symbolic link is followed and stays a link.  Devices and pipes are written to directly.

    Args:
        path: The file.
        data: All of its content.
        force: Overwrite an existing file, which is refused otherwise.
        make_folder: Make the folder and those above it where they are missing.
        like: Give the file this permission and time of modification, those of its source.

    Raises:
        VqzError: It cannot be written; names the path.
    """
    check_target(path, force=force, make_folder=make_folder)
    with _os_errors("write", path):
        if path == STANDARD_STREAM:
            # Not sys.stdout, which would try to flush what failed once more at exit.
            with open(1, "wb", closefd=False) as stream:
                stream.write(data)
        elif _is_special(path):
            with open(path, "wb") as stream:
                stream.write(data)
        else:
            target = Path(os.path.realpath(path))
            if make_folder:
                target.parent.mkdir(parents=True, exist_ok=True)
            _write_atomically(target, data, force, like)


def remove(path: str, known: os.stat_result) -> None:
    """Remove a file (or a link to it) that is still as `known`, its status of some time ago.

    Raises VqzError, naming the path, if it was changed meanwhile or cannot be removed.
    """
    with _os_errors("remove", path):
        now = os.stat(path)
        if _version(now) != _version(known):
            raise VqzError("changed meanwhile, it is not removed", path)
        os.unlink(path)


def _version(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _open_input(path: str) -> BinaryIO:
    return open(0, "rb", closefd=False) if path == STANDARD_STREAM else open(path, "rb")


def _is_special(path: str) -> bool:
    return os.path.exists(path) and not os.path.isfile(path)


def _write_atomically(target: Path, data: bytes, force: bool, like: os.stat_result | None) -> None:
    # Not tempfile, whose files only their owner can read: this one has the mode of any new file,
    # or that of its source, and before it has that nobody else may look into it.
    temporary = target.with_name(f".vqzip-{secrets.token_hex(8)}.tmp")
    mode = 0o666 if like is None else 0o600
    try:
        with open(temporary, "xb", opener=lambda path, flags: os.open(path, flags, mode)) as file:
            file.write(data)
            file.flush()
            if like is not None:
                _resemble(temporary, like)
            os.fsync(file.fileno())
        if force:
            os.replace(temporary, target)
        else:
            _rename_to_new(temporary, target)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
    _sync_folder(target.parent)


def _resemble(path: Path, like: os.stat_result) -> None:
    # Some file systems have no permissions, or set times for the owner alone: no reason to fail.
    with suppress(PermissionError):
        os.chmod(path, like.st_mode & 0o777)
    with suppress(PermissionError):
        os.utime(path, ns=(like.st_atime_ns, like.st_mtime_ns))


def _sync_folder(folder: Path) -> None:
    """Make a new name in the folder last, where the system has a way to."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _rename_to_new(source: Path, target: Path) -> None:
    """Rename, but raise FileExistsError if the target exists, even if it appeared just now."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise FileExistsError from None
        os.replace(source, target)


@contextmanager
def _os_errors(action: str, name: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise VqzError(_EXISTS, name) from error
    except OSError as error:
        raise VqzError(f"cannot {action}: {error.strerror or error}", name) from error
