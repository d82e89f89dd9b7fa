"""Noise in YAML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from .spec import NoiseSpec, NonNegative, Positive, mistake

if TYPE_CHECKING:
    from ..physics.noise import Noise


class NoNoiseSpec(NoiseSpec):
    """Exact measurements."""

    kind: Literal["none"] = "none"

    def build(self) -> Noise:
        from ..physics.noise import NoNoise

        return NoNoise()


class GaussianSpec(NoiseSpec):
    """Gaussian noise: ``sigma`` in the unit of the measurements, or ``relative`` to the mean of their magnitude."""

    kind: Literal["gaussian"]
    sigma: NonNegative | None = None
    relative: NonNegative | None = None

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> GaussianSpec:
        if (self.sigma is None) == (self.relative is None):
            raise mistake("give either sigma, in the unit of the measurements, or relative, a share of their mean")
        return self

    def build(self) -> Noise:
        from ..physics.noise import GaussianNoise

        if self.relative is not None:
            return GaussianNoise(self.relative, relative=True)
        return GaussianNoise(self.sigma or 0.0)


class PoissonSpec(NoiseSpec):
    """Photon counts of line integrals: ``photons`` for a detector element with nothing in the beam."""

    kind: Literal["poisson"]
    falls_on = "line integrals"
    photons: Positive

    def build(self) -> Noise:
        from ..physics.noise import PoissonCounts

        return PoissonCounts(self.photons)


class RicianSpec(NoiseSpec):
    """Magnitudes of complex images with Gaussian noise."""

    kind: Literal["rician"]
    falls_on = "images"
    sigma: NonNegative

    def build(self) -> Noise:
        from ..physics.noise import Rician

        return Rician(self.sigma)


SPECS = (NoNoiseSpec, GaussianSpec, PoissonSpec, RicianSpec)
