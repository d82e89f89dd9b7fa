"""Scans by rays in YAML: geometries and the Radon transform."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from .spec import SAME_OPERATOR, Count, PhysicsSpec, Positive, Spec, mistake

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.datasets import Dataset
    from ..physics import LinearOperator
    from ..physics.geometry import Geometry

Shape = tuple[int, ...]
Kernel = Literal["linear", "line", "strip"]


class _Beam(Spec):
    """What parallel and fan beams share.

    Views are ``views`` in equal cells of [start, stop), or explicit ``angles``; radians. Detector elements are
    ``spacing`` mm wide, one pixel (at the axis) by default, and by default so many that every ray through the image is
    measured.
    """

    kind: str
    views: Count | None = None
    angles: tuple[float, ...] | None = Field(None, min_length=1)
    start: float = 0.0
    stop: float
    half_cell: bool = False
    detectors: Count | None = None
    spacing: Positive | None = None
    offset: float = 0.0

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> _Beam:
        if (self.views is None) == (self.angles is None):
            raise mistake("give either views, a number, or angles, a list in radians")
        if self.views is not None and not self.stop > self.start:
            raise mistake(f"views run from start {self.start:g} to stop {self.stop:g}; expected stop > start", "stop")
        return self

    def _angles(self) -> tuple[float, ...]:
        from ..physics.geometry import views

        if self.angles is not None:
            return self.angles
        return views(self.views or 1, self.start, self.stop, self.half_cell)

    def _elements(self, reach: float, spacing: float) -> int:
        """An odd number that covers ``reach`` mm on both sides of the axis."""
        return 2 * math.ceil((reach + abs(self.offset)) / spacing - 0.5) + 1


class ParallelSpec(_Beam):
    """Parallel rays over half a turn."""

    kind: Literal["parallel"]
    stop: float = math.pi

    def build(self, shape: Shape, pixel_size: float) -> Geometry:
        from ..physics.geometry import ParallelBeam

        spacing = self.spacing or pixel_size
        detectors = self.detectors or self._elements(math.hypot(*shape) * pixel_size / 2, spacing)
        return ParallelBeam(self._angles(), detectors, spacing, self.offset)


class FanSpec(_Beam):
    """A fan over a full turn; distances in mm."""

    kind: Literal["fan"]
    source_axis: Positive
    source_detector: Positive
    stop: float = 2 * math.pi

    def build(self, shape: Shape, pixel_size: float) -> Geometry:
        from ..physics.geometry import FanBeam

        spacing = self.spacing or pixel_size * self.source_detector / self.source_axis
        radius = math.hypot(*shape) * pixel_size / 2
        if radius >= self.source_axis:
            raise ValueError(
                f"the corner of the image is {radius:.4g} mm from the axis, the source only {self.source_axis:g} mm; "
                "expected a larger source_axis or a smaller image"
            )
        reach = self.source_detector * math.tan(math.asin(radius / self.source_axis))
        detectors = self.detectors or self._elements(reach, spacing)
        return FanBeam(self._angles(), detectors, spacing, self.source_axis, self.source_detector, self.offset)


class RadonSpec(PhysicsSpec):
    """Line integrals along the rays of a parallel or fan beam.

    Measurements come from the oversampled images by ``simulation_kernel``, reconstruction uses ``kernel`` on the coarse
    grid; without oversampling both are the same operator, unless a simulation kernel is given.
    """

    kind: Literal["radon"]
    measures = "line integrals"
    geometry: Annotated[ParallelSpec | FanSpec, Field(discriminator="kind")]
    kernel: Kernel | None = None
    simulation_kernel: Kernel | None = None
    backend: Literal["auto", "matrix", "astra", "cuda"] = "auto"
    filter: Literal["ram-lak", "shepp-logan", "cosine", "hann", "hamming"] = "ram-lak"
    cutoff: Annotated[float, Field(gt=0, le=1)] = 1.0

    def build(self, shape: Shape, pixel_size: float) -> LinearOperator:
        from ..physics.radon import Radon

        if len(shape) != 2:
            raise ValueError("line integrals are of real images; take the key 'complex' out of the data")
        geometry = self.geometry.build(shape, pixel_size)
        return Radon(geometry, shape, pixel_size, self.kernel, self.backend, self.filter, self.cutoff)

    def simulator(self, shape: Shape, pixel_size: float, oversampling: int) -> Callable[[Tensor], Tensor] | None:
        from ..physics.radon import Radon

        if oversampling == 1 and self.simulation_kernel is None:
            return None
        # The scanner is that of the reconstruction: its detector does not get finer with the image.
        geometry = self.geometry.build(shape, pixel_size)
        fine = (shape[0] * oversampling, shape[1] * oversampling)
        return Radon(geometry, fine, pixel_size / oversampling, self._simulation_kernel(), self.backend).A

    def _simulation_kernel(self) -> Kernel:
        if self.simulation_kernel is not None:
            return self.simulation_kernel
        if self.geometry.kind == "parallel":
            return "line" if self.kernel in (None, "linear") else "linear"
        # ASTRA has no strip kernel for fans with an offset: the finer grid is the only difference there.
        return "strip" if self.kernel in (None, "line") and not self.geometry.offset else "line"

    def labels(self, dataset: Dataset) -> tuple[str, ...]:
        if dataset.oversampling > 1:
            return ()
        kernel = self.kernel or ("linear" if self.geometry.kind == "parallel" else "line")  # Radon's own default
        if self.simulation_kernel in (None, kernel):
            return (SAME_OPERATOR,)
        return ("inverse crime: measurements are simulated on the grid that reconstructs",)
