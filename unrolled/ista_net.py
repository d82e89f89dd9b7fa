"""ISTA-Net+: iterative shrinkage with a learned, nearly invertible sparsifying transform."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from ..baselines.steps import proximal_gradient_step
from ..physics import LinearOperator
from .blocks import reduced_precision
from .contract import Network

ASYMMETRY_WEIGHT = 0.01


class ISTANetPlus(Network):
    """ISTA-Net+ (Zhang & Ghanem, CVPR 2018, eq. 7–13), for every operator A of norm one.

    From x = direct(y), each phase is one :func:`proximal_gradient_step` with parameters of its own ::

        r = x − λ Aᵀ(A x − y)
        x = r + G(B(soft(F(D(r)), θ)))

    D takes the image to ``width`` feature maps and G back; F and B are convolution, ReLU, convolution. All are 3 × 3
    without bias and start as Xavier's; λ starts at 0.5 and θ at 0.01: 336,978 parameters for real images and the
    defaults, which are the paper's. ISTA itself is among these networks: G can subtract r again.

    B is asked to invert F: :meth:`penalty` is 0.01 Σ_phases mean ‖B(F(d)) − d‖², d = D(r), which training adds to its
    loss.

    Args:
        channels: of the image; 1, or 2 for complex images.
        phases: their number.
        width: feature maps.
    """

    def __init__(self, channels: int = 1, phases: int = 9, width: int = 32) -> None:
        super().__init__()
        if phases < 1 or width < 1:
            raise ValueError(f"ISTANetPlus: {phases} phases of width {width}; expected at least 1")
        self.settings = {"network": "ISTA-Net+", "channels": channels, "phases": phases, "width": width}
        self.phases = nn.ModuleList(_Phase(channels, width) for _ in range(phases))
        self._penalty: Tensor | None = None

    def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
        """``[B, *range]`` → ``[B, *domain]``."""
        x, asymmetry = physics.direct(y), y.new_zeros(())
        for phase in self.phases:
            x, asymmetry = self.run(phase, x, asymmetry, y, physics)
            self.show(x)
        self._penalty = ASYMMETRY_WEIGHT * asymmetry if self.training else None
        return x

    def penalty(self) -> Tensor | None:
        return self._penalty


class _Phase(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.step_size = nn.Parameter(torch.tensor(0.5))
        self.transform = _Transform(channels, width)

    def forward(self, x: Tensor, asymmetry: Tensor, y: Tensor, physics: LinearOperator) -> tuple[Tensor, Tensor]:
        def prox(r: Tensor) -> Tensor:
            nonlocal asymmetry
            correction, more = self.transform(r)
            asymmetry = asymmetry + more
            return r + correction

        x = proximal_gradient_step(x, lambda v: physics.A_adjoint(physics.A(v) - y), prox, step_size=self.step_size)
        return x, asymmetry


class _Transform(nn.Module):
    """r ↦ G(B(soft(F(D r), θ))) and, in training, mean (B(F(D r)) − D r)²."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(0.01))
        self.to_features, self.to_image = _convolution(channels, width), _convolution(width, channels)
        self.forwards = nn.Sequential(_convolution(width, width), nn.ReLU(), _convolution(width, width))
        self.backwards = nn.Sequential(_convolution(width, width), nn.ReLU(), _convolution(width, width))
        self.to(memory_format=torch.channels_last)

    def forward(self, r: Tensor) -> tuple[Tensor, Tensor]:
        with reduced_precision(r):
            d = self.to_features(r.contiguous(memory_format=torch.channels_last))
            z = self.forwards(d)
            shrunk = z.sign() * relu(z.abs() - self.threshold.to(z.dtype))
            correction = self.to_image(self.backwards(shrunk)).to(r.dtype).contiguous()
            if not self.training:
                return correction, r.new_zeros(())
            # features never leave bf16: as float32 they would take as long as the convolutions
            norm = torch.linalg.vector_norm(self.backwards(z) - d, dtype=r.dtype)
        return correction, norm.square() / d.numel()


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.xavier_normal_(layer.weight)
    return layer
