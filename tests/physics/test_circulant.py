"""The circular convolution nearest to AᵀA: what it is where it is known, and what it is good for in prox_l2."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from isocenter.physics import (
    Blur,
    Downsample,
    FourierSampling,
    Identity,
    Inpaint,
    LinearOperator,
    MultiCoilSampling,
    Normalised,
    ParallelBeam,
    Radon,
    views,
)
from isocenter.physics.circulant import FLOOR, nearest_circulant, preconditions
from isocenter.physics.conjugate_gradient import conjugate_gradient
from isocenter.physics.psf import gaussian_psf
from torch import Tensor

SHAPE = (24, 21)


def coils(shape: tuple[int, int] = SHAPE, seed: int = 0) -> MultiCoilSampling:
    """Three smooth maps, and every third line of one half of k-space."""
    mask = torch.zeros(shape)
    mask[:, : shape[1] // 2 + 4 : 3] = 1
    mask[:, shape[1] // 2 - 2 : shape[1] // 2 + 3] = 1
    row, column = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape), indexing="ij")
    size = torch.stack([torch.exp(-((row - a) ** 2) - (column - b) ** 2) for a, b in ((1, 0), (-1, 1), (0, -1))])
    return MultiCoilSampling(mask, torch.stack((size, size * row)).double())


def dense(operator: LinearOperator) -> Tensor:
    size = int(np.prod(operator.domain))
    return operator.A(torch.eye(size, dtype=torch.float64).reshape(size, *operator.domain)).flatten(1).T


class Anonymous(LinearOperator):
    """An operator that says no more than it must, and counts its applications to batches of images."""

    def __init__(self, operator: LinearOperator) -> None:
        super().__init__(operator.domain, operator.range)
        self.operator, self.calls = operator, 0

    def A(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.operator.A(x)

    def A_adjoint(self, y: Tensor) -> Tensor:
        return self.operator.A_adjoint(y)


@pytest.mark.parametrize(
    "operator",
    [
        Identity(SHAPE),
        Blur(gaussian_psf(1.0, 5), SHAPE),
        FourierSampling(torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)) < 0.4),
        FourierSampling(torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)) < 0.4, complex_image=True),
    ],
    ids=["identity", "blur", "k-space", "k-space of complex images, one-sided"],
)
def test_the_estimate_is_exact_where_the_operator_is_a_convolution(operator: LinearOperator) -> None:
    exact = operator.fourier_normal
    assert exact is not None
    assert torch.equal(operator.normal_spectrum, exact)
    exact = exact.float().clamp_min(FLOOR * float(exact.max()))
    torch.testing.assert_close(nearest_circulant(operator), exact, rtol=0, atol=1e-5)


def test_it_is_near_the_diagonal_of_the_normal_operator_in_fourier_space() -> None:
    """T. Chan's optimal circulant, from a dense matrix: the mean of many pixels, of which 16 are drawn."""
    height, width = shape = (12, 11)
    operator = coils(shape)
    matrix = dense(operator).numpy()
    normal = matrix.T @ matrix
    pixels = height * width
    gram = normal[:pixels, :pixels] + 1j * normal[pixels:, :pixels]
    waves = np.fft.fft2(np.eye(pixels).reshape(pixels, height, width), norm="ortho").reshape(pixels, pixels).T
    exact = np.einsum("kp,pq,kq->k", waves, gram, waves.conj()).real.reshape(shape)
    found = operator.normal_spectrum.numpy()
    mirrored = np.roll(exact[::-1, ::-1], (1, 1), (0, 1))
    of_real_parts = (exact + mirrored) / 2
    assert np.linalg.norm(found - exact) < 0.8 * np.linalg.norm(of_real_parts - exact)


def test_it_is_computed_once_and_scaled_by_wrappers() -> None:
    operator = Anonymous(Radon(ParallelBeam(views(9), 33), SHAPE))
    spectrum = operator.normal_spectrum
    calls = operator.calls
    assert operator.normal_spectrum is spectrum
    unit = Normalised(operator)
    calls_of_norm = operator.calls
    torch.testing.assert_close(unit.normal_spectrum, spectrum / operator.norm**2)
    assert operator.calls == calls_of_norm > calls
    assert operator.double().normal_spectrum.dtype == torch.float64  # it is a buffer, which moves with its operator


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        (Radon(ParallelBeam(views(15), 33), SHAPE), True),
        (Blur(gaussian_psf(1.5, 7), SHAPE, "reflect"), True),
        (Blur(gaussian_psf(1.5, 7), SHAPE, "valid"), True),
        (Downsample((24, 24), 2), False),
        (Inpaint(torch.rand(SHAPE, generator=torch.Generator().manual_seed(0)) < 0.4), False),
        (Inpaint(torch.zeros(SHAPE)), False),
    ],
    ids=["radon", "reflect", "valid", "downsample", "inpaint", "nothing"],
)
def test_it_preconditions_what_is_nearly_a_convolution(operator: LinearOperator, expected: bool) -> None:
    assert preconditions(operator, nearest_circulant(operator)) is expected


