import numpy as np
import pytest

from vqzip.lapped import OPPONENT_COLOURS, dct2, dct4, lapped_basis, lapped_kernels


@pytest.mark.parametrize("n", [1, 2, 4, 8, 16])
def test_dcts_are_orthonormal(n: int) -> None:
    np.testing.assert_allclose(dct2(n) @ dct2(n).T, np.eye(n), atol=1e-14)
    np.testing.assert_allclose(dct4(n) @ dct4(n).T, np.eye(n), atol=1e-14)


def test_dct2_of_a_constant_is_dc_alone() -> None:
    np.testing.assert_allclose(dct2(8) @ np.ones(8), np.sqrt(8) * np.eye(8)[0], atol=1e-14)


@pytest.mark.parametrize("n", [2, 4, 8, 16])
def test_blocks_are_orthonormal_to_themselves_and_to_their_neighbours(n: int) -> None:
    basis = lapped_basis(n)
    assert basis.shape == (n, 2 * n)
    np.testing.assert_allclose(basis @ basis.T, np.eye(n), atol=1e-14)
    np.testing.assert_allclose(basis[:, n:] @ basis[:, :n].T, np.zeros((n, n)), atol=1e-14)


def test_rows_are_symmetric_and_antisymmetric_in_turn() -> None:
    basis = lapped_basis(8)
    signs = np.array([1, -1] * 4)[:, None]
    np.testing.assert_allclose(basis[:, ::-1], signs * basis, atol=1e-14)


def test_a_constant_excites_dc_alone() -> None:
    np.testing.assert_allclose(lapped_basis(8) @ np.ones(16), np.sqrt(8) * np.eye(8)[0], atol=1e-14)


def test_coding_gain() -> None:
    distance = np.abs(np.subtract.outer(np.arange(16), np.arange(16)))
    basis = lapped_basis(8)
    variances = np.diag(basis @ 0.95**distance @ basis.T)
    assert round(float(-10 * np.log10(variances).mean()), 2) == 9.22


def test_opponent_colours_are_orthonormal_and_gray_is_luma_alone() -> None:
    np.testing.assert_allclose(OPPONENT_COLOURS @ OPPONENT_COLOURS.T, np.eye(3), atol=1e-15)
    np.testing.assert_allclose(OPPONENT_COLOURS @ np.ones(3), [np.sqrt(3), 0, 0], atol=1e-15)


def test_kernels_are_orthonormal() -> None:
    kernels = lapped_kernels(8)
    assert kernels.shape == (192, 3, 16, 16)
    flat = kernels.reshape(192, -1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(192), atol=1e-13)


def _kernel(colour: int, vertical: int, horizontal: int) -> np.ndarray:
    basis = lapped_basis(8)
    plane = np.outer(basis[vertical], basis[horizontal])
    kernel: np.ndarray = OPPONENT_COLOURS[colour][:, None, None] * plane
    return kernel


def test_kernels_start_with_the_lowest_frequencies_and_mean_colours() -> None:
    lowest = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (2, 0, 0)]
    expected = np.stack([_kernel(*index) for index in lowest])
    np.testing.assert_allclose(lapped_kernels(8)[:5], expected, atol=1e-15)


def test_kernels_put_chroma_five_frequencies_behind_luma() -> None:
    kernels = lapped_kernels(8).reshape(192, -1)

    def rank(colour: int, vertical: int, horizontal: int) -> int:
        return int((kernels @ _kernel(colour, vertical, horizontal).reshape(-1)).argmax())

    assert sorted(rank(c, v, h) for c in range(3) for v in range(8) for h in range(8)) == list(
        range(192)
    )
    assert rank(0, 2, 3) < rank(1, 0, 1) < rank(2, 1, 0) < rank(0, 3, 4)
    assert rank(0, 7, 7) == 149
    assert rank(2, 7, 7) == 191
