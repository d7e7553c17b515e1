"""Multi-scale structural similarity (Wang, Simoncelli & Bovik 2003), differentiable."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales of MS-SSIM, fine to coarse (Wang, Simoncelli & Bovik 2003)."""

WINDOW, WINDOW_DEVIATION = 11, 1.5
STABILIZERS = (0.01**2, 0.03**2)
"""C1 and C2 of SSIM for pixels in [0, 1]."""


@lru_cache
def _window_matrix(size: int, dtype: torch.dtype) -> Tensor:
    """The Gaussian window as a matrix (size - 10, size): filtering is two products with it."""
    at = torch.arange(WINDOW, dtype=dtype) - WINDOW // 2
    window = torch.exp(-at.square() / (2 * WINDOW_DEVIATION**2))
    matrix = torch.zeros(size - WINDOW + 1, size, dtype=dtype)
    for row in range(len(matrix)):
        matrix[row, row : row + WINDOW] = window / window.sum()
    return matrix


def window_mean(x: Tensor) -> Tensor:
    """Gaussian means (..., H - 10, W - 10) of maps (..., H, W), the windows of SSIM."""
    rows, columns = (_window_matrix(side, x.dtype) for side in x.shape[-2:])
    return rows @ x @ columns.T


def ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """Multi-scale structural similarity (B,) of images (B, 3, H, W) in [0, 1].

    Sides are at least 161 for all five scales; smaller images are compared at fewer, the weights
    of those normalized.  Negative similarities count as zero, as is usual.
    """
    scales = sum(min(x.shape[-2:]) // 2**i >= WINDOW for i in range(len(SCALE_WEIGHTS)))
    weights = [w / sum(SCALE_WEIGHTS[:scales]) for w in SCALE_WEIGHTS[:scales]]
    c1, c2 = STABILIZERS
    result = x.new_ones(x.shape[:2])
    for scale, weight in enumerate(weights):
        mean_x, mean_y = window_mean(x), window_mean(y)
        variances = window_mean(x * x + y * y) - mean_x.square() - mean_y.square()
        similarity = (2 * (window_mean(x * y) - mean_x * mean_y) + c2) / (variances + c2)
        if scale == scales - 1:
            luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
            similarity = similarity * luminance
        else:
            x, y = (torch.nn.functional.avg_pool2d(image, 2) for image in (x, y))
        result = result * similarity.mean((2, 3)).clamp_min(1e-6) ** weight
    return result.mean(1)
