"""Compiles the inner loops while the package is built, where there is a C compiler.

Without one the package is the same, but for time: NumPy does all (`vqzip/native.py`).
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE, LIBRARY = "vqzip/native.c", "vqzip/_native.so"
# Sums that have to be exact are, whatever their order, and nothing is infinite or not a number
# (native.c).
ARITHMETIC = ("math-errno", "trapping-math", "signed-zeros")
FLAGS = (
    *("-O3", "-std=gnu11", "-shared", "-fPIC", "-fassociative-math", "-ffinite-math-only"),
    *(f"-fno-{name}" for name in ARITHMETIC),
)


class NativeHook(BuildHookInterface[Any]):
    """Adds the compiled file to a wheel, which is then one for this system."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See hatchling; the file is left in the checkout, too, for an editable installation."""
        del version
        library = Path(self.root, LIBRARY)
        compiler = shlex.split(os.environ.get("CC", "cc"))
        if os.name != "posix" or shutil.which(compiler[0]) is None:
            return
        partial = library.with_suffix(f".{os.getpid()}")  # others may have the library in use
        output = "-o", str(partial), str(Path(self.root, SOURCE)), "-lm"
        for threads in (("-fopenmp",), ()):  # not every compiler has it: then Python has threads
            command = [*compiler, *FLAGS, *threads, *output]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if not done.returncode:
                break
        else:
            self.app.display_warning(f"vqzip: not compiled, NumPy does all: {done.stderr}")
            return
        partial.replace(library)
        build_data["artifacts"].append(LIBRARY)
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
        build_data["pure_python"] = False
