"""The Radon transform: line integrals of an image along the rays of a scan."""

from __future__ import annotations

import logging
from typing import Literal

import torch
from torch import Tensor

from .fbp import WINDOWS, complete, filter_sinogram, interpolate, interpolation_matrix
from .geometry import FanBeam, Geometry
from .linear_map import apply_linear
from .matrix_free import AstraProjector
from .operator import LinearOperator
from .projection_matrix import astra_kernel, estimate_bytes, projection_matrix
from .view_matrix import ViewMatrix
from .view_symmetry import find_symmetry

logger = logging.getLogger(__name__)

Kernel = Literal["linear", "line", "strip"]
Backend = Literal["matrix", "astra", "cuda"]

MEMORY_BOUND = 2 * 2**30


class Radon(LinearOperator):
    """x ↦ ∫ x along each ray.  [B, 1, H, W] in 1/mm → [B, 1, views, detectors], no unit.

    The grid is centred on the rotation axis, row 0 on top. Rays are those of ASTRA's conventions (see
    :class:`ParallelBeam` and :class:`FanBeam`).

    Backends: ``"matrix"`` holds ASTRA's projection matrix (one block for all symmetric views) and its transpose, runs
    on every device, and has an exact adjoint; ``"astra"`` calls ASTRA on the CPU without a matrix, its views shared by
    threads; ``"cuda"`` calls ASTRA on the GPU, whose adjoint is approximate (see :attr:`adjoint_gap`). ``"auto"`` takes
    the matrix while it and its transpose fit ``memory_bound``, else the CPU; it is told by :attr:`backend` and logged.

    Args:
        geometry: :class:`ParallelBeam` or :class:`FanBeam`.
        image_shape: (H, W).
        pixel_size: mm.
        kernel: how a ray meets a pixel: ``"linear"`` interpolates between the two nearest pixels (Joseph),
            ``"line"`` takes the length of the intersection (Siddon), ``"strip"`` the area under the detector element.
            The default is ``"linear"`` for parallel and ``"line"`` for fan beams, where ASTRA has no ``"linear"``.
        backend: see above.
        filter: of :meth:`direct`, one of ram-lak, shepp-logan, cosine, hann, hamming.
        cutoff: of the filter, as a fraction of the Nyquist frequency.
        memory_bound: bytes that ``"auto"`` allows a matrix and its transpose.
    """

    def __init__(
        self,
        geometry: Geometry,
        image_shape: tuple[int, int],
        pixel_size: float = 1.0,
        kernel: Kernel | None = None,
        backend: Backend | Literal["auto"] = "auto",
        filter: str = "ram-lak",
        cutoff: float = 1.0,
        memory_bound: int = MEMORY_BOUND,
    ) -> None:
        if min(image_shape) < 1 or not pixel_size > 0:
            raise ValueError(f"Radon: image of {image_shape} pixels of {pixel_size} mm; expected positive sizes")
        if filter not in WINDOWS or not 0 < cutoff <= 1:
            raise ValueError(
                f"Radon: filter {filter!r} with cutoff {cutoff}; expected one of {', '.join(WINDOWS)}, (0, 1]"
            )
        super().__init__((1, *image_shape), (1, len(geometry.angles), geometry.detectors))
        self.geometry, self.image_shape, self.pixel_size = (
            geometry,
            (int(image_shape[0]), int(image_shape[1])),
            pixel_size,
        )
        self.kernel = kernel or ("line" if isinstance(geometry, FanBeam) else "linear")
        self.filter, self.cutoff = filter, cutoff
        astra_kernel(geometry, self.kernel)
        _check_source_outside(geometry, self.image_shape, pixel_size)
        self._symmetry = find_symmetry(geometry, self.image_shape)
        self.backend: Backend = self._choose(memory_bound) if backend == "auto" else backend
        self._projector = self._make_projector()
        self._back_projector: ViewMatrix | None = None

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return apply_linear(x, self._projector.project, self._projector.back_project)

    def A_adjoint(self, y: Tensor) -> Tensor:
        self.check_measurement(y)
        return apply_linear(y, self._projector.back_project, self._projector.project)

    def normal(self, x: Tensor) -> Tensor:
        self.check_image(x)
        if not isinstance(self._projector, ViewMatrix):
            return super().normal(x)
        return apply_linear(x, self._projector.normal, self._projector.normal)

    def direct(self, y: Tensor) -> Tensor:
        """Filtered back-projection, in the units of the image; see :mod:`isocenter.physics.fbp`."""
        self.check_measurement(y)
        q = filter_sinogram(y, self.geometry, self.filter, self.cutoff)
        geometry = complete(self.geometry).geometry
        if self.backend != "matrix":
            return interpolate(q, geometry, self.image_shape, self.pixel_size)
        if self._back_projector is None:
            symmetry = find_symmetry(geometry, self.image_shape)
            matrix = interpolation_matrix(geometry, self.image_shape, self.pixel_size, symmetry.representatives)
            self._back_projector = ViewMatrix(matrix, symmetry, self.image_shape, geometry.detectors).to(y.device)
        return apply_linear(q, self._back_projector.back_project, self._back_projector.project)

    @property
    def adjoint_gap(self) -> float:
        """|⟨Ax, y⟩ − ⟨x, Aᵀy⟩| / (‖Ax‖ ‖y‖) for one random positive pair in float32, measured now."""
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(1, *self.domain, generator=generator).to(self._device_holder.device)
        y = torch.rand(1, *self.range, generator=generator).to(x)
        image = self.A(x).double()
        left, right = (image * y.double()).sum(), (x.double() * self.A_adjoint(y).double()).sum()
        return float((left - right).abs() / (image.norm() * y.double().norm()))

    def extra_repr(self) -> str:
        size = " × ".join(map(str, self.image_shape))
        kind = "parallel" if not isinstance(self.geometry, FanBeam) else "fan"
        views = f"{len(self.geometry.angles)} {kind}-beam views × {self.geometry.detectors} detectors"
        return f"{size} pixels of {self.pixel_size} mm, {views}, kernel={self.kernel}, backend={self.backend}"

    def _choose(self, memory_bound: int) -> Backend:
        chosen = self._symmetry.representatives
        needed = estimate_bytes(self.geometry, self.image_shape, self.pixel_size, self.kernel, chosen)
        backend: Backend = "matrix" if needed <= memory_bound else "astra"
        logger.info(
            "Radon: backend %s; the matrix and its transpose take about %.3g GB, the bound is %.3g GB",
            *(backend, needed / 2**30, memory_bound / 2**30),
        )
        return backend

    def _make_projector(self) -> ViewMatrix | AstraProjector:
        if self.backend in ("astra", "cuda"):
            kernel = self.kernel if self.backend == "astra" else None
            return AstraProjector(self.geometry, self.image_shape, self.pixel_size, kernel)
        if self.backend != "matrix":
            raise ValueError(f"Radon: backend is {self.backend!r}, expected 'auto', 'matrix', 'astra' or 'cuda'")
        chosen = self._symmetry.representatives
        matrix = projection_matrix(self.geometry, self.image_shape, self.pixel_size, self.kernel, chosen)
        return ViewMatrix(matrix, self._symmetry, self.image_shape, self.geometry.detectors)


def _check_source_outside(geometry: Geometry, image_shape: tuple[int, int], pixel_size: float) -> None:
    if isinstance(geometry, FanBeam):
        corner = pixel_size * (image_shape[0] ** 2 + image_shape[1] ** 2) ** 0.5 / 2
        if corner >= geometry.source_axis:
            raise ValueError(
                f"Radon: the corner of the image is {corner:.4g} mm from the axis, the source turns at "
                f"{geometry.source_axis:.4g} mm, inside the image; expected a smaller image or a larger distance"
            )
