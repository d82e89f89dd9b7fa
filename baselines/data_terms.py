"""How an image may fit its data other than by least squares: terms g(A x)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..physics import LinearOperator, Normalised
from .steps import like
from .terms import Term, relative


class DataTerm(Term):
    """A term of A x / ‖A‖.

    Args:
        physics: A.
        y: measurements ``[B, *range]``.
    """

    def __init__(self, physics: LinearOperator, y: Tensor) -> None:
        self.A = Normalised(physics)
        self.y = y / self.A.scale

    def analysis(self, x: Tensor) -> Tensor:
        return self.A.A(x)

    def adjoint(self, c: Tensor) -> Tensor:
        return self.A.A_adjoint(c)

    def spectrum(self, domain: tuple[int, ...]) -> Tensor:
        return self.A.normal_spectrum

    def norm(self, domain: tuple[int, ...]) -> float:
        return 1.0

    def first_penalty(self, c: Tensor) -> Tensor | None:
        return None


class LeastSquares(DataTerm):
    """½ ‖A x − y‖², for solvers that treat it like the other terms."""

    def value(self, c: Tensor) -> Tensor:
        return (c - self.y).flatten(1).square().sum(1) / 2

    def prox(self, c: Tensor, step: Tensor) -> Tensor:
        return (c + step * self.y) / (1 + step)


class MeasurementBall(DataTerm):
    """The constraint ‖A x − y‖² ≤ (ε² + m²) ‖y‖²; ε = m = 0 demands A x = y.

    With m the least misfit min ‖A x − y‖ / ‖y‖ there is an image for every ε: by Pythagoras it is ‖A x − ŷ‖ ≤ ε ‖y‖,
    around the nearest ŷ to y that images have.

    Args:
        physics: A.
        y: measurements ``[B, *range]``.
        epsilon: ε ≥ 0, relative to the measurement.
        least: m of each image, ``[B]``; 0 when absent.
    """

    adaptive = True

    def __init__(self, physics: LinearOperator, y: Tensor, epsilon: float, least: Tensor | None = None) -> None:
        super().__init__(physics, y)
        share = epsilon if least is None else (epsilon**2 + least.square()).sqrt()
        self.radius = share * self.y.flatten(1).norm(dim=1)

    def value(self, c: Tensor) -> Tensor:
        return c.new_zeros(len(c))

    def later_penalty(self, first: Tensor, rho: Tensor, p: Tensor) -> Tensor:
        """Three times the curvature ‖p‖ / radius that the multiplier gives the ball; at most tenfold at once.

        Measured for sparse-view CT: about the fastest for every radius. The first penalty, which suits ε = 0, is far
        too stiff for a ball that holds more than the noise.
        """
        curvature = 3 * p.flatten(1).norm(dim=1) / self.radius.clamp_min(torch.finfo(p.dtype).tiny)
        return torch.minimum(curvature.clamp(rho / 10, rho * 10), first)

    def prox(self, c: Tensor, step: Tensor) -> Tensor:
        off = c - self.y
        length = off.flatten(1).norm(dim=1).clamp_min(torch.finfo(c.dtype).tiny)
        return self.y + like((self.radius / length).clamp(max=1), off) * off

    def violation(self, c: Tensor) -> Tensor:
        return relative(c - self.prox(c, c.new_ones(1)), self.y)


class TransmissionLikelihood(DataTerm):
    """The Poisson likelihood of photon counts behind an object, for line integrals y = −log(n / N).

    Up to a constant, −log p(n | x) / N = Σ ω (e^−d + d − 1) with d = A x − y and ω = n / N = e^−y: for small d least
    squares weighted by the counts (Sauer & Bouman 1993). Divided by ‖A‖², so that weights of sparsity mean the same as
    beside least squares.

    Args:
        physics: A.
        y: line integrals ``[B, *range]``.
    """

    def __init__(self, physics: LinearOperator, y: Tensor) -> None:
        super().__init__(physics, y)
        self.counts = torch.exp(-y)

    def first_penalty(self, c: Tensor) -> Tensor:
        """The geometric mean of the curvatures ω."""
        return torch.exp(-self.A.scale * self.y.flatten(1).mean(1))

    def value(self, c: Tensor) -> Tensor:
        d = self.A.scale * (c - self.y)
        return (self.counts * (torch.expm1(-d) + d)).flatten(1).sum(1) / self.A.scale**2

    def prox(self, c: Tensor, step: Tensor) -> Tensor:
        """By Newton's method for s ω (1 − e^−d) + d = v: increasing and concave in d, so it comes from the left."""
        v = self.A.scale * (c - self.y)
        weight = (step * self.counts).clamp_min(torch.finfo(c.dtype).tiny)  # no photon is left behind y > 104
        # From below: where v > 0, d > v − sω, and sω e^−d = sω − v + d is no more than with a bound on d from above.
        most = (weight - v).clamp_min(0) + torch.log1p(weight)  # of sω e^−d
        positive = torch.maximum(v - weight, (weight / most).log()).clamp_min(0)
        d = torch.where(v > 0, positive, torch.maximum(v, -torch.log1p(-v.clamp(max=0) / weight)))
        for _ in range(NEWTON):
            slope = weight * torch.exp(-d)
            d = d - (weight - slope + d - v) / (slope + 1)
        return self.y + d / self.A.scale


NEWTON = 8
