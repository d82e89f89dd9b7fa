"""What a convex model penalises or demands: terms g(K x), each with its proximal map."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ..physics.periodic import gradient_power
from .gradient import gradient, gradient_adjoint, joint_length, shrink


class Term(ABC):
    """x ↦ g(K x), g convex, closed, and simple enough for a proximal map.

    The channels of a complex image are treated jointly. K is linear; results for an image never depend on the others of
    its batch. Coefficients ``c`` may have any shape ``[B, …]``.

    Attributes:
        orthonormal: whether K Kᵀ = KᵀK = I.
        groups: of channels of the unknown that K acts on; 1 is the image alone.
        share: of the trace of all other terms, that ρ KᵀK gets where :meth:`first_penalty` is None. A half is what
            exact recovery from few views needs.
        adaptive: whether :meth:`later_penalty` knows better than :meth:`first_penalty`.
    """

    orthonormal: bool = False
    groups: int = 1
    share: float = 0.5
    adaptive: bool = False

    @abstractmethod
    def analysis(self, x: Tensor) -> Tensor:
        """K x of images ``[B, C, H, W]``."""

    @abstractmethod
    def adjoint(self, c: Tensor) -> Tensor:
        """Kᵀ c."""

    def gram(self, x: Tensor, c: Tensor) -> Tensor:
        """KᵀK x where c = K x is known; x itself where K is a tight frame."""
        return self.adjoint(c)

    @abstractmethod
    def value(self, c: Tensor) -> Tensor:
        """g(c) of each image, ``[B]``; an indicator function is zero, and :meth:`violation` says how far off c is."""

    @abstractmethod
    def prox(self, c: Tensor, step: Tensor) -> Tensor:
        """argmin_z step · g(z) + ½ ‖z − c‖², with one step for each image, shaped to broadcast."""

    @abstractmethod
    def spectrum(self, domain: tuple[int, ...]) -> Tensor:
        """The spectrum of KᵀK as a circular convolution, exact or nearly so: ``[H, W]`` in the order of ``fft2``."""

    def norm(self, domain: tuple[int, ...]) -> float:
        """A bound on ‖K‖."""
        spectrum = self.spectrum(domain)
        if spectrum.ndim > 2:
            return float(torch.linalg.eigvalsh(spectrum.permute(2, 3, 0, 1)).max()) ** 0.5
        return float(spectrum.max()) ** 0.5

    @abstractmethod
    def first_penalty(self, c: Tensor) -> Tensor | None:
        """ρ that makes ρ/2 ‖c‖² weigh about as much as g(c), for the c of a first image: ``[B]``.

        None leaves it to the other terms: constraints have no scale of their own.
        """

    def later_penalty(self, first: Tensor, rho: Tensor, p: Tensor) -> Tensor:
        """ρ once there is a multiplier p for it; ``first`` is what :meth:`first_penalty` would give now, ``[B]``."""
        return first

    def violation(self, c: Tensor) -> Tensor:
        """Relative distance of c from where g is finite, ``[B]``."""
        return c.new_zeros(len(c))


class TotalVariationTerm(Term):
    """λ Σ |∇x|: isotropic (the length of the gradient) or anisotropic (the sum of its parts' absolute values).

    Args:
        weight: λ ≥ 0, in the units of the image.
        isotropic: whether differences along rows and columns are joined in one length.
    """

    def __init__(self, weight: float, isotropic: bool = True) -> None:
        self.weight, self.isotropic = weight, isotropic

    def analysis(self, x: Tensor) -> Tensor:
        return gradient(x)

    def adjoint(self, c: Tensor) -> Tensor:
        return gradient_adjoint(c)

    def value(self, c: Tensor) -> Tensor:
        return self.weight * joint_length(self._groups(c)).reshape(len(c), -1).sum(1)

    def prox(self, c: Tensor, step: Tensor) -> Tensor:
        groups, radius = self._groups(c), self.weight * step.reshape(-1, 1, 1, 1, 1)
        if not self.isotropic:
            radius = radius.expand(-1, 2, 1, 1, 1).reshape(-1, 1, 1, 1, 1)
        return shrink(groups, radius).reshape(c.shape)

    def spectrum(self, domain: tuple[int, ...]) -> Tensor:
        return gradient_power(domain[1:])

    def first_penalty(self, c: Tensor) -> Tensor:
        return balance(self.weight, c)

    def _groups(self, c: Tensor) -> Tensor:
        """What has one length: both directions, or each alone; the channels always."""
        return c if self.isotropic else c.flatten(0, 1)[:, None]


class Bounds(Term):
    """The constraint low ≤ x ≤ high, such as non-negativity.

    Args:
        low, high: in the units of the image; None leaves a side open.
    """

    def __init__(self, low: float | None = 0.0, high: float | None = None) -> None:
        if low is None and high is None:
            raise ValueError("Bounds: neither low nor high is given")
        if low is not None and high is not None and not low < high:
            raise ValueError(f"Bounds: low is {low} and high {high}, expected low < high")
        self.low, self.high = low, high

    def analysis(self, x: Tensor) -> Tensor:
        return x

    def adjoint(self, c: Tensor) -> Tensor:
        return c

    def gram(self, x: Tensor, c: Tensor) -> Tensor:
        return x

    def value(self, c: Tensor) -> Tensor:
        return c.new_zeros(len(c))

    def prox(self, c: Tensor, step: Tensor) -> Tensor:
        return c.clamp(self.low, self.high)

    def spectrum(self, domain: tuple[int, ...]) -> Tensor:
        return torch.ones(domain[1:], dtype=torch.float64)

    def first_penalty(self, c: Tensor) -> None:
        return None

    def violation(self, c: Tensor) -> Tensor:
        return relative(c - c.clamp(self.low, self.high), c)


def balance(weight: float, c: Tensor) -> Tensor:
    """ρ = λ / mean |c| of each image, ``[B]``; 1 where c is zero.

    Measured with total variation on twelve problems (CT, MRI, blur, decimation, denoising; light and heavy weights):
    for the c of the optimum, this is within half again of the fastest constant ρ.
    """
    size = c.abs().mean(tuple(range(1, c.ndim)))
    largest = c.abs().amax(tuple(range(1, c.ndim)))
    size = size.clamp_min(1e-6 * largest)
    return torch.where(size > 0, weight / size, torch.ones_like(size))


def relative(part: Tensor, whole: Tensor) -> Tensor:
    """‖part‖ / ‖whole‖ of each image, ``[B]``; 0 / 0 is 0."""
    return part.flatten(1).norm(dim=1) / whole.flatten(1).norm(dim=1).clamp_min(torch.finfo(part.dtype).tiny)
