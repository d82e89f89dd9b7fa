"""Direct and classical methods in YAML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from .spec import Count, MethodSpec, NonNegative, Positive, Spec, mistake

if TYPE_CHECKING:
    from ..baselines.convex import Options
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


class ConvexSpec(MethodSpec):
    """What every convex method may be told; see :class:`isocenter.baselines.convex.Options`."""

    low: float | None = None
    high: float | None = None
    tol: Positive = 1e-2
    max_iter: Count = 500
    algorithm: Literal["admm", "pdhg", "condat-vu", "fista"] = "admm"
    tuning: TuningSpec = TuningSpec()
    parameters: ClassVar[tuple[str, ...]] = ("regularisation",)

    def options(self) -> Options:
        from ..baselines.convex import Options

        own = {name for name in ("low", "high", "likelihood", "tol", "max_iter", "algorithm") if hasattr(self, name)}
        return Options(**self.model_dump(include=own))

    def needs(self) -> tuple[str, ...]:
        return ("validation",) if any(getattr(self, name) is None for name in self.parameters) else ()


class PenalisedSpec(ConvexSpec):
    """A penalty beside the likelihood of the measurements."""

    regularisation: NonNegative | None = None
    likelihood: Literal["gaussian", "poisson"] = "gaussian"


class TotalVariationSpec(PenalisedSpec):
    """Total variation; ``regularisation`` is tuned on the validation images where it is not given."""

    kind: Literal["tv"]
    isotropic: bool = True
    title: ClassVar[str] = "TV"

    def build(self, seed: int) -> Method:
        from ..baselines.total_variation import TotalVariation

        return TotalVariation(self.regularisation, self.isotropic, self.options(), self.tuning.build())


class ConstrainedTotalVariationSpec(ConvexSpec):
    """The least total variation with ‖A x − ŷ‖ ≤ ``epsilon`` ‖y‖, ŷ the part of y that images explain."""

    kind: Literal["constrained-tv"]
    epsilon: NonNegative | None = None
    isotropic: bool = True
    title: ClassVar[str] = "Constrained TV"
    parameters: ClassVar[tuple[str, ...]] = ("epsilon",)

    def build(self, seed: int) -> Method:
        from ..baselines.total_variation import ConstrainedTotalVariation

        return ConstrainedTotalVariation(self.epsilon, self.isotropic, self.options(), self.tuning.build())


class ReweightedTotalVariationSpec(PenalisedSpec):
    """Total variation, and then again with edges of the last image at a small price.

    ``edge`` is the difference of neighbours that halves the price; with ``epsilon`` the data are a constraint.
    """

    kind: Literal["reweighted-tv"]
    edge: Positive | None = None
    epsilon: NonNegative | None = None
    rounds: Count = 2
    title: ClassVar[str] = "Reweighted TV"

    @model_validator(mode="after")
    def _data_are_weighed_once(self) -> ReweightedTotalVariationSpec:
        for name, off in (("regularisation", None), ("likelihood", "gaussian")):
            if self.epsilon is not None and getattr(self, name) != off:
                raise mistake(f"with epsilon the data are a constraint, and {name} has no meaning", name)
        return self

    def needs(self) -> tuple[str, ...]:
        tuned = self.edge is None or (self.epsilon is None and self.regularisation is None)
        return ("validation",) if tuned else ()

    def build(self, seed: int) -> Method:
        from ..baselines.reweighted import ReweightedTotalVariation

        return ReweightedTotalVariation(
            None, self.regularisation, self.edge, self.epsilon, self.rounds, self.options(), self.tuning.build()
        )


class TotalGeneralisedVariationSpec(PenalisedSpec):
    """Second-order total generalised variation: slopes cost nothing."""

    kind: Literal["tgv"]
    ratio: Positive = 2.0
    title: ClassVar[str] = "TGV"

    def build(self, seed: int) -> Method:
        from ..baselines.total_variation import TotalGeneralisedVariation

        return TotalGeneralisedVariation(self.regularisation, self.ratio, self.options(), self.tuning.build())


class WaveletSpec(PenalisedSpec):
    """Sparse wavelet coefficients, in a basis or in the tight frame of all its shifts."""

    kind: Literal["wavelet"]
    family: str = "db4"
    levels: Count | None = None
    translation_invariant: bool = True
    title: ClassVar[str] = "Wavelets"

    def build(self, seed: int) -> Method:
        from ..baselines.sparse_wavelets import Wavelet

        return Wavelet(
            self.regularisation,
            self.family,
            self.levels,
            self.translation_invariant,
            self.options(),
            self.tuning.build(),
        )


class TotalVariationWaveletSpec(PenalisedSpec):
    """Total variation and sparse wavelet coefficients (Lustig et al. 2007)."""

    kind: Literal["tv-wavelet"]
    wavelet: NonNegative | None = None
    family: str = "db4"
    levels: Count | None = None
    translation_invariant: bool = False
    title: ClassVar[str] = "TV and wavelets"
    parameters: ClassVar[tuple[str, ...]] = ("regularisation", "wavelet")

    def build(self, seed: int) -> Method:
        from ..baselines.sparse_wavelets import TotalVariationWavelet

        return TotalVariationWavelet(
            self.regularisation,
            self.wavelet,
            self.family,
            self.levels,
            self.translation_invariant,
            self.options(),
            self.tuning.build(),
        )


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
    ConstrainedTotalVariationSpec,
    ReweightedTotalVariationSpec,
    TotalGeneralisedVariationSpec,
    WaveletSpec,
    TotalVariationWaveletSpec,
    LeastSquaresSpec,
    TikhonovSpec,
    SIRTSpec,
    WienerSpec,
    RichardsonLucySpec,
    PlugAndPlaySpec,
)
