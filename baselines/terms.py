"""What a convex model penalises or demands: terms g(K x), each with its proximal map."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from ..physics.periodic import gradient_power
from .gradient import gradient, gradient_adjoint, joint_length, project_to_ball


class Term(ABC):
    """x ↦ g(K x), g convex, closed, and simple enough for a proximal map.

    The channels of a complex image are treated jointly. K is linear; results for an image never depend on the others of
    its batch. Coefficients ``c`` may have any shape ``[B, …]``.
    """

    @abstractmethod
    def analysis(self, x: Tensor) -> Tensor:
        """K x of images ``[B, C, H, W]``."""

    @abstractmethod
    def adjoint(self, c: Tensor) -> Tensor:
        """Kᵀ c."""

    @abstractmethod
    def value(self, c: Tensor) -> Tensor:
        """g(c) of each image, ``[B]``; an indicator function is zero, and :meth:`violation` says how far off c is."""

    @abstractmethod
    def prox(self, c: Tensor, step: Tensor) -> Tensor:
        """argmin_z step · g(z) + ½ ‖z − c‖², with one step for each image, shaped to broadcast."""

    @abstractmethod
    def spectrum(self, domain: tuple[int, ...]) -> Tensor:
        """The spectrum of KᵀK as a circular convolution, exact or nearly so: ``[H, W]`` in the order of ``fft2``."""

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
        groups = self._groups(c)
        radius = self.weight * step.reshape(-1, 1, 1, 1, 1).repeat_interleave(len(groups) // len(c), 0)
        return c - project_to_ball(groups, radius).reshape(c.shape)

    def spectrum(self, domain: tuple[int, ...]) -> Tensor:
        return gradient_power(domain[1:])

    def _groups(self, c: Tensor) -> Tensor:
        """What has one length: both directions, or each alone; the channels always."""
        return c if self.isotropic else c.flatten(0, 1)[:, None]
