"""Learned methods in YAML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from .classical_specs import TuningSpec
from .spec import Count, MethodSpec, NonNegative, Positive, mistake
from .training_specs import AugmentationSpec, LearnedSpec

if TYPE_CHECKING:
    from ..baselines.method import Method
    from ..unrolled.contract import Network
    from ..unrolled.denoiser import DenoisingNetwork


def _odd(size: int) -> int:
    if size % 2 == 0:
        raise mistake(f"{size} is even, and a kernel has a middle; take {size - 1} or {size + 1}")
    return size


Odd = Annotated[int, Field(ge=3), AfterValidator(_odd)]


def _for_one_operator(spec: LearnedSpec, tuning: TuningSpec) -> None:
    """What is tuned after training, on one operator and never on the images that training is judged by."""
    if spec.train_on:
        raise mistake("its numbers are tuned for one operator; leave train_on out", "train_on")
    if tuning.rule == "oracle":
        raise mistake("a network must not see test images in training, not even an oracle's", "tuning", "rule")


class UNetSpec(LearnedSpec):
    """Post-processing of the direct reconstruction by a U-Net: zero iterations of any solver.

    A network that is ``conditioned`` sees an estimate of the noise level and the sampled fraction, for ``train_on``.
    """

    kind: Literal["unet"]
    widths: tuple[Count, ...] = Field((24, 48, 96), min_length=2)
    conditioned: bool = False
    title: ClassVar[str] = "U-Net post-processing"

    def network(self, channels: int) -> Network:
        from ..unrolled.postprocessing import UNetPostProcessing

        return UNetPostProcessing(channels, self.widths, self.conditioned)


class ADMMNetSpec(LearnedSpec):
    """ADMM with learned filters, shrinkage and steps, unrolled."""

    kind: Literal["admm-net"]
    stages: Count = 8
    kernel: Odd = 3
    knots: Annotated[int, Field(ge=3)] = 101
    cg_iterations: Count = 3
    title: ClassVar[str] = "ADMM-Net"

    def network(self, channels: int) -> Network:
        from ..unrolled.admm_net import ADMMNet

        return ADMMNet(self.stages, self.kernel, self.knots, self.cg_iterations)


class LearnedPrimalDualSpec(LearnedSpec):
    """Primal-dual iterations whose proximal maps are small networks with memory; the paper's by default."""

    kind: Literal["learned-primal-dual"]
    iterations: Count = 10
    primal: Annotated[int, Field(ge=2)] = 5
    dual: Count = 5
    width: Count = 32
    title: ClassVar[str] = "Learned primal-dual"

    def network(self, channels: int) -> Network:
        from ..unrolled.learned_primal_dual import LearnedPrimalDual

        return LearnedPrimalDual(channels, self.iterations, self.primal, self.dual, self.width)


class LearnedPrimalSpec(LearnedSpec):
    """Learned primal-dual without what is learned on measurements; the paper's by default."""

    kind: Literal["learned-primal"]
    iterations: Count = 10
    primal: Annotated[int, Field(ge=2)] = 5
    width: Count = 32
    title: ClassVar[str] = "Learned primal"

    def network(self, channels: int) -> Network:
        from ..unrolled.learned_primal import LearnedPrimal

        return LearnedPrimal(channels, self.iterations, self.primal, self.width)


class LearnedPDHGSpec(LearnedSpec):
    """Primal-dual iterations, all with the same two learned proximal maps without memory; the paper's by default."""

    kind: Literal["learned-pdhg"]
    iterations: Count = 10
    width: Count = 32
    title: ClassVar[str] = "Learned PDHG"

    def network(self, channels: int) -> Network:
        from ..unrolled.learned_pdhg import LearnedPDHG

        return LearnedPDHG(channels, self.iterations, self.width)


