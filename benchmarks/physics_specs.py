"""Operators in YAML, but for scans by rays."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from .radon_specs import RadonSpec
from .spec import Count, PhysicsSpec, Positive, Spec, SuitePath, mistake

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.datasets import Dataset
    from ..physics import LinearOperator

Shape = tuple[int, int]
Seed = Annotated[int, Field(ge=0)]

DATA_CRIME = (
    "data crime: k-space is simulated from magnitude images, without phase and coils, "
    "by the transform that reconstructs them"
)


class CartesianMask(Spec):
    """Whole lines of k-space: ``uniform``, ``random``, or denser in the middle (``variable-density``)."""

    kind: Literal["uniform", "random", "variable-density"]
    acceleration: Annotated[float, Field(ge=1)]
    calibration_lines: Annotated[int, Field(ge=0)]
    seed: Seed = 0

    def build(self, shape: Shape) -> Tensor:
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

    def build(self, shape: Shape) -> Tensor:
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

    def build(self, shape: Shape) -> Tensor:
        from ..physics.masks import pseudo_radial

        return pseudo_radial(shape, lines=self.lines, fraction=self.fraction)


class FileMask(Spec):
    """A mask from an NPY, MAT or PNG file; ``key`` names the variable of a MAT file."""

    kind: Literal["file"]
    path: SuitePath
    key: str | None = None

    def build(self, shape: Shape) -> Tensor:
        from ..physics.masks import load_mask

        mask = load_mask(self.path, self.key)
        if tuple(mask.shape) != tuple(shape):
            raise ValueError(f"{self.path.name} is a mask of {tuple(mask.shape)}, the images are {tuple(shape)}")
        return mask


class FourierSpec(PhysicsSpec):
    """Sampled k-space of real images."""

    kind: Literal["fourier"]
    measures = "k-space"
    mask: Annotated[CartesianMask | PoissonDiscMask | PseudoRadialMask | FileMask, Field(discriminator="kind")]

    def build(self, shape: Shape, pixel_size: float) -> LinearOperator:
        from ..physics.fourier import FourierSampling

        return FourierSampling(self.mask.build(shape))

    def labels(self, dataset: Dataset) -> tuple[str, ...]:
        return (DATA_CRIME,)

    def inputs(self) -> str:
        return _hash(self.mask.path) if isinstance(self.mask, FileMask) else ""


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

        order = torch.randperm(shape[0] * shape[1], generator=seeded_generator("inpaint", self.seed))
        return Inpaint((order < round(self.seen * len(order))).reshape(shape))


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
        return _hash(self.psf.path) if isinstance(self.psf, MeasuredPSF) else ""


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
        return (*super().labels(dataset), *((DATA_CRIME,) if self.low_pass == "kspace" else ()))


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


SPECS = (RadonSpec, FourierSpec, IdentitySpec, InpaintSpec, BlurSpec, DownsampleSpec)
