"""The one exception that users of vqzip need to know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class VqzError(Exception):
    """Input that cannot be processed, or a file that cannot be read or written.

    Attributes:
        message: What is wrong, one line, meant for people.
        name: The file it is about, or None if the data had no name.
    """

    def __init__(self, message: str, name: str | None = None) -> None:
        super().__init__(message)
        self.message = printable(message)
        self.name = name

    def __str__(self) -> str:
        return self.message if self.name is None else f"{printable(self.name)}: {self.message}"


@contextmanager
def naming(name: str | None) -> Iterator[None]:
    """Put `name` on every VqzError that leaves the block without one."""
    try:
        yield
    except VqzError as error:
        if error.name is None:
            error.name = name
        raise


@contextmanager
def refusing(name: str) -> Iterator[None]:
    """Turn what bad input or a full machine makes Python raise into a VqzError about `name`.

    Bugs pass through as they are.
    """
    with naming(name):
        try:
            yield
        except MemoryError as error:
            raise VqzError("not enough memory") from error
        except RecursionError as error:
            raise VqzError("nested too deeply") from error
        except OSError as error:
            raise VqzError(error.strerror or str(error)) from error
        except RuntimeError as error:
            if "DefaultCPUAllocator" not in str(error):  # how torch says MemoryError
                raise
            raise VqzError("not enough memory") from error


def printable(text: str) -> str:
    """`text` on one line: newlines, control characters and undecodable bytes are escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
