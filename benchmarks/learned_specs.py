"""Learned methods in YAML."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from .spec import Count, MethodSpec, Positive, Spec

if TYPE_CHECKING:
    from ..baselines.method import Method
    from ..unrolled.contract import Network


class TrainingSpec(Spec):
    """How a network is trained; see :class:`isocenter.unrolled.training.Training`."""

    steps: Count = 2000
    batch: Count = 8
    learning_rate: Positive = 3e-3
    loss: Literal["mse", "normalised-l2"] = "mse"
    warmup: Annotated[int, Field(ge=0)] = 100
    average: Annotated[float, Field(ge=0, lt=1)] = 0.995
    clip: Positive = 1.0
    validate_every: Count = 100
    patience: Count | None = None


class LearnedSpec(MethodSpec):
    """A network and its training."""

    training: TrainingSpec = TrainingSpec()

    @abstractmethod
    def network(self) -> Callable[[], Network]:
        """What makes the network; its initial weights come from PyTorch's generator."""

    def build(self, seed: int) -> Method:
        from ..unrolled.network import LearnedMethod
        from ..unrolled.training import Training

        return LearnedMethod(self.network(), Training(**self.training.model_dump()), seed)

    def needs(self) -> tuple[str, ...]:
        return ("train", "validation")


class UNetSpec(LearnedSpec):
    """Post-processing of the direct reconstruction by a U-Net: zero iterations of any solver."""

    kind: Literal["unet"]
    widths: tuple[Count, ...] = Field((24, 48, 96), min_length=2)
    title: ClassVar[str] = "U-Net post-processing"

    def network(self) -> Callable[[], Network]:
        from ..unrolled.postprocessing import UNetPostProcessing

        return lambda: UNetPostProcessing(widths=self.widths)


class ADMMNetSpec(LearnedSpec):
    """ADMM with learned filters, shrinkage and steps, unrolled."""

    kind: Literal["admm-net"]
    stages: Count = 8
    kernel: Annotated[int, Field(ge=3)] = 3
    knots: Annotated[int, Field(ge=3)] = 101
    cg_iterations: Count = 3
    title: ClassVar[str] = "ADMM-Net"

    def network(self) -> Callable[[], Network]:
        from ..unrolled.admm_net import ADMMNet

        return lambda: ADMMNet(self.stages, self.kernel, self.knots, self.cg_iterations)


SPECS: tuple[type[MethodSpec], ...] = (UNetSpec, ADMMNetSpec)
