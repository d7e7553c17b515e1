"""Messages to the user, data for standard output, and the exit code it all leads to."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from vqzip.errors import VqzError, printable, refusing

_CLEAR_LINE = "\r\033[K"


class Report:
    """Prints one line on standard error for each message and remembers whether one was an error.

    Args:
        verbose: Also print details, which are neither errors nor losses.
        quiet: Print errors only.
    """

    def __init__(self, *, verbose: bool = False, quiet: bool = False) -> None:
        self.exit_code = 0
        self.over_progress = False
        """The cursor is behind a progress bar, which lines are to take the place of."""
        self._verbose = verbose
        self._quiet = quiet

    def detail(self, message: str) -> None:
        """Something only a curious user wants to know."""
        if self._verbose:
            self.notice(message)

    def notice(self, message: str) -> None:
        """Something the user should know, though the work was done."""
        if not self._quiet:
            self._print(message)

    def error(self, message: str) -> None:
        """The work was not done; the exit code becomes 1."""
        self.exit_code = 1
        self._print(message)

    def output(self, text: str) -> None:
        """Data.  Raises VqzError where standard output takes none, such as on a full disk."""
        if self.over_progress:
            click.echo(_CLEAR_LINE, err=True, nl=False)
        # A name may have characters that the user's locale does not; that is no reason to stop.
        encoding = sys.stdout.encoding or "utf-8"
        try:
            click.echo(text.encode(encoding, "backslashreplace").decode(encoding))
        except BrokenPipeError:
            raise  # whoever read has seen enough: click ends the program without a word
        except OSError as error:
            # What could not be written would fail once more as Python flushes it at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise VqzError(f"cannot write: {error.strerror}", "-") from error

    @contextmanager
    def about(self, name: str) -> Iterator[None]:
        """Turn failures of the block into errors about `name`, unless they name a file."""
        try:
            with refusing(name):
                yield
        except VqzError as error:
            self.error(str(error))

    def _print(self, message: str) -> None:
        clear = _CLEAR_LINE if self.over_progress else ""
        click.echo(f"{clear}vqzip: {printable(message)}", err=True)
