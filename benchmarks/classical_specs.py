"""Direct and classical methods in YAML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from .spec import Count, MethodSpec, NonNegative, Positive, Spec, mistake

if TYPE_CHECKING:
    from ..baselines.denoisers import Denoiser
    from ..baselines.method import Method
    from ..baselines.tuned import Tuning


class TuningSpec(Spec):
    """How parameters that are not given are chosen; see :class:`isocenter.baselines.tuned.Tuning`."""

    budget: Count | None = None
    rule: Literal["validation", "discrepancy", "sure", "held-out", "oracle"] = "validation"
    noise_level: Positive | None = None

    @model_validator(mode="after")
    def _noise_level_is_used(self) -> TuningSpec:
        if self.noise_level is not None and self.rule not in ("discrepancy", "sure"):
            raise mistake(f"rule {self.rule} uses no noise level; leave it out", "noise_level")
        return self

    def build(self) -> Tuning:
        from ..baselines.tuned import Tuning

        return Tuning(**self.model_dump())


class DirectSpec(MethodSpec):
    """The operator's own direct reconstruction."""

    kind: Literal["direct"]
    title: ClassVar[str] = "Direct"

    def build(self, seed: int) -> Method:
        from ..baselines.direct import Direct

        return Direct()


class TotalVariationSpec(MethodSpec):
    """Total variation; ``regularisation`` is tuned on the validation images where it is not given."""

    kind: Literal["tv"]
    regularisation: NonNegative | None = None
    tol: Positive = 1e-2
    max_iter: Count = 500
    tuning: TuningSpec = TuningSpec()
    title: ClassVar[str] = "TV"

    def build(self, seed: int) -> Method:
        from ..baselines.total_variation import TotalVariation

        return TotalVariation(self.regularisation, self.tol, self.max_iter, self.tuning.build())

    def needs(self) -> tuple[str, ...]:
        return ("validation",) if self.regularisation is None else ()


class LeastSquaresSpec(MethodSpec):
    """Least squares by CGLS: ``iterations`` are tuned where neither they nor ``tol`` (converged) are given."""

    kind: Literal["least-squares"]
    iterations: Count | None = None
    tol: Positive | None = None
    tuning: TuningSpec = TuningSpec()
    title: ClassVar[str] = "Least squares"

    def build(self, seed: int) -> Method:
        from ..baselines.least_squares import LeastSquares

        return LeastSquares(self.iterations, self.tol, self.tuning.build())

    def needs(self) -> tuple[str, ...]:
        return ("validation",) if self.iterations is None and self.tol is None else ()


class TikhonovSpec(MethodSpec):
    """λ/2 ‖x‖² or λ/2 ‖∇x‖²; ``regularisation`` is tuned on the validation images where it is not given."""

    kind: Literal["tikhonov"]
    regularisation: NonNegative | None = None
    penalty: Literal["identity", "gradient"] = "identity"
    tol: Positive = 1e-3
    max_iter: Count = 500
    tuning: TuningSpec = TuningSpec()
    title: ClassVar[str] = "Tikhonov"

    def build(self, seed: int) -> Method:
        from ..baselines.tikhonov import Tikhonov

        return Tikhonov(self.regularisation, self.penalty, self.tol, self.max_iter, self.tuning.build())

    def needs(self) -> tuple[str, ...]:
        return ("validation",) if self.regularisation is None else ()


class SIRTSpec(MethodSpec):
    """SIRT; ``iterations`` are tuned on the validation images where they are not given."""

    kind: Literal["sirt"]
    iterations: Count | None = None
    nonnegative: bool = False
    tuning: TuningSpec = TuningSpec()
    title: ClassVar[str] = "SIRT"

    def build(self, seed: int) -> Method:
        from ..baselines.sirt import SIRT

        return SIRT(self.iterations, self.nonnegative, self.tuning.build())

    def needs(self) -> tuple[str, ...]:
        return ("validation",) if self.iterations is None else ()


