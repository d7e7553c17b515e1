"""Orthonormal lapped transform that initialises the first and the last convolution.

The untrained network is then a transform codec of JPEG's class whose blocks overlap by half, and
training only improves it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

# R+G+B, R-B, R-2G+B: orthonormal, so one quantization step means the same in each.
OPPONENT_COLOURS: Matrix = np.array([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt(
    [[3.0], [2.0], [6.0]]
)


def dct2(n: int) -> Matrix:
    """Orthonormal DCT-II, rows are basis vectors, shape (n, n)."""
    k, i = np.mgrid[:n, :n]
    c = np.sqrt(2 / n) * np.cos(np.pi * (i + 0.5) * k / n)
    c[0] /= np.sqrt(2)
    return np.asarray(c, dtype=np.float64)


def dct4(n: int) -> Matrix:
    """Orthonormal DCT-IV, rows are basis vectors, shape (n, n)."""
    k, i = np.mgrid[:n, :n]
    return np.asarray(np.sqrt(2 / n) * np.cos(np.pi * (i + 0.5) * (k + 0.5) / n))


def lapped_basis(n: int = 8) -> Matrix:
    """One-dimensional time-domain lapped transform, shape (n, 2 * n), rows orthonormal.

    A pre-filter over each block boundary followed by a DCT-II (Tran, Liang & Tu 2003, "Lapped
    transform via time-domain pre- and post-filtering").  Rows overlap their neighbours' by half,
    are orthogonal to them, and are symmetric or antisymmetric, so that a constant signal excites
    the first row alone: flat areas carry no pattern at the period of the blocks.
    """
    half = n // 2
    eye, flip = np.eye(half), np.eye(half)[::-1]
    butterfly = np.block([[eye, flip], [flip, -eye]])
    v = flip @ dct2(half).T @ dct4(half) @ flip
    prefilter = 0.5 * butterfly @ np.block([[eye, 0 * eye], [0 * eye, v]]) @ butterfly
    window = np.zeros((n, 2 * n))
    window[:half, :n] = prefilter[half:]
    window[half:, n:] = prefilter[:half]
    return dct2(n) @ window


def lapped_kernels(n: int = 8) -> Matrix:
    """Convolution kernels of the separable colour transform, shape (3 * n * n, 3, 2 * n, 2 * n).

    Ordered from low to high frequency, luma before chroma of the same frequency.
    """
    rows = lapped_basis(n)
    planes = np.einsum("ai,bj->abij", rows, rows).reshape(n * n, 2 * n, 2 * n)
    kernels = np.einsum("fij,ec->efcij", planes, OPPONENT_COLOURS)
    luma = np.add.outer(np.arange(n), np.arange(n)).reshape(-1)
    chroma = np.where(luma == 0, 1, luma + 5)  # photos hold mean colours, little colour detail
    rank = np.concatenate([luma, chroma, chroma])
    order = np.argsort(rank, kind="stable")
    return np.asarray(kernels.reshape(-1, 3, 2 * n, 2 * n)[order])