class LearnedGradientSpec(LearnedSpec):
    """Gradient descent whose updates a small network with memory proposes; the paper's by default."""

    kind: Literal["learned-gradient"]
    iterations: Count = 10
    memory: Count = 5
    width: Count = 32
    dirichlet: bool = True
    title: ClassVar[str] = "Learned gradient"

    def network(self, channels: int) -> Network:
        from ..unrolled.learned_gradient import LearnedGradient

        return LearnedGradient(channels, self.iterations, self.memory, self.width, self.dirichlet)


class ISTANetPlusSpec(LearnedSpec):
    """Iterative shrinkage with learned transforms; the paper's has nine phases."""

    kind: Literal["ista-net-plus"]
    phases: Count = 6
    width: Count = 32
    title: ClassVar[str] = "ISTA-Net+"

    def network(self, channels: int) -> Network:
        from ..unrolled.ista_net import ISTANetPlus

        return ISTANetPlus(channels, self.phases, self.width)


class ADMMCSNetSpec(LearnedSpec):
    """ADMM in the image domain with a learned regulariser; the paper's has eleven stages of 128 features."""

    kind: Literal["admm-csnet"]
    stages: Count = 5
    features: Count = 32
    kernel: Odd = 5
    knots: Annotated[int, Field(ge=3)] = 101
    cg_iterations: Count = 3
    title: ClassVar[str] = "ADMM-CSNet"

    def network(self, channels: int) -> Network:
        from ..unrolled.admm_csnet import ADMMCSNet

        return ADMMCSNet(self.stages, self.features, self.kernel, self.knots, self.cg_iterations)


class VariationalNetworkSpec(LearnedSpec):
    """Gradient descent on learned regularisers; the paper's by default."""

    kind: Literal["variational-network"]
    stages: Count = 10
    filters: Count = 24
    kernel: Odd = 11
    centres: Annotated[int, Field(ge=2)] = 31
    title: ClassVar[str] = "Variational network"

    def network(self, channels: int) -> Network:
        from ..unrolled.variational_network import VariationalNetwork

        return VariationalNetwork(channels, self.stages, self.filters, self.kernel, self.centres)


class PlugAndPlayNetworkSpec(LearnedSpec):
    """A denoiser trained on images alone as prior; ``noise_level`` and ``penalty`` are tuned where not given."""

    kind: Literal["pnp-network"]
    widths: tuple[Count, ...] = Field((32, 48, 64), min_length=1)
    levels: tuple[Positive, Positive] = (0.003, 0.3)
    algorithm: Literal["hqs", "admm", "red"] = "hqs"
    noise_level: Positive | None = None
    penalty: Positive | None = None
    tol: Positive = 1e-3
    max_iter: Count | None = None
    tuning: TuningSpec = TuningSpec()
    title: ClassVar[str] = "Plug-and-play with a trained denoiser"

    @model_validator(mode="after")
    def _levels_are_a_range(self) -> PlugAndPlayNetworkSpec:
        if self.levels[0] >= self.levels[1]:
            raise mistake(f"levels are {self.levels}, expected the lowest first and another highest", "levels")
        return self

    @model_validator(mode="after")
    def _a_denoiser_learns_from_images_and_white_noise(self) -> PlugAndPlayNetworkSpec:
        _for_one_operator(self, self.tuning)
        if self.training.loss == "measurement-splitting":
            raise mistake("a denoiser has nothing to split; take mse", "training", "loss")
        if self.training.augment != AugmentationSpec():
            raise mistake(
                "a denoiser is trained on images that are not measured anew; leave it out", "training", "augment"
            )
        return self

    def network(self, channels: int) -> DenoisingNetwork:
        from ..unrolled.denoiser import DenoisingNetwork

        return DenoisingNetwork(channels, self.widths)

    def build(self, seed: int) -> Method:
        from ..baselines.plug_and_play import PlugAndPlay
        from ..unrolled.denoiser import PlugAndPlayNetwork

        options = (self.algorithm, self.noise_level, self.penalty, self.tol, self.max_iter, self.tuning.build())
        return PlugAndPlayNetwork(
            self.network,
            lambda denoiser: PlugAndPlay(denoiser, *options),
            self.levels,
            self.training.build(),
            seed,
        )


