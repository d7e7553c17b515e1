"""Messages to the user and the exit code they lead to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from vqzip.errors import VqzError, printable


class Report:
    """Prints one line on standard error for each message and remembers whether one was an error.

    Args:
        verbose: Also print details, which are neither errors nor losses.
    """

    def __init__(self, *, verbose: bool = False) -> None:
        self.exit_code = 0
        self._verbose = verbose

    def detail(self, name: str, message: str) -> None:
        """Something only a curious user wants to know."""
        if self._verbose:
            _print(name, message)

    def notice(self, name: str, message: str) -> None:
        """Something the user should know, though the work was done."""
        _print(name, message)

    def error(self, name: str, message: str) -> None:
        """The work was not done; the exit code becomes 1."""
        self.exit_code = 1
        _print(name, message)

    @contextmanager
    def about(self, name: str) -> Iterator[None]:
        """Turn failures of the block into errors about `name`, unless they name a file."""
        try:
            yield
        except VqzError as error:
            self.error(error.name or name, error.message)
        except MemoryError:
            self.error(name, "not enough memory")
        except RecursionError:
            self.error(name, "nested too deeply")
        except OSError as error:
            self.error(name, error.strerror or str(error))
        except RuntimeError as error:
            if "DefaultCPUAllocator" not in str(error):  # how torch says MemoryError
                raise
            self.error(name, "not enough memory")


def _print(name: str, message: str) -> None:
    click.echo(f"vqzip: {printable(name)}: {printable(message)}", err=True)
