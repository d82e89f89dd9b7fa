"""Variational network: gradient descent on learned regularisers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, softplus

from ..baselines.steps import proximal_gradient_step
from ..physics import LinearOperator
from .contract import Network
from .large_filters import convolve, correlate
from .radial_basis import RadialBasis


class VariationalNetwork(Network):
    """Variational network (Hammernik et al., MRM 2018, eq. 6 and 9), for every operator A of norm one.

    From u = direct(y), each stage is one step of gradient descent on λ/2 ‖A u − y‖² + (1/L) Σ_l Σ ρ_l(k_l ∗ u), with
    ρ_l' = φ_l and parameters of its own ::

        u = u − (1/L) Σ_l K_lᵀ φ_l(K_l u) − λ Aᵀ(A u − y)

    K_l correlates the image, continued beyond its border by its outermost pixels, with a filter that has one plane for
    each channel (for complex images the sum of both responses), and K_lᵀ takes the response back to the image, without
    that border. φ_l is a sum of 31 Gaussians and starts as 0.04 v; λ starts at 1, and softplus keeps it positive. The
    1/L is that of the authors' code. For complex images, 65,530 parameters with 24 filters and 131,050 with 48.

    The paper projects the filters after every step of the optimiser: each plane to zero mean, the filter to ‖k‖ ≤ 1.
    Here they are the projections of free parameters. These are the same filters, and any optimiser and any average of
    weights keeps to them.

    Args:
        channels: of the image; 1, or 2 for complex images.
        stages: their number; the paper's has 10.
        filters: L.
        kernel: side of the filters, odd.
        centres: Gaussians of each φ.
    """

    def __init__(
        self, channels: int = 1, stages: int = 10, filters: int = 24, kernel: int = 11, centres: int = 31
    ) -> None:
        super().__init__()
        if stages < 1 or filters < 1 or kernel < 3 or kernel % 2 == 0:
            raise ValueError(
                f"VariationalNetwork: {stages} stages of {filters} filters {kernel} × {kernel}; expected at least one "
                "of each, and an odd size ≥ 3"
            )
        self.settings = {
            "network": "variational network",
            "channels": channels,
            "stages": stages,
            "filters": filters,
            "kernel": kernel,
            "centres": centres,
        }
        self.stages = nn.ModuleList(_Stage(channels, filters, kernel, centres) for _ in range(stages))

    def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
        """``[B, *range]`` → ``[B, *domain]``."""
        u = physics.direct(y)
        for stage in self.stages:
            u = self.run(stage, u, y, physics)
            self.show(u)
        return u


class _Stage(nn.Module):
    def __init__(self, channels: int, filters: int, kernel: int, centres: int) -> None:
        super().__init__()
        self.free_filters = nn.Parameter(torch.randn(filters, channels, kernel, kernel) / (channels**0.5 * kernel))
        self.activation = RadialBasis(filters, centres)
        self.data_weight = nn.Parameter(torch.tensor(1.0).expm1().log())

    def forward(self, u: Tensor, y: Tensor, physics: LinearOperator) -> Tensor:
        weight, filters = softplus(self.data_weight), self.filters()

        def gradient(u: Tensor) -> Tensor:
            extended = pad(u, (filters.shape[-1] - 1,) * 4, mode="replicate")
            response = convolve(self.activation(correlate(extended, filters)), filters)
            return response / len(filters) + weight * physics.A_adjoint(physics.A(u) - y)

        return proximal_gradient_step(u, gradient, prox=lambda u: u, step_size=1.0)

    def filters(self) -> Tensor:
        """``[L, C, k, k]``: the free ones with zero mean on each plane, and norm at most one."""
        centred = self.free_filters - self.free_filters.mean((-2, -1), keepdim=True)
        return centred / centred.flatten(1).norm(dim=1).clamp_min(1).view(-1, 1, 1, 1)
