"""The contract of every operator: two methods, two shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from deepinv.physics import LinearPhysics
from scipy.sparse.linalg import LinearOperator as ScipyOperator
from scipy.sparse.linalg import eigsh
from torch import Tensor

from .circulant import nearest_circulant, preconditions
from .conjugate_gradient import conjugate_gradient
from .periodic import filter_image
from .shapes import per_image

DENSE = 400  # pixels up to which the norm comes from a dense matrix


class LinearOperator(LinearPhysics):
    """A linear map x ↦ A x from images to measurements, usable wherever deepinv takes a ``LinearPhysics``.

    A subclass gives the two shapes and writes :meth:`A` and :meth:`A_adjoint`; everything else follows,
    and is overridden where a closed form exists. Tensors carry a batch dimension first: ``x`` is
    ``[B, *domain]``, ``y`` is ``[B, *range]``. Results have the dtype and device of their input.

    Args:
        domain: shape of an image without the batch, ``(C, H, W)``; complex images have C = 2.
        range: shape of a measurement without the batch.
    """

    _nearest_circulant: Tensor | None

    def __init__(self, domain: Sequence[int], range: Sequence[int]) -> None:
        # deepinv's default noise and sensor models are shared by all instances and do not pickle.
        super().__init__(A=None, img_size=tuple(domain), noise_model=_Unchanged(), sensor_model=_Unchanged())
        self.domain = tuple(int(n) for n in domain)
        self.range = tuple(int(n) for n in range)
        self._norm: float | None = None
        self._preconditions: bool | None = None
        self.register_buffer("_nearest_circulant", None, persistent=False)

    def A(self, x: Tensor) -> Tensor:
        """A x."""
        raise NotImplementedError(f"{type(self).__name__} must define A(x)")

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y, exactly the adjoint of :meth:`A`."""
        raise NotImplementedError(f"{type(self).__name__} must define A_adjoint(y)")

    def normal(self, x: Tensor) -> Tensor:
        """AᵀA x, at once where that costs less than A and then Aᵀ."""
        return self.A_adjoint(self.A(x))

    def A_adjoint_A(self, x: Tensor, **_: Any) -> Tensor:
        """deepinv's name for :meth:`normal`."""
        return self.normal(x)

    @property
    def norm(self) -> float:
        """The spectral norm ‖A‖, the root of the largest eigenvalue of AᵀA (Lanczos), computed once."""
        if self._norm is None:
            self._norm = spectral_norm(self)
        return self._norm

    @property
    def support(self) -> Tensor | None:
        """Which entries of a measurement are measured at all, such as a k-space mask; None where all are.

        Booleans that broadcast against ``range``. Measurements are zero elsewhere, and noise falls on these only.
        """
        return None

    @property
    def fourier_normal(self) -> Tensor | None:
        """The spectrum of AᵀA where it is a circular convolution, None elsewhere.

        ``[H, W]``, real and non-negative, in the order of ``torch.fft.fft2``: AᵀA x = F⁻¹(spectrum · F x), with F of
        each channel of a real image, or of the complex image that two channels stand for. It makes (AᵀA + ρ DᵀD)⁻¹
        one division for every D that is a circular convolution too.
        """
        return None

    @property
    def has_closed_prox(self) -> bool:
        """Whether :meth:`prox_l2` is a closed form: where a subclass has one of its own, unless it says otherwise."""
        return type(self).prox_l2 is not LinearOperator.prox_l2

    @property
    def normal_spectrum(self) -> Tensor:
        """The spectrum of the circular convolution nearest to AᵀA, computed once; ``[H, W]``, as in ``fft2``.

        It is :attr:`fourier_normal` where there is one, and estimated elsewhere, see :func:`nearest_circulant`. It
        preconditions what holds AᵀA, and its mean is the mean eigenvalue of AᵀA.
        """
        if self.fourier_normal is not None:
            return self.fourier_normal
        if self._nearest_circulant is None:
            self._nearest_circulant = nearest_circulant(self)
        return self._nearest_circulant

    def direct(self, y: Tensor) -> Tensor:
        """The modality's direct reconstruction; Aᵀ y / ‖A‖² where nothing better is known."""
        return self.A_adjoint(y) / max(self.norm**2, torch.finfo(y.dtype).tiny)

    def prox_l2(
        self,
        z: Tensor,
        y: Tensor,
        gamma: float | Tensor,
        *,
        start: Tensor | None = None,
        tol: float | None = None,
        max_iter: int | None = None,
        **_: Any,
    ) -> Tensor:
        """argmin_x γ/2 ‖A x − y‖² + 1/2 ‖x − z‖², by conjugate gradients unless a subclass has a closed form.

        They are preconditioned by (γ s + 1)⁻¹, with s the :attr:`normal_spectrum`, for an A that gains by it, see
        :func:`preconditions`: 1.2 to 4 times fewer iterations for tomography, about half for blurs with edges.

        Args:
            z: ``[B, *domain]``.
            y: ``[B, *range]``.
            gamma: γ > 0, a number or one for each image, ``[B, 1, 1, 1]``.
            start: first iterate; ``z`` when absent.
            tol: relative residual at which an image stops, see :func:`conjugate_gradient`; 1e-6 when absent.
            max_iter: bound on the iterations; 100 when absent, and 0 returns the start unless there is a closed form.
            _: deepinv's solver options, which have no meaning here.
        """
        weight, start = per_image(gamma), z if start is None else start
        if max_iter == 0:
            return start
        spectrum = self.normal_spectrum
        if self._preconditions is None:
            self._preconditions = self.fourier_normal is not None or preconditions(self, spectrum)
        inverse = (1 / (weight * spectrum.to(z) + 1)).reshape(-1, *self.domain[-2:])
        return conjugate_gradient(
            lambda x: weight * self.normal(x) + x,
            weight * self.A_adjoint(y) + z,
            start=start,
            tol=1e-6 if tol is None else tol,
            max_iter=100 if max_iter is None else max_iter,
            precondition=(lambda r: filter_image(r, inverse)) if self._preconditions else (lambda r: r),
        )

    def check_image(self, x: Tensor) -> None:
        """Raise a ValueError unless ``x`` is ``[B, *domain]``."""
        self._check(x, self.domain, "image")

    def check_measurement(self, y: Tensor) -> None:
        """Raise a ValueError unless ``y`` is ``[B, *range]``."""
        self._check(y, self.range, "measurement")

    def _check(self, tensor: Tensor, shape: tuple[int, ...], what: str) -> None:
        if tuple(tensor.shape[1:]) != shape:
            expected = " × ".join(map(str, shape))
            raise ValueError(
                f"{type(self).__name__}: the {what} is {' × '.join(map(str, tensor.shape))}, "
                f"expected batch × {expected}; was it made for another operator, or is the batch dimension missing?"
            )


