"""Learned methods in YAML."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from .spec import Count, MethodSpec, NonNegative, Positive, Spec, mistake

if TYPE_CHECKING:
    from ..baselines.method import Method
    from ..unrolled.contract import Network
    from ..unrolled.training import Training


class AugmentationSpec(Spec):
    """Random changes of training images; see :class:`isocenter.unrolled.augmentation.Augmentation`."""

    flips: bool = False
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    intensity: Annotated[float, Field(ge=0, lt=1)] = 0.0


class TrainingSpec(Spec):
    """How a network is trained; see :class:`isocenter.unrolled.training.Training`."""

    steps: Count = 2000
    batch: Count = 8
    learning_rate: Positive = 3e-3
    loss: Literal["mse", "normalised-l2", "l1-ssim", "measurement-splitting"] = "mse"
    warmup: Annotated[int, Field(ge=0)] = 100
    average: Annotated[float, Field(ge=0, lt=1)] = 0.995
    clip: Positive = 1.0
    validate_every: Count = 100
    patience: Count | None = None
    deep_supervision: NonNegative = 0.0
    withheld: Annotated[float, Field(gt=0, lt=1)] = 0.4
    augment: AugmentationSpec = AugmentationSpec()
    checkpoint: bool = False

    @model_validator(mode="after")
    def _splitting_needs_no_truth(self) -> TrainingSpec:
        if self.loss == "measurement-splitting" and self.augment != AugmentationSpec():
            raise mistake(
                "measurement-splitting learns from measurements; there are none of augmented images", "augment"
            )
        return self

    def build(self) -> Training:
        from ..unrolled.augmentation import Augmentation
        from ..unrolled.training import Training

        return Training(**self.model_dump(exclude={"augment"}), augment=Augmentation(**self.augment.model_dump()))


class LearnedSpec(MethodSpec):
    """A network and its training."""

    training: TrainingSpec = TrainingSpec()

    @abstractmethod
    def network(self) -> Callable[[], Network]:
        """What makes the network; its initial weights come from PyTorch's generator."""

    def build(self, seed: int) -> Method:
        from ..unrolled.network import LearnedMethod

        return LearnedMethod(self.network(), self.training.build(), seed)

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
