"""Settings of a process."""

from __future__ import annotations

import os
import subprocess
import sys

from vqzip import process

SHOW = """
import os, resource
from vqzip.process import prepare
prepare()
import numpy as np
np.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(2**24)
print(os.environ["OPENBLAS_NUM_THREADS"])
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_blas_has_one_thread_and_freed_memory_is_kept() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True, check=True
    )
    threads, faults = done.stdout.split()
    assert threads == "1"
    if sys.platform == "linux":
        assert int(faults) < 2**15  # of 4 KB; once is that many, twenty times were new


def test_processors_are_counted() -> None:
    assert 1 <= process.processors() <= (os.cpu_count() or 1)
