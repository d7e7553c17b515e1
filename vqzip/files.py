"""Whole files in and out, such that an output is either complete or not there at all.

Everywhere the path "-" stands for standard input or output.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
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


def check_target(path: str, *, force: bool = False) -> None:
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
        if not os.path.isdir(os.path.dirname(os.path.realpath(path))):
            raise VqzError("cannot write: its folder does not exist", path)


def write(path: str, data: bytes, *, force: bool = False) -> None:
    """Write a file atomically: whatever goes wrong, the path is left as it was.

    An existing file is refused unless `force`. A symbolic link is followed and stays a link.
    Devices and pipes are written to directly.

    Raises VqzError, naming the path.
    """
    check_target(path, force=force)
    with _os_errors("write", path):
        if path == STANDARD_STREAM:
            # Not sys.stdout, which would try to flush what failed once more at exit.
            with open(1, "wb", closefd=False) as stream:
                stream.write(data)
        elif _is_special(path):
            with open(path, "wb") as stream:
                stream.write(data)
        else:
            _write_atomically(Path(os.path.realpath(path)), data, force)


def _open_input(path: str) -> BinaryIO:
    return open(0, "rb", closefd=False) if path == STANDARD_STREAM else open(path, "rb")


def _is_special(path: str) -> bool:
    return os.path.exists(path) and not os.path.isfile(path)


def _write_atomically(target: Path, data: bytes, force: bool) -> None:
    # Not tempfile, whose files only their owner can read: this one has the mode of any new file.
    temporary = target.with_name(f".vqzip-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if force:
            os.replace(temporary, target)
        else:
            _rename_to_new(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


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
