"""How networks are trained, in YAML, and what every learned method's spec holds."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from .spec import Count, MethodSpec, Name, NonNegative, Positive, Spec, mistake

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
    """A network and its training.

    With ``train_on`` one network for all tasks of the method is trained on the tasks named, which take turns: several
    operators, noise levels or sampling rates at once.
    """

    training: TrainingSpec = TrainingSpec()
    train_on: tuple[Name, ...] = ()

    @abstractmethod
    def network(self, channels: int) -> Network:
        """The network for images of so many channels; its initial weights come from PyTorch's generator."""

    def build(self, seed: int) -> Method:
        from ..unrolled.network import LearnedMethod

        return LearnedMethod(self.network, self.training.build(), seed)

    def needs(self) -> tuple[str, ...]:
        return ("train", "validation")

    def trained_on(self) -> tuple[str, ...]:
        return self.train_on
