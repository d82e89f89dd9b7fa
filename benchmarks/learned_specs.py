"""Learned methods in YAML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from .spec import Count, MethodSpec, Positive, mistake
from .trained_then_tuned_specs import HybridSpec, PlugAndPlayNetworkSpec
from .training_specs import LearnedSpec

if TYPE_CHECKING:
    from ..unrolled.contract import Network


def _odd(size: int) -> int:
    if size % 2 == 0:
        raise mistake(f"{size} is even, and a kernel has a middle; take {size - 1} or {size + 1}")
    return size


Odd = Annotated[int, Field(ge=3), AfterValidator(_odd)]


class UNetSpec(LearnedSpec):
    """Post-processing of the direct reconstruction by a U-Net: zero iterations of any solver.

    A network that is ``conditioned`` sees an estimate of the noise level and the sampled fraction, for ``train_on``.
    """

    kind: Literal["unet"]
    widths: tuple[Count, ...] = Field((24, 48, 96), min_length=2)
    conditioned: bool = False
    gain: Positive = 10.0
    title: ClassVar[str] = "U-Net post-processing"

    def network(self, channels: int) -> Network:
        from ..unrolled.postprocessing import UNetPostProcessing

        return UNetPostProcessing(channels, self.widths, self.conditioned, self.gain)


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
    gain: Positive = 10.0
    title: ClassVar[str] = "Dual-domain post-processing"

    def network(self, channels: int) -> Network:
        from ..unrolled.dual_domain import DualDomain

        return DualDomain(channels, self.depth, self.width, self.widths, self.gain)


class E2EVarNetSpec(LearnedSpec):
    """Soft data consistency and a U-Net in turn; the paper has 12 cascades with widths 18, 36, 72, 144, 288."""

    kind: Literal["e2e-varnet"]
    cascades: Count = 6
    widths: tuple[Count, ...] = Field((12, 24, 48), min_length=2)
    coil_maps: Literal["operator", "estimated"] = "operator"
    gain: Positive = 10.0
    title: ClassVar[str] = "E2E-VarNet"

    def network(self, channels: int) -> Network:
        from ..unrolled.e2e_varnet import E2EVarNet

        return E2EVarNet(channels, self.cascades, self.widths, self.coil_maps, self.gain)


class MoDLSpec(LearnedSpec):
    """One denoiser and regularised inversion in turn; the paper has 10 iterations of width 64."""

    kind: Literal["modl"]
    iterations: Count = 6
    depth: Annotated[int, Field(ge=2)] = 5
    width: Count = 32
    cg_iterations: Count = 10
    gain: Positive = 10.0
    title: ClassVar[str] = "MoDL"

    def network(self, channels: int) -> Network:
        from ..unrolled.modl import MoDL

        return MoDL(channels, self.iterations, self.depth, self.width, self.cg_iterations, self.gain)


class ItNetSpec(LearnedSpec):
    """U-Nets with memory, and direct reconstructions of the residual, in turn; ``conditioned`` as that of ``unet``."""

    kind: Literal["itnet"]
    iterations: Count = 4
    memory: Annotated[int, Field(ge=0)] = 5
    widths: tuple[Count, ...] = Field((16, 32, 64), min_length=2)
    conditioned: bool = False
    gain: Positive = 10.0
    title: ClassVar[str] = "ItNet"

    def network(self, channels: int) -> Network:
        from ..unrolled.itnet import ItNet

        return ItNet(channels, self.iterations, self.memory, self.widths, self.conditioned, self.gain)


class RegularisationMapsSpec(LearnedSpec):
    """Total variation whose weight is a learned map, minimised by a fixed number of primal-dual iterations."""

    kind: Literal["tv-maps"]
    iterations: Count = 32
    widths: tuple[Count, ...] = Field((16, 32, 64), min_length=2)
    gain: Positive = 10.0
    title: ClassVar[str] = "TV with learned maps"

    def network(self, channels: int) -> Network:
        from ..unrolled.regularisation_maps import RegularisationMaps

        return RegularisationMaps(self.iterations, self.widths, self.gain)


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
