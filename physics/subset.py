"""A part of a scan: some entries of a measurement, the others withheld."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .fourier import FourierSampling
from .multicoil import MultiCoilSampling
from .operator import LinearOperator, Normalised
from .shapes import binary_mask


class Subset(LinearOperator):
    """x ↦ k · A x for a mask k.  Domain and range are those of A; entries that are not kept are zero.

    What is withheld judges what was reconstructed from the rest: held-out tuning, and training without truths. Its
    :attr:`norm` is that of the whole A, an upper bound: step sizes and regularisation then mean the same for every
    part as for the whole.

    Args:
        operator: A.
        keep: 0 and 1 or booleans that broadcast against the range, such as ``[views, detectors]``.

    Raises:
        ValueError: if ``keep`` holds anything but 0 and 1, or does not broadcast.
    """

    operator: LinearOperator
    keep: Tensor
    sampling: FourierSampling | None

    def __init__(self, operator: LinearOperator, keep: Tensor) -> None:
        super().__init__(operator.domain, operator.range)
        keep = binary_mask(keep, "Subset")
        try:
            fits = torch.broadcast_shapes(keep.shape, self.range) == self.range
        except RuntimeError:
            fits = False
        if not fits:
            raise ValueError(f"Subset: keep is {tuple(keep.shape)}, which does not broadcast against {self.range}")
        if isinstance(operator, Subset):  # a part of a part is a part
            operator, keep = operator.operator, keep.to(operator.keep.device) & operator.keep
        self.operator = operator
        self.register_buffer("_device_holder", operator._device_holder, persistent=False)
        self.register_buffer("keep", keep.to(operator._device_holder.device), persistent=False)
        self._norm = operator.norm
        # Masked Fourier sampling stays what it is, with its closed forms.
        self.sampling = _part(operator, self.keep.expand(self.range)) if isinstance(operator, FourierSampling) else None

    @property
    def support(self) -> Tensor:
        support = self.operator.support
        return self.keep if support is None else self.keep & support.bool()

    @property
    def fourier_normal(self) -> Tensor | None:
        return None if self.sampling is None else self.sampling.fourier_normal

    @property
    def has_closed_prox(self) -> bool:
        return self.sampling is not None

    def A(self, x: Tensor) -> Tensor:
        return self.keep * self.operator.A(x)

    def A_adjoint(self, y: Tensor) -> Tensor:
        self.check_measurement(y)
        return self.operator.A_adjoint(self.keep * y)

    def normal(self, x: Tensor) -> Tensor:
        return super().normal(x) if self.sampling is None else self.sampling.normal(x)

    def direct(self, y: Tensor) -> Tensor:
        """c · direct(k y) of the whole operator, with the c of each image that fits the kept entries best.

        Filtered back-projection of a part of the entries is that part of the image: c undoes it. For k-space c is 1, as
        it is for the whole.
        """
        self.check_measurement(y)
        y = self.keep * y
        x = self.operator.direct(y)
        if isinstance(unwrapped(self.operator)[0], FourierSampling | MultiCoilSampling):
            return x
        seen = self.A(x).flatten(1)
        energy = seen.square().sum(1).clamp_min(torch.finfo(y.dtype).tiny)
        return x * ((seen * y.flatten(1)).sum(1) / energy).view(-1, 1, 1, 1)

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float | Tensor, **options: Any) -> Tensor:
        if self.sampling is None:
            return super().prox_l2(z, self.keep * y, gamma, **options)
        return self.sampling.prox_l2(z, y, gamma)


def unwrapped(physics: LinearOperator) -> tuple[LinearOperator, float]:
    """The operator inside :class:`Normalised` and :class:`Subset`, and what its measurements were divided by."""
    scale = 1.0
    while isinstance(physics, Normalised | Subset):
        scale *= physics.scale if isinstance(physics, Normalised) else 1.0
        physics = physics.operator
    return physics, scale


def _part(operator: FourierSampling, keep: Tensor) -> FourierSampling | None:
    """The smaller mask, where real and imaginary parts are kept together."""
    if not torch.equal(keep[0], keep[1]):
        return None
    return FourierSampling(operator.mask & keep[0], complex_image=operator.complex_image).to(keep.device)