class _Unchanged(torch.nn.Module):
    def forward(self, y: Tensor, **_: Any) -> Tensor:
        return y


class Normalised(LinearOperator):
    """A / ‖A‖, so that step sizes and regularisation mean the same thing for every operator."""

    def __init__(self, operator: LinearOperator) -> None:
        if operator.norm == 0:
            raise ValueError(
                f"{type(operator).__name__} is zero and cannot be normalised; does its mask sample anything?"
            )
        super().__init__(operator.domain, operator.range)
        self.operator = operator
        self.register_buffer("_device_holder", operator._device_holder, persistent=False)
        self.scale = operator.norm
        self._norm = 1.0

    @property
    def support(self) -> Tensor | None:
        return self.operator.support

    @property
    def fourier_normal(self) -> Tensor | None:
        spectrum = self.operator.fourier_normal
        return None if spectrum is None else spectrum / self.scale**2

    @property
    def has_closed_prox(self) -> bool:
        return self.operator.has_closed_prox

    @property
    def normal_spectrum(self) -> Tensor:
        return self.operator.normal_spectrum / self.scale**2

    def A(self, x: Tensor) -> Tensor:
        return self.operator.A(x) / self.scale

    def A_adjoint(self, y: Tensor) -> Tensor:
        return self.operator.A_adjoint(y) / self.scale

    def normal(self, x: Tensor) -> Tensor:
        return self.operator.normal(x) / self.scale**2

    def direct(self, y: Tensor) -> Tensor:
        return self.operator.direct(y * self.scale)

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float | Tensor, **options: Any) -> Tensor:
        return self.operator.prox_l2(z, y * self.scale, gamma / self.scale**2, **options)


def spectral_norm(operator: LinearOperator, tol: float = 1e-5) -> float:
    """‖A‖, computed from AᵀA in float32; ``tol`` is of ‖A‖², relative."""
    device, threads = operator._device_holder.device, torch.get_num_threads()
    size = math.prod(operator.domain)

    def normal(v: np.ndarray) -> np.ndarray:
        x = torch.as_tensor(v.reshape(1, *operator.domain), dtype=torch.float32, device=device)
        with torch.no_grad():
            return operator.normal(x).double().cpu().numpy().ravel()

    start = np.random.default_rng(0).standard_normal(size)
    image = normal(start)
    if not image.any():
        return 0.0
    if size <= DENSE:  # faster than Lanczos, whose convergence also suffers from the clusters of small spectra
        dense = np.stack([normal(unit) for unit in np.eye(size)])
        return float(np.sqrt(np.linalg.eigvalsh(dense)[-1]))
    # SciPy's threads and PyTorch's take turns here, and each pool spins while the other works: ten times slower.
    torch.set_num_threads(1)
    try:
        largest = eigsh(ScipyOperator((size, size), normal, dtype=np.float64), k=1, v0=start, tol=tol)[0][0]
    finally:
        torch.set_num_threads(threads)
    return float(np.sqrt(largest))