class DnCNNSpec(LearnedSpec):
    """Post-processing by a plain stack of convolutions; the paper's is 17 deep and 64 wide."""

    kind: Literal["dncnn"]
    depth: Annotated[int, Field(ge=2)] = 10
    width: Count = 32
    title: ClassVar[str] = "DnCNN post-processing"

    def network(self, channels: int) -> Network:
        from ..unrolled.postprocessing import DnCNNPostProcessing

        return DnCNNPostProcessing(channels, self.depth, self.width)


class DualDomainSpec(LearnedSpec):
    """One network before and one after the direct reconstruction."""

    kind: Literal["dual-domain"]
    depth: Annotated[int, Field(ge=2)] = 5
    width: Count = 32
    widths: tuple[Count, ...] = Field((24, 48, 96), min_length=2)
    title: ClassVar[str] = "Dual-domain post-processing"

    def network(self, channels: int) -> Network:
        from ..unrolled.dual_domain import DualDomain

        return DualDomain(channels, self.depth, self.width, self.widths)


class E2EVarNetSpec(LearnedSpec):
    """Soft data consistency and a U-Net in turn; the paper has 12 cascades with widths 18, 36, 72, 144, 288."""

    kind: Literal["e2e-varnet"]
    cascades: Count = 6
    widths: tuple[Count, ...] = Field((12, 24, 48), min_length=2)
    coil_maps: Literal["operator", "estimated"] = "operator"
    title: ClassVar[str] = "E2E-VarNet"

    def network(self, channels: int) -> Network:
        from ..unrolled.e2e_varnet import E2EVarNet

        return E2EVarNet(channels, self.cascades, self.widths, self.coil_maps)


class MoDLSpec(LearnedSpec):
    """One denoiser and regularised inversion in turn; the paper has 10 iterations of width 64."""

    kind: Literal["modl"]
    iterations: Count = 6
    depth: Annotated[int, Field(ge=2)] = 5
    width: Count = 32
    cg_iterations: Count = 10
    title: ClassVar[str] = "MoDL"

    def network(self, channels: int) -> Network:
        from ..unrolled.modl import MoDL

        return MoDL(channels, self.iterations, self.depth, self.width, self.cg_iterations)


class ItNetSpec(LearnedSpec):
    """U-Nets with memory, and direct reconstructions of the residual, in turn; ``conditioned`` as that of ``unet``."""

    kind: Literal["itnet"]
    iterations: Count = 4
    memory: Annotated[int, Field(ge=0)] = 5
    widths: tuple[Count, ...] = Field((16, 32, 64), min_length=2)
    conditioned: bool = False
    title: ClassVar[str] = "ItNet"

    def network(self, channels: int) -> Network:
        from ..unrolled.itnet import ItNet

        return ItNet(channels, self.iterations, self.memory, self.widths, self.conditioned)


class RegularisationMapsSpec(LearnedSpec):
    """Total variation whose weight is a learned map, minimised by a fixed number of primal-dual iterations."""

    kind: Literal["tv-maps"]
    iterations: Count = 32
    widths: tuple[Count, ...] = Field((16, 32, 64), min_length=2)
    title: ClassVar[str] = "TV with learned maps"

    def network(self, channels: int) -> Network:
        from ..unrolled.regularisation_maps import RegularisationMaps

        return RegularisationMaps(self.iterations, self.widths)


class DeepEquilibriumSpec(LearnedSpec):
    """The fixed point of proximal gradient steps with a learned proximal map."""

    kind: Literal["deep-equilibrium"]
    depth: Annotated[int, Field(ge=2)] = 5
    width: Count = 32
    iterations: Count = 30
    tol: Positive = 1e-3
    title: ClassVar[str] = "Deep equilibrium"

    def network(self, channels: int) -> Network:
        from ..unrolled.deep_equilibrium import DeepEquilibrium

        return DeepEquilibrium(channels, self.depth, self.width, self.iterations, self.tol)


