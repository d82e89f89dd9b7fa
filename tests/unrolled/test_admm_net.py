"""ADMM-Net: the published parameter count, and ADMM with a soft threshold at the start."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from isocenter.physics import LinearOperator, Normalised
from isocenter.physics.blur import Blur
from isocenter.physics.fourier import FourierSampling
from isocenter.physics.pointwise import Identity, Inpaint
from isocenter.unrolled import ADMMNet
from isocenter.unrolled.piecewise_linear import PiecewiseLinear
from scipy.ndimage import correlate
from scipy.signal import windows
from torch import Tensor


class Circulant(LinearOperator):
    """A circular correlation that states its spectrum, written without any code of the package."""

    def __init__(self, domain: tuple[int, int, int], seed: int = 0) -> None:
        super().__init__(domain, domain)
        spectrum = torch.fft.fft2(torch.randn(domain[1:], generator=torch.Generator().manual_seed(seed)).double())
        self.spectrum = spectrum / spectrum.abs().max()

    def A(self, x: Tensor) -> Tensor:
        return torch.fft.ifft2(self.spectrum * torch.fft.fft2(x.double())).real.to(x.dtype)

    def A_adjoint(self, y: Tensor) -> Tensor:
        return torch.fft.ifft2(self.spectrum.conj() * torch.fft.fft2(y.double())).real.to(y.dtype)

    @property
    def fourier_normal(self) -> Tensor:
        return self.spectrum.abs().square()


class OneSided(Circulant):
    """Samples half of the k-space of complex images, so that its spectrum is not even."""

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__((2, *shape))
        self.spectrum = (torch.arange(shape[1]) < shape[1] // 2 + 1).double().expand(shape)

    def A(self, x: Tensor) -> Tensor:
        image = torch.fft.ifft2(self.spectrum * torch.fft.fft2(torch.complex(x[:, 0], x[:, 1])))
        return torch.stack((image.real, image.imag), dim=1).to(x.dtype)

    A_adjoint = A


OPERATORS: dict[str, Callable[[], LinearOperator]] = {
    "circular convolution": lambda: Circulant((1, 6, 7)),
    "complex images": lambda: OneSided((6, 7)),
    "real k-space": lambda: FourierSampling(torch.arange(7).remainder(2).eq(1).expand(6, 7)),
    "complex k-space": lambda: FourierSampling(torch.arange(6).lt(4).expand(7, 6), complex_image=True),
    "circular blur": lambda: Blur(torch.as_tensor(windows.gaussian(3, 1.0)).outer(torch.ones(3)).float() / 6, (6, 7)),
    "reflecting blur": lambda: Blur(torch.rand(3, 3) / 9, (6, 7), boundary="reflect"),
    "inpainting": lambda: Inpaint(torch.rand(6, 7) > 0.4),
}


def test_parameter_count_of_the_paper() -> None:
    assert sum(w.numel() for w in ADMMNet(stages=17).parameters()) == 16_256
    assert sum(w.numel() for w in ADMMNet(stages=1).parameters()) == 952 + 72


@pytest.mark.parametrize("name", OPERATORS)
def test_at_initialisation_it_is_admm_with_a_soft_threshold(name: str, dense: Callable) -> None:
    physics = Normalised(OPERATORS[name]())
    y = torch.randn(2, *physics.range, dtype=torch.float64) * 0.3
    network = ADMMNet(stages=3, cg_iterations=60).double()
    for stage in network.stages:
        stage.shrinkage = PiecewiseLinear(8, threshold=0.06).double()  # its kinks are knots, so that it is exact
    with torch.no_grad():
        x = network(y, physics)
    matrix, rho = dense(physics).numpy(), 0.2 * float(physics.normal_spectrum.mean())
    for image in range(2):
        start = physics.direct(y)[image].numpy()
        expected = classical_admm(matrix, y[image].numpy().ravel(), start, iterations=3, rho=rho)
        np.testing.assert_allclose(x[image].numpy(), expected, atol=2e-6)


def classical_admm(matrix: np.ndarray, y: np.ndarray, start: np.ndarray, iterations: int, rho: float) -> np.ndarray:
    """min ½‖A x − y‖² + Σ λ_l ‖D_l x‖₁ with λ/ρ = 0.06 and relaxed dual steps 1.6, by dense matrices."""
    cosines = np.array([[1, 1, 1], [3**0.5 / 2**0.5, 0, -(3**0.5) / 2**0.5], [0.5**0.5, -(2**0.5), 0.5**0.5]]) / 3**0.5
    filters = [np.outer(cosines[i], cosines[j]) for i in range(3) for j in range(3)][1:]
    units = np.eye(start.size).reshape(-1, *start.shape)

    def rows(kernel: np.ndarray) -> np.ndarray:
        return np.stack([correlate(unit, kernel[None], mode="wrap").ravel() for unit in units], axis=1)

    analysis = np.concatenate([rows(kernel) for kernel in filters])
    normal = matrix.T @ matrix + rho * analysis.T @ analysis
    z, u = analysis @ start.ravel(), np.zeros(8 * start.size)
    for _ in range(iterations):
        x = np.linalg.solve(normal, matrix.T @ y + rho * analysis.T @ (z - u))
        c = analysis @ x
        z = np.sign(c + u) * np.maximum(np.abs(c + u) - 0.06, 0)
        u = u + 1.6 * (c - z)
    return np.linalg.solve(normal, matrix.T @ y + rho * analysis.T @ (z - u)).reshape(start.shape)


def test_a_constant_that_nothing_sees_is_zero() -> None:
    mask = torch.ones(8, 8)
    mask[4, 4] = 0
    physics = FourierSampling(mask)
    x = torch.rand(1, 1, 8, 8)
    result = ADMMNet(stages=3)(physics.A(x), physics)
    assert result.mean().abs() < 2e-3  # of rounding, over 1e-4
    assert result.isfinite().all()


def test_states_what_it_cannot_be() -> None:
    with pytest.raises(ValueError, match="odd"):
        ADMMNet(kernel=4)


def test_one_channel_of_zeros_stays_zero() -> None:
    x = ADMMNet(stages=2)(torch.zeros(1, 1, 8, 8), Identity((8, 8)))
    assert (x == 0).all()
