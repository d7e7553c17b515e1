"""How near decoded pixels come to the original: PSNR, MS-SSIM and SSIMULACRA2."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vqzip.bench.extras import extra
from vqzip.image import Pixels


@dataclass(frozen=True)
class Metric:
    """A measure of quality, the more the better.

    Attributes:
        name: Its column in the rows.
        label: For people, with the unit of `scale`.
        measure: Value for the original and the decoded pixels, uint8 (H, W, 3).
        smallest: Shortest side of a picture that it is defined for.
        library: Of the extra `bench`, None if it needs none.
        scale: From a mean of `measure` to the scale of plots and BD-rates.
    """

    name: str
    label: str
    measure: Callable[[Pixels, Pixels], float]
    smallest: int = 1
    library: str | None = None
    scale: Callable[[float], float] = float

    def check(self) -> None:
        """Raise VqzError if the library is not there."""
        if self.library is not None:
            extra(self.library)

    def fits(self, width: int, height: int) -> bool:
        """Whether a picture is large enough."""
        return min(width, height) >= self.smallest


def psnr(original: Pixels, decoded: Pixels) -> float:
    """Peak signal-to-noise ratio in dB over all three channels; infinite for equal pixels."""
    difference = original.astype(np.int32) - decoded
    error = float(np.square(difference).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


def ms_ssim(original: Pixels, decoded: Pixels) -> float:
    """MS-SSIM, mean of the three channels, at most 1."""
    import torch

    library = extra("pytorch_msssim")
    x, y = (torch.from_numpy(p.copy()).permute(2, 0, 1)[None].float() for p in (original, decoded))
    with torch.inference_mode():
        return float(library.ms_ssim(x, y, data_range=255))


def ssimulacra2(original: Pixels, decoded: Pixels) -> float:
    """SSIMULACRA2, 100 for equal pixels, 90 hard to tell apart, negative for the worst."""
    library = extra("ssimulacra2")
    return float(library.compute_ssimulacra2(_file(original), _file(decoded)))


def _file(pixels: Pixels) -> io.BytesIO:
    """What a library wants that only reads files, as fast as can be."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PPM")
    return buffer


def decibel(value: float) -> float:
    """-10 log10(1 - value): MS-SSIM on a scale where the interesting part is not all near 1."""
    return -10 * math.log10(1 - value) if value < 1 else math.inf


METRICS = {
    metric.name: metric
    for metric in (
        Metric("psnr", "PSNR (dB)", psnr),
        # Five scales of an 11-pixel window.
        Metric("ms_ssim", "MS-SSIM (dB)", ms_ssim, 161, "pytorch_msssim", decibel),
        # Its six scales end where a side would be less than 8; the weights are those of all six.
        Metric("ssimulacra2", "SSIMULACRA2", ssimulacra2, 225, "ssimulacra2"),
    )
}