class HybridSpec(LearnedSpec):
    """Compressed sensing, fixed and learned, then multi-scale networks; ``safeguard`` ends with a convex programme.

    ``image`` is total variation around the network's image, ``edges`` total variation that costs little where the
    network's image has edges. Their two numbers, ``regularisation`` and ``sparsity`` or ``edge``, are tuned where not
    given. With ``epsilon`` the image fits its data to that relative accuracy, 0 exactly.
    """

    kind: Literal["hybrid"]
    stages: Count = 3
    widths: tuple[Count, ...] = Field((16, 32, 48), min_length=2)
    sparse_stages: Annotated[int, Field(ge=0)] = 4
    sparse_iterations: Annotated[int, Field(ge=0, multiple_of=5)] = 10
    cg_iterations: Count = 2
    flips: Literal[1, 2, 4] = 1
    dual: bool = False
    safeguard: Literal[False, "image", "edges"] = False
    regularisation: Positive | None = None
    sparsity: Positive | None = None
    edge: Positive | None = None
    epsilon: NonNegative | None = None
    tol: Positive = 1e-2
    max_iter: Count = 500
    tuning: TuningSpec = TuningSpec()
    title: ClassVar[str] = "Hybrid"

    @model_validator(mode="after")
    def _the_safeguard_knows_what_is_given(self) -> HybridSpec:
        common = ("regularisation", "epsilon", "tol", "max_iter", "tuning")
        known = {False: (), "image": (*common, "sparsity"), "edges": (*common, "edge")}[self.safeguard]
        for name in (*common, "sparsity", "edge"):
            if name not in known and getattr(self, name) != HybridSpec.model_fields[name].default:
                which = {"sparsity": "image", "edge": "edges"}.get(name, "image or edges")
                raise mistake(f"{name} belongs to a safeguard that is not there; add safeguard: {which}", name)
        if self.safeguard:
            _for_one_operator(self, self.tuning)
        if self.epsilon is not None and self.regularisation is not None:
            raise mistake("with epsilon the data are a constraint, and regularisation has no meaning", "regularisation")
        return self

    def network(self, channels: int) -> Network:
        from ..unrolled.hybrid import Hybrid

        return Hybrid(
            channels,
            self.stages,
            self.widths,
            self.sparse_stages,
            self.sparse_iterations,
            self.cg_iterations,
            self.flips,
            self.dual,
        )

    def network_alone(self) -> HybridSpec | None:
        around = {"safeguard", "regularisation", "sparsity", "edge", "epsilon", "tol", "max_iter", "tuning"}
        return HybridSpec(**self.model_dump(exclude=around)) if self.safeguard else None

    def build(self, seed: int) -> Method:
        network = super().build(seed)
        if not self.safeguard:
            return network
        from ..baselines import Options, PriorImage, ReweightedTotalVariation
        from ..baselines.tuned import TunedMethod
        from ..unrolled.network import LearnedMethod
        from ..unrolled.trained_then_tuned import TrainedThenTuned

        def around(trained: LearnedMethod) -> TunedMethod:
            options, tuning = Options(tol=self.tol, max_iter=self.max_iter), self.tuning.build()
            if self.safeguard == "image":
                return PriorImage(trained, self.regularisation, self.sparsity, self.epsilon, options, tuning)
            return ReweightedTotalVariation(
                trained, self.regularisation, self.edge, self.epsilon, options=options, tuning=tuning
            )

        assert isinstance(network, LearnedMethod)
        return TrainedThenTuned(network, around)


SPECS: tuple[type[MethodSpec], ...] = (
    HybridSpec,
    UNetSpec,
    ADMMNetSpec,
    LearnedPrimalDualSpec,
    LearnedPrimalSpec,
    LearnedPDHGSpec,
    LearnedGradientSpec,
    ISTANetPlusSpec,
    ADMMCSNetSpec,
    VariationalNetworkSpec,
    DnCNNSpec,
    DualDomainSpec,
    E2EVarNetSpec,
    MoDLSpec,
    ItNetSpec,
    RegularisationMapsSpec,
    DeepEquilibriumSpec,
    PlugAndPlayNetworkSpec,
)
