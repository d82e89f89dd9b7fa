"""ADMM-CSNet: the published count, X as the solution of its normal equations, Z and M by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from isocenter.physics import Downsample, LinearOperator, MultiCoilSampling, Normalised
from isocenter.physics.blur import Blur
from isocenter.physics.fourier import FourierSampling, centred_fft2, centred_ifft2, to_channels, to_complex
from isocenter.physics.geometry import ParallelBeam, views
from isocenter.physics.radon import Radon
from isocenter.unrolled.admm_csnet import ADMMCSNet
from scipy.ndimage import convolve, correlate

SHAPE = (8, 10)

OPERATORS: dict[str, Callable[[], LinearOperator]] = {
    "k-space": lambda: FourierSampling(torch.rand(SHAPE) > 0.5),
    "complex k-space": lambda: FourierSampling(torch.rand(SHAPE) > 0.5, complex_image=True),
    "multi-coil k-space": lambda: MultiCoilSampling(torch.rand(SHAPE) > 0.5, torch.randn(2, 3, *SHAPE)),
    "reflecting blur": lambda: Blur(torch.rand(3, 3) / 9, SHAPE, boundary="reflect"),
    "decimation": lambda: Downsample(SHAPE, 2),
    "tomography": lambda: Radon(ParallelBeam(views(7), detectors=13), SHAPE),
}


def test_parameter_count_of_the_paper() -> None:
    assert sum(weight.numel() for weight in ADMMCSNet().parameters()) == 214_050
    assert sum(weight.numel() for weight in ADMMCSNet(stages=1).parameters()) == 19_459 + 1


@pytest.mark.parametrize("name", OPERATORS)
def test_it_is_admm_with_the_learned_denoiser(name: str, dense: Callable) -> None:
    """Against dense matrices: X solves (AᵀA + ρ) x = Aᵀy + ρ (z − β), exactly or by enough CG iterations."""
    physics = Normalised(OPERATORS[name]())
    network = ADMMCSNet(stages=3, features=3, kernel=3, knots=11, cg_iterations=60).double()
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.05 * torch.randn_like(weight)
    y = physics.A(torch.rand(2, *physics.domain, dtype=torch.float64))
    with torch.no_grad():
        x = network(y, physics).numpy()
    matrix = dense(physics).numpy()
    gain = float(physics.normal_spectrum.mean())
    for image in range(2):
        data, start = y[image].numpy().ravel(), physics.direct(y)[image].numpy()
        np.testing.assert_allclose(x[image], classical(network, matrix, data, start, gain), atol=1e-6)


def classical(network: ADMMCSNet, matrix: np.ndarray, y: np.ndarray, start: np.ndarray, gain: float) -> np.ndarray:
    def solve(layer: torch.nn.Module, v: np.ndarray) -> np.ndarray:
        rho = np.log1p(np.exp(layer.rho.item())) * gain
        normal = matrix.T @ matrix + rho * np.eye(matrix.shape[1])
        return np.linalg.solve(normal, matrix.T @ y + rho * v.ravel()).reshape(v.shape)

    z, beta = start, np.zeros_like(start)
    for stage in network.stages:
        x = solve(stage.reconstruction, z - beta)
        u = x + beta
        z = u - stage.synthesis_bias.item()
        for analysis, bias, knots, synthesis in zip(
            stage.analysis, stage.analysis_bias, stage.activation.values, stage.synthesis, strict=True
        ):
            for channel, plane in enumerate(u):
                response = correlate(plane, analysis.detach().numpy(), mode="wrap") + bias.item()
                inside = np.interp(response, np.linspace(-1, 1, 11), knots.detach().numpy())
                activated = inside + response - np.clip(response, -1, 1)
                z[channel] -= convolve(activated, synthesis.detach().numpy(), mode="wrap")
        beta = beta + stage.eta.item() * (x - z)
    return solve(network.last, z - beta)


def test_x_of_a_masked_transform_is_the_papers() -> None:
    """F⁻¹[(y + ρ F v) / (M + ρ)], with ρ = 0.1 of the sampled fraction."""
    mask = torch.rand(SHAPE) > 0.5
    physics = Normalised(FourierSampling(mask, complex_image=True))
    network = ADMMCSNet(stages=1, features=2)
    y, rho = physics.A(torch.randn(1, 2, *SHAPE)), 0.1 * mask.float().mean()
    v = physics.direct(y)
    for _ in range(2):  # Z and M change nothing at the start, so that v is x
        v = to_channels(centred_ifft2((to_complex(y) + rho * centred_fft2(to_complex(v))) / (mask + rho)))
    torch.testing.assert_close(network(y, physics), v)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="odd"):
        ADMMCSNet(kernel=4)
