"""Which files a command is about: those named, those listed, and those found in folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from vqzip import files
from vqzip.errors import VqzError
from vqzip.files import STANDARD_STREAM

PICTURES = frozenset(
    {".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo"}
    | {".pbm", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".tga", ".tif", ".tiff", ".webp"}
)
"""Suffixes of the files that are taken for pictures in a folder."""
VQZ = frozenset({".vqz"})


@dataclass(frozen=True)
class Inputs:
    """What the user named.

    Attributes:
        names: Files, folders, or "-" alone for standard input.
        recursive: Take folders for all that is in them.
        files_from: A file of more names, or "-" for standard input.
        null: The names in it end with NUL, not with a newline.
    """

    names: tuple[str, ...]
    recursive: bool = False
    files_from: str | None = None
    null: bool = False


@dataclass(frozen=True)
class Source:
    """An input file.

    Attributes:
        path: Where it is.
        below: Its path below the folder it was found in; the bare name of a file that was named.
        status: What the system says of it; None for standard input.
    """

    path: str
    below: str
    status: os.stat_result | None


@dataclass
class Found:
    """Input files in the order they were named, those of a folder sorted.

    Attributes:
        sources: The files.
        unusable: Names that cannot be read, with the reason.
        foreign: Files and links in folders that are of another kind, and are passed over.
    """

    sources: list[Source] = field(default_factory=list)
    unusable: list[VqzError] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)


def find(inputs: Inputs, suffixes: frozenset[str]) -> Found:
    """Look for the files; nothing but their names and status is read.

    Args:
        inputs: What to look for.
        suffixes: What files in folders are taken by.  A file that is named is always taken.

    Raises:
        VqzError: The list of names cannot be read.
    """
    found = Found()
    for name in (*inputs.names, *_listed(inputs)):
        if name == STANDARD_STREAM:
            found.sources.append(Source(name, name, None))
        elif not os.path.isdir(name):
            _add(found, name, os.path.basename(name))
        elif inputs.recursive:
            _walk(found, name, suffixes)
        else:
            found.unusable.append(VqzError("is a folder, use -r", name))
    return found


def _listed(inputs: Inputs) -> Iterator[str]:
    """Names are bytes to the system, and may be no text in any encoding."""
    if inputs.files_from is None:
        return
    content = files.read(inputs.files_from)
    if not inputs.null and b"\0" in content:
        raise VqzError("has NUL characters, use -0 for names that end with them", inputs.files_from)
    for name in content.split(b"\0" if inputs.null else b"\n"):
        if name == STANDARD_STREAM.encode():
            yield os.path.join(os.curdir, STANDARD_STREAM)  # a file of that name
        elif name:
            yield os.fsdecode(name)


def _walk(found: Found, top: str, suffixes: frozenset[str]) -> None:
    """Links to files are files; links to folders are not followed, so that there are no loops."""

    def unreadable(error: OSError) -> None:
        found.unusable.append(VqzError(f"cannot read: {error.strerror}", error.filename))

    for folder, folders, names in os.walk(top, onerror=unreadable):
        folders.sort()
        found.foreign += _links(folder, folders)
        for name in sorted(names):
            path = os.path.join(folder, name)
            if _is_wanted(path, name, suffixes):
                _add(found, path, os.path.relpath(path, top))
            else:
                found.foreign.append(path)


def _links(folder: str, names: Iterable[str]) -> list[str]:
    paths = (os.path.join(folder, name) for name in names)
    return [path for path in paths if os.path.islink(path)]


def _is_wanted(path: str, name: str, suffixes: frozenset[str]) -> bool:
    if os.path.splitext(name)[1].lower() not in suffixes:
        return False
    if name.startswith("._"):  # where macOS keeps what other file systems cannot hold of a file
        return False
    # A pipe would be waited for.  A link that leads nowhere is a picture that is missing.
    return os.path.isfile(path) or not os.path.exists(path)


def _add(found: Found, path: str, below: str) -> None:
    try:
        found.sources.append(Source(path, below, os.stat(path)))
    except OSError as error:
        found.unusable.append(VqzError(f"cannot read: {error.strerror}", path))