class WienerSpec(MethodSpec):
    """The Wiener filter for images with the spectrum 1/k^``exponent``; ``noise_to_signal`` is tuned like λ."""

    kind: Literal["wiener"]
    noise_to_signal: NonNegative | None = None
    exponent: NonNegative = 2.0
    tuning: TuningSpec = TuningSpec()
    title: ClassVar[str] = "Wiener"

    def build(self, seed: int) -> Method:
        from ..baselines.wiener import Wiener

        return Wiener(self.noise_to_signal, self.exponent, self.tuning.build())

    def needs(self) -> tuple[str, ...]:
        return ("validation",) if self.noise_to_signal is None else ()


class RichardsonLucySpec(MethodSpec):
    """Richardson–Lucy, which is MLEM; ``iterations`` are tuned on the validation images where they are not given."""

    kind: Literal["richardson-lucy"]
    iterations: Count | None = None
    tuning: TuningSpec = TuningSpec()
    title: ClassVar[str] = "Richardson–Lucy"

    def build(self, seed: int) -> Method:
        from ..baselines.richardson_lucy import RichardsonLucy

        return RichardsonLucy(self.iterations, self.tuning.build())

    def needs(self) -> tuple[str, ...]:
        return ("validation",) if self.iterations is None else ()


class NonLocalMeansSpec(Spec):
    """Non-local means; see :class:`isocenter.baselines.non_local_means.NonLocalMeans`."""

    kind: Literal["nlm"]
    patch: Count = 3
    distance: Count = 6
    strength: Positive = 1.0

    @model_validator(mode="after")
    def _odd(self) -> NonLocalMeansSpec:
        if self.patch % 2 == 0:
            raise mistake(f"patch is {self.patch}, expected an odd number of pixels", "patch")
        return self

    def build(self) -> Denoiser:
        from ..baselines.non_local_means import NonLocalMeans

        return NonLocalMeans(self.patch, self.distance, self.strength)


class TotalVariationDenoiserSpec(Spec):
    """Total variation denoising; see :class:`isocenter.baselines.denoisers.TotalVariationDenoiser`."""

    kind: Literal["tv"]
    tol: Positive = 1e-3
    max_iter: Count = 200

    def build(self) -> Denoiser:
        from ..baselines.denoisers import TotalVariationDenoiser

        return TotalVariationDenoiser(self.tol, self.max_iter)


class WaveletDenoiserSpec(Spec):
    """Wavelet shrinkage; see :class:`isocenter.baselines.denoisers.WaveletDenoiser`."""

    kind: Literal["wavelet"]
    family: str = "db4"
    levels: Count | None = None
    translation_invariant: bool = True

    def build(self) -> Denoiser:
        from ..baselines.denoisers import WaveletDenoiser

        return WaveletDenoiser(self.family, self.levels, self.translation_invariant)


DenoiserSpec = Annotated[
    NonLocalMeansSpec | TotalVariationDenoiserSpec | WaveletDenoiserSpec, Field(discriminator="kind")
]


class PlugAndPlaySpec(MethodSpec):
    """A denoiser as prior; ``noise_level`` and ``penalty`` are tuned on the validation images where not given."""

    kind: Literal["pnp"]
    algorithm: Literal["hqs", "admm", "red"] = "hqs"
    denoiser: DenoiserSpec = NonLocalMeansSpec(kind="nlm")
    noise_level: Positive | None = None
    penalty: Positive | None = None
    tol: Positive = 1e-3
    max_iter: Count | None = None
    tuning: TuningSpec = TuningSpec()
    title: ClassVar[str] = "Plug-and-play"

    def build(self, seed: int) -> Method:
        from ..baselines.plug_and_play import PlugAndPlay

        return PlugAndPlay(
            self.denoiser.build(),
            self.algorithm,
            self.noise_level,
            self.penalty,
            self.tol,
            self.max_iter,
            self.tuning.build(),
        )

    def needs(self) -> tuple[str, ...]:
        return () if self.noise_level is not None and self.penalty is not None else ("validation",)


SPECS: tuple[type[MethodSpec], ...] = (
    DirectSpec,
    TotalVariationSpec,
    LeastSquaresSpec,
    TikhonovSpec,
    SIRTSpec,
    WienerSpec,
    RichardsonLucySpec,
    PlugAndPlaySpec,
)
