"""Libraries of the extra `bench`, which an ordinary installation does without."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from vqzip.errors import VqzError


def extra(name: str) -> ModuleType:
    """Import a library of the extra; raises VqzError, with how to install it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise VqzError(f'needs {name}: pip install "vqzip[bench]"') from error
