"""Learned methods in YAML of which a few numbers are tuned once their network is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from .classical_specs import TuningSpec
from .spec import Count, NonNegative, Positive, mistake
from .training_specs import AugmentationSpec, LearnedSpec

if TYPE_CHECKING:
    from ..baselines.method import Method
    from ..baselines.tuned import TunedMethod
    from ..unrolled.contract import Network
    from ..unrolled.denoiser import DenoisingNetwork
    from ..unrolled.network import LearnedMethod


def _for_one_operator(spec: LearnedSpec, tuning: TuningSpec) -> None:
    """What is tuned after training, on one operator and never on the images that training is judged by."""
    if spec.train_on:
        raise mistake("its numbers are tuned for one operator; leave train_on out", "train_on")
    if tuning.rule == "oracle":
        raise mistake("a network must not see test images in training, not even an oracle's", "tuning", "rule")


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


_SAFEGUARDS = {
    **dict.fromkeys(("regularisation", "epsilon", "tol", "max_iter", "tuning"), ("image", "edges")),
    "sparsity": ("image",),
    "edge": ("edges",),
}
"""Which safeguards a setting of :class:`HybridSpec` belongs to."""


class HybridSpec(LearnedSpec):
    """Compressed sensing, fixed and learned, then multi-scale networks; ``safeguard`` ends with a convex programme.

    ``image`` is total variation around the network's image, ``edges`` total variation that costs little where the
    network's image has edges. Their two numbers, ``regularisation`` and ``sparsity`` or ``edge``, are tuned where not
    given. With ``epsilon`` the image fits its data to that relative accuracy, 0 exactly. Where a task has the same
    network without a safeguard, one training serves both.
    """

    kind: Literal["hybrid"]
    stages: Count = 3
    widths: tuple[Count, ...] = Field((16, 32, 48), min_length=2)
    sparse_stages: Annotated[int, Field(ge=0)] = 4
    sparse_iterations: Annotated[int, Field(ge=0, multiple_of=5)] = 10
    cg_iterations: Count = 2
    flips: Literal[1, 2, 4] = 1
    dual: bool = False
    gain: Positive = 10.0
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
        for name, safeguards in _SAFEGUARDS.items():
            if self.safeguard not in safeguards and getattr(self, name) != HybridSpec.model_fields[name].default:
                which = " or ".join(safeguards)
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
            self.gain,
        )

    def network_alone(self) -> HybridSpec | None:
        return HybridSpec(**self.model_dump(exclude={"safeguard", *_SAFEGUARDS})) if self.safeguard else None

    def build(self, seed: int) -> Method:
        network = super().build(seed)
        if not self.safeguard:
            return network
        from ..baselines import Options, PriorImage, ReweightedTotalVariation
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
