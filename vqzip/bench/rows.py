"""The measurements, a table of tab-separated values: one row for each picture, codec and setting.

Rows are appended as they are measured, so that a run that was interrupted loses nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from vqzip.errors import VqzError

Key: TypeAlias = tuple[str, str, str, float]


@dataclass(frozen=True)
class Row:
    """One picture through one codec at one setting.

    Attributes:
        picture: Its path below the folder.
        width: Pixels.
        height: Pixels.
        codec: Name of the codec.
        version: Versions of the libraries, and for vqz the fingerprint of the model.
        setting: The codec's own: a quality, a distance or a ratio.
        bytes: Size of the file.
        bpp: Bits per pixel, 8 * bytes / (width * height).
        psnr: dB, of 8-bit RGB.
        ms_ssim: At most 1; None where the picture is too small or the library missing.
        ms_ssim_db: The same as -10 log10(1 - ms_ssim).
        ssimulacra2: At most 100; None as for MS-SSIM.
        encode_s: Seconds from pixels to the file's bytes.
        decode_s: Seconds from the file's bytes to pixels.
    """

    picture: str
    width: int
    height: int
    codec: str
    version: str
    setting: float
    bytes: int
    bpp: float
    psnr: float
    ms_ssim: float | None
    ms_ssim_db: float | None
    ssimulacra2: float | None
    encode_s: float
    decode_s: float

    @property
    def key(self) -> Key:
        """What is measured once: picture, codec, version and setting."""
        return self.picture, self.codec, self.version, self.setting


def _optional(text: str) -> float | None:
    return float(text) if text else None


# How a column is read and how it is written.
_COLUMNS: dict[str, tuple[Callable[[str], Any], Callable[[Any], str]]] = {
    "picture": (str, str),
    "width": (int, str),
    "height": (int, str),
    "codec": (str, str),
    "version": (str, str),
    "setting": (float, "{:g}".format),
    "bytes": (int, str),
    "bpp": (float, "{:.6f}".format),
    "psnr": (float, "{:.4f}".format),
    "ms_ssim": (_optional, "{:.6f}".format),
    "ms_ssim_db": (_optional, "{:.4f}".format),
    "ssimulacra2": (_optional, "{:.3f}".format),
    "encode_s": (float, "{:.4f}".format),
    "decode_s": (float, "{:.4f}".format),
}


class RowFile:
    """The table at a path, read when this is made and created if it is not there.

    Raises VqzError, naming the path, if that cannot be done or something else is in the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[Key, Row] = {}
        with self._os_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.write_bytes(_line(_COLUMNS).encode())
            data = path.read_bytes()
        complete = data.rfind(b"\n") + 1  # a run that was killed may have left half a line
        header, *lines = data[:complete].decode("utf-8", "replace").split("\n")
        if header + "\n" != _line(_COLUMNS):
            raise VqzError("is not a table of this version of vqzip bench", str(path))
        if complete < len(data):
            with self._os_errors():
                os.truncate(path, complete)
        for number, line in enumerate(lines, 2):
            if line:
                self._remember(line, number)

    def append(self, row: Row) -> None:
        """Add a row; it takes the place of an earlier one with the same key."""
        cells = asdict(row).items()
        line = _line("" if cell is None else _COLUMNS[name][1](cell) for name, cell in cells)
        with self._os_errors(), open(self.path, "ab") as file:
            file.write(line.encode())
        self._remember(line[:-1])  # as it will be read again, rounded

    @contextmanager
    def _os_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            name = str(error.filename or self.path)
            raise VqzError(f"cannot write: {error.strerror or error}", name) from error

    def _remember(self, line: str, number: int = 0) -> None:
        cells = zip(_COLUMNS.items(), line.split("\t"), strict=True)
        try:
            row = Row(**{name: parse(cell) for (name, (parse, _)), cell in cells})
        except ValueError as error:
            raise VqzError(f"line {number} is broken: {error}", str(self.path)) from error
        self.rows[row.key] = row


def _line(cells: Iterable[str]) -> str:
    return "\t".join(cells) + "\n"
