"""The loss: MS-SSIM against the package that everyone measures with."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vqzip.similarity import ms_ssim


def noisy(side: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(side)
    image = F.avg_pool2d(torch.rand(2, 3, side, side, generator=generator), 5, 1, 2)
    noise = 0.05 * torch.randn(image.shape, generator=generator)
    return image, (image + noise).clamp(0, 1)


@pytest.mark.parametrize("side", [176, 192, 256])
def test_ms_ssim_is_that_of_pytorch_msssim(side: int) -> None:
    reference = pytest.importorskip("pytorch_msssim")
    x, y = noisy(side)
    found, precise = ms_ssim(x, y), ms_ssim(x.double(), y.double())
    expected = reference.ms_ssim(x.double(), y.double(), data_range=1.0, size_average=False)
    # Its window is rounded to single precision, and does not sum to one exactly.
    torch.testing.assert_close(precise, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.double(), precise, atol=5e-6, rtol=0)


def test_ms_ssim_of_equal_images_is_one() -> None:
    x, _ = noisy(64)
    torch.testing.assert_close(ms_ssim(x, x), torch.ones(2), atol=1e-6, rtol=0)


def test_ms_ssim_has_a_gradient_towards_the_original() -> None:
    x, y = noisy(64)
    y.requires_grad_()
    (slope,) = torch.autograd.grad(ms_ssim(y, x).sum(), y)
    closer = y.detach() + 1e-2 * slope / slope.abs().max()
    assert (ms_ssim(closer, x) > ms_ssim(y.detach(), x)).all()