@pytest.mark.parametrize(
    ("operator", "share"),
    [
        (Radon(ParallelBeam(views(60), 33), SHAPE), 0.5),
        (Radon(ParallelBeam(views(10), 33), SHAPE), 0.9),
        (Blur(gaussian_psf(1.5, 7), SHAPE, "reflect"), 0.7),
        (Downsample((24, 24), 2), 1.0),
        (coils(), 1.0),
    ],
    ids=["many views", "few views", "reflect", "downsample", "coils"],
)
def test_the_prox_takes_no_more_iterations_than_without(operator: LinearOperator, share: float) -> None:
    counted = Anonymous(operator)
    z, y = torch.randn(1, *operator.domain), torch.randn(1, *operator.range)
    gamma = 10 / float(counted.normal_spectrum.mean())

    def iterations(solve: Callable[[], Tensor]) -> int:
        solve()  # which also estimates what is kept
        counted.calls = 0
        solve()
        return counted.calls

    mine = iterations(lambda: counted.prox_l2(z, y, gamma, tol=1e-4, max_iter=500))
    plain = iterations(
        lambda: conjugate_gradient(
            lambda x: gamma * counted.normal(x) + x,
            gamma * counted.A_adjoint(y) + z,
            start=z,
            tol=1e-4,
            max_iter=500,
        )
    )
    assert mine <= share * plain


@pytest.mark.parametrize(
    "make",
    [
        lambda: Radon(ParallelBeam(views(5), 9), (7, 6)),
        lambda: Blur(gaussian_psf(1.0, 3), (3, 7, 6), "reflect"),
        lambda: Blur(gaussian_psf(1.0, 3), (2, 7, 6), "valid"),
        lambda: coils((7, 6)),
        lambda: Anonymous(Blur(gaussian_psf(1.0, 3), (7, 6))),
        lambda: Downsample((8, 10), 2),
        lambda: Inpaint(torch.rand(3, 7, 6) < 0.5),
        lambda: FourierSampling(torch.rand(7, 6) < 0.5),
        lambda: FourierSampling(torch.rand(7, 6) < 0.5, complex_image=True),
    ],
    ids=[
        "radon",
        "colour",
        "two channels",
        "coils",
        "anonymous",
        "downsample",
        "inpaint",
        "k-space",
        "complex k-space",
    ],
)
def test_the_prox_in_float64_is_that_of_dense_matrices(make: Callable) -> None:
    operator = make()
    matrix = dense(operator)
    z = torch.randn(2, *operator.domain, dtype=torch.float64)
    y = torch.randn(2, *operator.range, dtype=torch.float64)
    normal, right = matrix.T @ matrix, y.flatten(1) @ matrix
    for gamma in (0.7, torch.tensor([0.2, 3.0], dtype=torch.float64).view(2, 1, 1, 1)):
        x = operator.prox_l2(z, y, gamma, tol=1e-14, max_iter=300)
        weights = torch.as_tensor(gamma, dtype=torch.float64).expand(2, 1, 1, 1).flatten()
        for image, weight in enumerate(weights):
            system = weight * normal + torch.eye(len(normal), dtype=torch.float64)
            expected = torch.linalg.solve(system, weight * right[image] + z[image].flatten())
            error = (x[image].flatten() - expected).norm() / expected.norm()
            assert float(error) < 1e-12


@pytest.mark.parametrize("name", ["radon", "coils"])
def test_the_prox_is_differentiable_in_everything(name: str) -> None:
    operator = Radon(ParallelBeam(views(5), 9), (7, 6)) if name == "radon" else coils((7, 6))
    start, z = (torch.randn(2, *operator.domain, dtype=torch.float64, requires_grad=True) for _ in range(2))
    y = torch.randn(2, *operator.range, dtype=torch.float64, requires_grad=True)
    gamma = torch.tensor([0.1, 0.4], dtype=torch.float64).view(2, 1, 1, 1).requires_grad_()

    def three_iterations(z: Tensor, y: Tensor, gamma: Tensor, start: Tensor) -> Tensor:
        return Normalised(operator).prox_l2(z, y, gamma, start=start, tol=0, max_iter=3)

    assert torch.autograd.gradcheck(three_iterations, (z, y, gamma, start), fast_mode=True)
