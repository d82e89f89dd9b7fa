"""Circular filter banks against SciPy and against the Fourier transform."""

from __future__ import annotations

import pytest
import torch
from isocenter.unrolled.filter_bank import analyse, dct_basis, gram, real_spectrum, synthesise, through_patches
from scipy.ndimage import correlate


@pytest.mark.parametrize("kernel", [3, 5])
def test_dct_basis_is_orthonormal_and_without_constant(kernel: int) -> None:
    basis = dct_basis(kernel).flatten(1)
    torch.testing.assert_close(basis @ basis.T, torch.eye(kernel**2 - 1), atol=1e-6, rtol=0)
    assert basis.sum(1).abs().max() < 1e-6


@pytest.mark.parametrize("shape", [(8, 9), (5, 4), (1, 6)])
def test_analysis_is_scipys_correlation(shape: tuple[int, int]) -> None:
    x, filters = torch.randn(2, *shape, dtype=torch.float64), torch.randn(4, 3, 3, dtype=torch.float64)
    result = analyse(x, filters)
    for image in range(2):
        for index in range(4):
            expected = correlate(x[image].numpy(), filters[index].numpy(), mode="wrap")
            torch.testing.assert_close(result[index, image], torch.as_tensor(expected))


@pytest.mark.parametrize("kernel", [3, 5])
def test_synthesis_is_the_adjoint_and_gradients_are_exact(kernel: int) -> None:
    x = torch.randn(2, 6, 7, dtype=torch.float64, requires_grad=True)
    z = torch.randn(3, 2, 6, 7, dtype=torch.float64, requires_grad=True)
    filters = torch.randn(3, kernel, kernel, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close((analyse(x, filters) * z).sum(), (x * synthesise(z, filters)).sum())
    assert torch.autograd.gradcheck(analyse, (x, filters))
    assert torch.autograd.gradcheck(synthesise, (z, filters))


def test_patches_take_matrices_and_something_pointwise_between_them() -> None:
    x, first, second = torch.randn(2, 6, 7), torch.randn(3, 3, 3), torch.randn(3, 3, 3)
    made = through_patches(x, 3, lambda patches: second.flatten(1).T @ torch.tanh(first.flatten(1) @ patches))
    torch.testing.assert_close(made, synthesise(torch.tanh(analyse(x, first)), second))


@pytest.mark.parametrize("shape", [(8, 9), (7, 6)])
def test_spectrum_of_the_gram_kernel_is_that_of_synthesis_after_analysis(shape: tuple[int, int]) -> None:
    filters, weights = torch.randn(5, 3, 3, dtype=torch.float64), torch.rand(5, dtype=torch.float64)
    x = torch.randn(2, *shape, dtype=torch.float64)
    spectrum = real_spectrum(gram(filters, weights), shape)
    by_fourier = torch.fft.ifft2(spectrum * torch.fft.fft2(x)).real
    torch.testing.assert_close(by_fourier, synthesise(weights.view(-1, 1, 1, 1) * analyse(x, filters), filters))
    assert spectrum.min() > -1e-12
