"""Deep-equilibrium proximal gradient: a network of infinitely many equal stages."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.nn.utils import parametrize

from ..baselines.anderson import anderson
from ..baselines.method import ConvergenceWarning
from ..baselines.steps import proximal_gradient_step
from ..physics import LinearOperator
from .cnn import stack
from .contract import Network

SCALE = 0.2  # of the CNN: a small one keeps the iteration a contraction for longer


class DeepEquilibrium(Network):
    """x* = R(x* − τ Aᵀ(A x* − y)), the fixed point itself (DE-Prox: Gilton, Ongie, Willett, TCI 2021, eq. 11–13).

    Found by Anderson acceleration from direct(y), and differentiated implicitly: with J the Jacobian of the iteration
    at x*, the gradient g solves g = Jᵀ g + ∂loss/∂x*, by the same acceleration. Memory is that of one iteration,
    whatever their number, so that checkpointing has nothing to save.

    R(v) = (v + CNN(v) / 5) / (1 + β), the CNN a stack of 3 × 3 convolutions with ReLU between them. The paper starts
    from a trained denoiser; here the last layer starts at zero, and the first equilibrium is Tikhonov's,
    (τ AᵀA + β) x = τ Aᵀ y: β, learned from 0.05, makes the iteration a contraction from the start, which it is for no A
    that has a null space otherwise. That it stays one is likely and not certain: the CNN is scaled down, its kernels,
    as matrices of outputs × inputs, are divided by their spectral norm where that is above one (Miyato et al. 2018),
    and 0 < τ < 2.

    Args:
        channels: of the image; 1, or 2 for complex images.
        depth: convolutions of the CNN.
        width: its feature maps.
        iterations: bound on those of the equilibrium, and on those of its gradient.
        tol: relative residual ‖f(x) − x‖ / ‖f(x)‖ at which an image is done; one that does not come as far is reported
            by a :class:`ConvergenceWarning` when the network is evaluated.
    """

    def __init__(
        self, channels: int = 1, depth: int = 5, width: int = 32, iterations: int = 30, tol: float = 1e-3
    ) -> None:
        super().__init__()
        if iterations < 1 or not tol > 0:
            raise ValueError(f"DeepEquilibrium: {iterations} iterations to {tol}; expected at least 1, above 0")
        self.settings = {
            "network": "Deep equilibrium",
            "channels": channels,
            "depth": depth,
            "width": width,
            "iterations": iterations,
            "tol": tol,
        }
        self.iterations, self.tol = iterations, tol
        self.correction = stack(channels, channels, width, depth)
        for layer in self.correction.modules():
            if isinstance(layer, nn.Conv2d):
                parametrize.register_parametrization(layer, "weight", _AtMostNormOne())
        self.step = nn.Parameter(torch.zeros(()))  # τ = 2 sigmoid(step)
        self.shrinkage = nn.Parameter(torch.tensor(0.05).expm1().log())  # β = softplus(shrinkage)

    def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
        """``[B, *range]`` → ``[B, *domain]``."""
        adjoint = physics.A_adjoint(y)

        def iterate(x: Tensor) -> Tensor:
            return proximal_gradient_step(
                x,
                gradient=lambda v: physics.normal(v) - adjoint,
                prox=lambda v: (v + SCALE * self.correction(v)) / (1 + softplus(self.shrinkage)),
                step_size=2 * self.step.sigmoid(),
            )

        with torch.no_grad(), parametrize.cached():
            x, residual = anderson(iterate, physics.direct(y), tol=self.tol, max_iter=self.iterations)
        if not self.training and not bool((residual <= self.tol).all()):
            warnings.warn(
                f"deep equilibrium: the relative residual is {float(residual.max()):.1e} after {self.iterations} "
                f"iterations, tolerance {self.tol:.1e}; raise iterations",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self._differentiable(iterate, x) if torch.is_grad_enabled() else x

    def _differentiable(self, iterate: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """f(x*), whose gradient is that of the fixed point."""
        point = x.requires_grad_()
        value = iterate(point)
        result = value.clone()  # so that the hook is met once, and not by its own products with Jᵀ

        def implicit(gradient: Tensor) -> Tensor:
            def transposed(g: Tensor) -> Tensor:
                return torch.autograd.grad(value, point, g, retain_graph=True)[0] + gradient

            return anderson(transposed, gradient, tol=self.tol, max_iter=self.iterations)[0]

        if result.requires_grad:
            result.register_hook(implicit)
        return result


class _AtMostNormOne(nn.Module):
    """W ↦ W / max(1, ‖W‖), of the kernels as a matrix of outputs × inputs."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight / torch.linalg.matrix_norm(weight.flatten(1), ord=2).clamp_min(1.0)
