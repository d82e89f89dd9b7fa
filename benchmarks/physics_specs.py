"""Operators in YAML, but for scans by rays."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from .radon_specs import RadonSpec
from .spec import Count, PhysicsSpec, Positive, Spec, SuitePath, mistake, suite_path

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.datasets import Dataset
    from ..physics import LinearOperator

Shape = tuple[int, ...]
Plane = tuple[int, int]
Seed = Annotated[int, Field(ge=0)]


class CartesianMask(Spec):
    """Whole lines of k-space: ``uniform``, ``random``, or denser in the middle (``variable-density``)."""

    kind: Literal["uniform", "random", "variable-density"]
    acceleration: Annotated[float, Field(ge=1)]
    calibration_lines: Annotated[int, Field(ge=0)]
    seed: Seed = 0

    def build(self, shape: Plane) -> Tensor:
        from ..physics import masks

        if self.kind == "uniform":
            return masks.cartesian_uniform(shape, self.acceleration, self.calibration_lines)
        make = masks.cartesian_random if self.kind == "random" else masks.cartesian_variable_density
        return make(shape, self.acceleration, self.calibration_lines, seed=self.seed)


class PoissonDiscMask(Spec):
    """Random points that keep a distance from one another; ``calibration`` is the side of the full square."""

    kind: Literal["poisson-disc"]
    acceleration: Annotated[float, Field(ge=1)]
    calibration: Annotated[int, Field(ge=0)]
    seed: Seed = 0

    def build(self, shape: Plane) -> Tensor:
        from ..physics.poisson_disc import poisson_disc

        return poisson_disc(shape, self.acceleration, self.calibration, seed=self.seed)


class PseudoRadialMask(Spec):
    """Straight lines through the centre, on the grid."""

    kind: Literal["pseudo-radial"]
    lines: Count | None = None
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> PseudoRadialMask:
        if (self.lines is None) == (self.fraction is None):
            raise mistake("give either lines, a number, or fraction, a share of k-space")
        return self

    def build(self, shape: Plane) -> Tensor:
        from ..physics.masks import pseudo_radial

        return pseudo_radial(shape, lines=self.lines, fraction=self.fraction)


class FileMask(Spec):
    """A mask from an NPY, MAT or PNG file; ``key`` names the variable of a MAT file.

    With ``set`` the path is one of a public set that ``isocenter fetch`` brings or a mirror has.
    """

    kind: Literal["file"]
    set: str | None = None
    path: Path
    key: str | None = None

    @field_validator("path", mode="before")
    @classmethod
    def _beside_the_suite(cls, path: Any, info: ValidationInfo) -> Any:
        return path if info.data.get("set") else suite_path(path, info)

    @property
    def file(self) -> Path:
        from ..data.fetch import locate

        return locate(self.set, self.path) if self.set else self.path

    def verify(self) -> None:
        from ..data.fetch import verify

        if self.set is not None:
            verify(self.set, self.path)

    def build(self, shape: Plane) -> Tensor:
        from ..physics.masks import load_mask

        mask = load_mask(self.file, self.key)
        if tuple(mask.shape) != tuple(shape):
            raise ValueError(f"{self.path.name} is a mask of {tuple(mask.shape)}, the images are {tuple(shape)}")
        return mask


Mask = Annotated[CartesianMask | PoissonDiscMask | PseudoRadialMask | FileMask, Field(discriminator="kind")]


class FourierSpec(PhysicsSpec):
    """Sampled k-space of one coil, of real or of complex images."""

    kind: Literal["fourier"]
    measures = "k-space"
    mask: Mask

    def build(self, shape: Shape, pixel_size: float) -> LinearOperator:
        from ..physics.fourier import FourierSampling

        return FourierSampling(self.mask.build(_plane(shape)), complex_image=len(shape) == 3)

    def labels(self, dataset: Dataset) -> tuple[str, ...]:
        return (_data_crime(dataset),)

    def inputs(self) -> str:
        return _hash(self.mask)


class SimulatedCoils(Spec):
    """A ring of loops around the image."""

    kind: Literal["simulated"]
    coils: Count = 8
    seed: Seed = 0

    def build(self, shape: Plane) -> Tensor:
        from ..physics.coil_maps import simulated_coil_maps

        return simulated_coil_maps(shape, self.coils, self.seed)


class EstimatedCoils(Spec):
    """ESPIRiT maps from the central lines of raw multi-coil k-space on the grid of the images."""

    kind: Literal["estimated"]
    path: SuitePath
    key: str | None = None
    calibration_lines: Annotated[int, Field(ge=8)] = 24

    def build(self, shape: Plane) -> Tensor:
        from ..data.raw_kspace import read_coils
        from ..physics.coil_maps import estimate_coil_maps

        return _fitting(estimate_coil_maps(read_coils(self.path, self.key), self.calibration_lines), shape, self.path)


class FileCoils(Spec):
    """Complex maps (coils, H, W) from a file."""

    kind: Literal["file"]
    path: SuitePath
    key: str | None = None

    def build(self, shape: Plane) -> Tensor:
        from ..data.raw_kspace import read_coils

        return _fitting(read_coils(self.path, self.key), shape, self.path)


class MultiCoilSpec(PhysicsSpec):
    """Sampled k-space of several coils, of complex images."""

    kind: Literal["multicoil"]
    measures = "k-space"
    mask: Mask
    coil_maps: Annotated[SimulatedCoils | EstimatedCoils | FileCoils, Field(discriminator="kind")]

    def build(self, shape: Shape, pixel_size: float) -> LinearOperator:
        from ..physics.multicoil import MultiCoilSampling

        if len(shape) != 3:
            raise ValueError(
                "coils see complex images and these are real; give the data a phase, complex: {kind: simulated-phase}"
            )
        return MultiCoilSampling(self.mask.build(_plane(shape)), self.coil_maps.build(_plane(shape)))

    def labels(self, dataset: Dataset) -> tuple[str, ...]:
        maps = f"{self.coil_maps.coils} simulated coils" if self.coil_maps.kind == "simulated" else "given coil maps"
        return (f"data crime: k-space is simulated from images and {maps}, which the methods are told exactly",)

    def inputs(self) -> str:
        return _hash(self.mask) + _hash(self.coil_maps)


class IdentitySpec(PhysicsSpec):
    """The image itself: denoising."""

    kind: Literal["identity"]
    measures = "images"

    def build(self, shape: Shape, pixel_size: float) -> LinearOperator:
        from ..physics.pointwise import Identity

        return Identity(shape)

    def labels(self, dataset: Dataset) -> tuple[str, ...]:
        return ()  # there is nothing to invert


class InpaintSpec(PhysicsSpec):
    """Some of the pixels, drawn at random."""

    kind: Literal["inpaint"]
    measures = "images"
    seen: Annotated[float, Field(gt=0, le=1)]
    seed: Seed = 0

    def build(self, shape: Shape, pixel_size: float) -> LinearOperator:
        import torch

        from ..physics.noise import seeded_generator
        from ..physics.pointwise import Inpaint

        height, width = _plane(shape)
        order = torch.randperm(height * width, generator=seeded_generator("inpaint", self.seed))
        return Inpaint((order < round(self.seen * len(order))).reshape(height, width).expand(shape))


class GaussianPSF(Spec):
    """``sigma`` in pixels."""

    kind: Literal["gaussian"]
    sigma: Positive

    def build(self) -> Tensor:
        from ..physics.psf import gaussian_psf

        return gaussian_psf(self.sigma)


class MotionPSF(Spec):
    """A straight segment: ``length`` in pixels, ``angle`` in radians."""

    kind: Literal["motion"]
    length: Positive
    angle: float = 0.0

    def build(self) -> Tensor:
        from ..physics.psf import motion_psf

        return motion_psf(self.length, self.angle)


class DefocusPSF(Spec):
    """A disc; ``radius`` in pixels."""

    kind: Literal["defocus"]
    radius: Positive

    def build(self) -> Tensor:
        from ..physics.psf import defocus_psf

        return defocus_psf(self.radius)


class MeasuredPSF(Spec):
    """From an NPY, MAT or PNG file."""

    kind: Literal["file"]
    path: SuitePath
    key: str | None = None

    def build(self) -> Tensor:
        from ..physics.psf import measured_psf

        return measured_psf(self.path, self.key)


PSF = Annotated[GaussianPSF | MotionPSF | DefocusPSF | MeasuredPSF, Field(discriminator="kind")]


class BlurSpec(PhysicsSpec):
    """Blur with a known point spread function; ``noise_to_signal`` regularises the direct (Wiener) inverse."""

    kind: Literal["blur"]
    measures = "images"
    psf: PSF
    boundary: Literal["circular", "reflect", "valid"] = "circular"
    noise_to_signal: Positive = 1e-2

    def build(self, shape: Shape, pixel_size: float) -> LinearOperator:
        from ..physics.blur import Blur

        return Blur(self.psf.build(), shape, self.boundary, noise_to_signal=self.noise_to_signal)

    def inputs(self) -> str:
        return _hash(self.psf)


class DownsampleSpec(PhysicsSpec):
    """Fewer pixels: blurred by a psf and decimated, or ``low_pass: kspace``, the central frequencies alone."""

    kind: Literal["downsample"]
    measures = "images"
    factor: Annotated[int, Field(ge=2)]
    low_pass: Literal["bicubic", "kspace"] | PSF = "bicubic"

    def build(self, shape: Shape, pixel_size: float) -> LinearOperator:
        from ..physics.downsample import Downsample

        low_pass = self.low_pass if isinstance(self.low_pass, str) else self.low_pass.build()
        return Downsample(shape, self.factor, low_pass)

    def labels(self, dataset: Dataset) -> tuple[str, ...]:
        return (*super().labels(dataset), *((_data_crime(dataset),) if self.low_pass == "kspace" else ()))


def _plane(shape: Shape) -> Plane:
    """(H, W) of real and of complex images."""
    return shape[-2], shape[-1]


def _data_crime(dataset: Dataset) -> str:
    images = "magnitude images, without phase and coils," if dataset.channels == 1 else "complex images of one coil"
    return f"data crime: k-space is simulated from {images} by the transform that reconstructs them"


def _fitting(maps: Tensor, shape: Plane, path: Path) -> Tensor:
    if tuple(maps.shape[-2:]) != shape:
        raise ValueError(f"{path.name} gives coil maps of {tuple(maps.shape[-2:])}, the images are {shape}")
    return maps


def _hash(source: Spec) -> str:
    """SHA-256 of the file of a mask, psf or coil maps; empty where it comes from no file."""
    path = getattr(source, "file", getattr(source, "path", None))
    return hashlib.sha256(path.read_bytes()).hexdigest() if path is not None and path.is_file() else ""


SPECS = (RadonSpec, FourierSpec, MultiCoilSpec, IdentitySpec, InpaintSpec, BlurSpec, DownsampleSpec)
