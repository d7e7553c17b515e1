"""Measuring: every picture through every codec at every setting, in one process or several."""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from vqzip.bench.codecs import Codec, all_codecs
from vqzip.bench.metrics import METRICS, decibel
from vqzip.bench.rows import Row
from vqzip.errors import VqzError
from vqzip.image import Picture, load, to_image
from vqzip.process import prepare, processors

_WARM_UP = 64


@dataclass(frozen=True)
class Task:
    """One row to measure.

    Attributes:
        path: The picture's file.
        picture: Its name in the row.
        codec: Name of the codec.
        setting: The codec's.
        metrics: Names of those that can be measured here.
        model: Folder of vqz's model, None for the one that comes with vqzip.
    """

    path: Path
    picture: str
    codec: str
    setting: float
    metrics: tuple[str, ...]
    model: str | None


@dataclass(frozen=True)
class Failure:
    """A row, or all rows of a picture, that could not be measured.

    Attributes:
        picture: Its name.
        codec: Name of the codec, None if the picture could not be read.
        reason: One line.
    """

    picture: str
    codec: str | None
    reason: str


def measure_all(tasks: Sequence[Task], jobs: int) -> Generator[Row | Failure]:
    """Measure the tasks in `jobs` processes, in the order in which they get done.

    Raises VqzError if a process dies.
    """
    if jobs == 1 or len(tasks) < 2:
        yield from map(measure, tasks)
        return
    # Not forked: torch and other libraries have threads by now, which a fork would leave behind.
    executor = ProcessPoolExecutor(jobs, get_context("spawn"), _prepare_process, (jobs,))
    try:
        for done in as_completed([executor.submit(measure, task) for task in tasks]):
            yield done.result()
    except BrokenProcessPool as error:
        raise VqzError("a process died; fewer of them (-j) need less memory") from error
    finally:
        executor.shutdown(cancel_futures=True)


def measure(task: Task) -> Row | Failure:
    """One picture through one codec at one setting."""
    try:
        picture = _load(task.path)
    except VqzError as error:
        return Failure(task.picture, None, error.message)
    try:
        return _row(task, picture, _codec(task.codec, task.model))
    # Of any kind, as it is other people's code; one picture that fails must not end all.
    except Exception as error:  # noqa: BLE001
        return Failure(task.picture, task.codec, str(error) or type(error).__name__)


def _row(task: Task, picture: Picture, codec: Codec) -> Row:
    image = to_image(picture.pixels, picture.grayscale)
    start = time.perf_counter()
    data = codec.encode(image, task.setting)
    encoded = time.perf_counter()
    result = codec.decode(data)
    decoded = time.perf_counter()

    height, width, _ = picture.pixels.shape
    if result.size != (width, height):
        raise VqzError(f"decoded to {result.size[0]} x {result.size[1]} pixels")
    pixels = np.asarray(result.convert("RGB"))
    values = {
        name: METRICS[name].measure(picture.pixels, pixels)
        for name in task.metrics
        if METRICS[name].fits(width, height)
    }
    ms_ssim = values.get("ms_ssim")
    return Row(
        picture=task.picture,
        width=width,
        height=height,
        codec=task.codec,
        version=codec.version(),
        setting=task.setting,
        bytes=len(data),
        bpp=8 * len(data) / (width * height),
        psnr=values["psnr"],
        ms_ssim=ms_ssim,
        ms_ssim_db=None if ms_ssim is None else decibel(ms_ssim),
        ssimulacra2=values.get("ssimulacra2"),
        encode_s=encoded - start,
        decode_s=decoded - encoded,
    )


@functools.lru_cache(maxsize=1)
def _load(path: Path) -> Picture:
    return load(path)


@functools.cache
def _codec(name: str, model: str | None) -> Codec:
    """A codec that has done all it does but once, such as loading its library."""
    codec = all_codecs(model)[name]
    codec.decode(codec.encode(Image.new("RGB", (_WARM_UP, _WARM_UP)), codec.settings[0]))
    return codec


def _prepare_process(jobs: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interruption is for the first process
    # Torch reads this once, when it is imported: the processes share the processors.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, processors() // jobs)))
    prepare()
