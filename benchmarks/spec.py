"""The contracts of specs: what stands in YAML, checked, and the object that it builds.

A plugin's specs are subclasses of these, listed in its ``SPECS``, each with a ``kind`` of its own::

    class Wiener(MethodSpec):
        kind: Literal["wiener"]
        power: Positive = 1.0

        def build(self, seed):
            return WienerFilter(self.power)

    SPECS = [Wiener]
"""

from __future__ import annotations

import difflib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:  # torch is imported by build(), so that the command line answers at once
    from torch import Tensor

    from ..baselines.method import Method
    from ..data.datasets import Dataset
    from ..physics import LinearOperator
    from ..physics.noise import Noise

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", max_length=80)]

SINGLE = "images"
"""Name of the dataset of a suite whose ``data`` is one spec."""

SAME_OPERATOR = "inverse crime: measurements are simulated by the operator that reconstructs"


class InheritedText(str):
    """Text that stands in another file than the suite, in ``folder``; as a path it is relative to that."""

    folder: Path

    def __new__(cls, text: str, folder: Path) -> InheritedText:
        self = super().__new__(cls, text)
        self.folder = folder
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> InheritedText:
        return self


def resolve(path: str, folder: Path) -> Path:
    """A path of a suite in ``folder`` as an absolute one."""
    return (getattr(path, "folder", folder) / Path(path).expanduser()).resolve()


def suite_path(path: Any, info: ValidationInfo) -> Any:
    """:func:`resolve` as a validator, where the folder of the suite is known."""
    folder = (info.context or {}).get("folder")
    return path if folder is None or not isinstance(path, str) else resolve(path, folder)


SuitePath = Annotated[Path, BeforeValidator(suite_path)]
"""A path in a suite: absolute, or relative to the folder of the file that it stands in."""


class Spec(BaseModel):
    """A frozen record of plain data. Unknown keys are refused, with the nearest known one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def verify(self) -> None:
        """Raise a ValueError where files of a public set are not those of the catalogue."""
        for name in type(self).model_fields:
            if isinstance(inner := getattr(self, name), Spec):
                inner.verify()

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            for key in data:
                if key not in cls.model_fields:
                    hint = did_you_mean(str(key), cls.model_fields)
                    raise mistake(f"unknown key {str(key)!r}{hint}", str(key))
        return data


class DatasetSpec(Spec):
    """Images, their splits, grid and units."""

    kind: str

    @abstractmethod
    def build(self, name: str) -> Dataset:
        """The dataset; raises a ValueError where its files do not fit the spec."""

    def inputs(self) -> str:
        """A fingerprint of what the images depend on outside the spec, such as files."""
        return ""

    def identity(self) -> dict[str, Any]:
        """What the images depend on, as plain data; where files lie is no part of it."""
        return self.model_dump(mode="json")

    def training_identity(self) -> dict[str, Any]:
        """The same without what only test images depend on: packaged weights must have been trained on it."""
        return self.identity()


class PhysicsSpec(Spec):
    """An operator, once the grid of the images is known.

    ``measures`` says what its measurements are, since not every noise makes sense on everything.
    """

    kind: str
    measures: ClassVar[Literal["line integrals", "k-space", "images", "anything"]] = "anything"

    @abstractmethod
    def build(self, shape: tuple[int, ...], pixel_size: float) -> LinearOperator:
        """The operator that methods reconstruct with.

        Args:
            shape: (H, W) of the images, or (2, H, W) of complex ones.
            pixel_size: mm.
        """

    def simulator(
        self, shape: tuple[int, ...], pixel_size: float, oversampling: int
    ) -> Callable[[Tensor], Tensor] | None:
        """Fine images ``[1, C, sH, sW]`` → noise-free measurements; None where ``build(…).A`` of the truth is used."""
        return None

    def labels(self, dataset: Dataset) -> tuple[str, ...]:
        """What a reader must know about measurements simulated this way; subclasses add to it."""
        simulate = self.simulator(dataset.image_shape, dataset.pixel_size, dataset.oversampling)
        return (SAME_OPERATOR,) if simulate is None else ()

    def inputs(self) -> str:
        """A fingerprint of what the operator depends on outside the spec, such as a file with a mask."""
        return ""


class NoiseSpec(Spec):
    """Noise on measurements; ``falls_on`` is what its model is of, None where it fits everything."""

    kind: str
    falls_on: ClassVar[str | None] = None

    @abstractmethod
    def build(self) -> Noise:
        """The noise model."""

    def describe(self) -> str:
        """One line for the report."""
        numbers = ", ".join(f"{k} {v:g}" for k, v in self.model_dump(exclude={"kind"}).items() if v is not None)
        return f"{self.kind} {numbers}".strip()


class MethodSpec(Spec):
    """A method, its name in results, and the seeds that it is run with.

    ``weights`` is a folder with what the method's ``save`` wrote, used instead of fitting. ``time_limit`` bounds the
    seconds of each cell, its fit included; the suite's counts where a method has none.
    """

    kind: str
    name: Name | None = None
    label: str | None = None
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((0,), min_length=1)
    weights: SuitePath | None = None
    time_limit: Positive | None = None
    title: ClassVar[str] = ""

    @abstractmethod
    def build(self, seed: int) -> Method:
        """A method that is not fitted yet."""

    def needs(self) -> tuple[str, ...]:
        """Splits that :meth:`build`'s method is fitted on, of its own task or of those that the fit is made on."""
        return ()

    def trained_on(self) -> tuple[str, ...]:
        """Tasks that one fit for all tasks is made on, in turns; none where every task has a fit of its own."""
        return ()

    def network_alone(self) -> MethodSpec | None:
        """The method without what is tuned around its network; None where it has nothing of that kind."""
        return None

    @property
    def key(self) -> str:
        """The name in results; the kind where none is given."""
        return self.name or self.kind

    @property
    def heading(self) -> str:
        """The name for people."""
        heading = self.label or (self.name if self.name else self.title) or self.kind
        return f"{heading} (oracle)" if self.oracle else heading

    @property
    def oracle(self) -> bool:
        """Whether it asks to be tuned on the test images: an upper bound, which no comparison counts."""
        return getattr(getattr(self, "tuning", None), "rule", None) == "oracle"

    def identity(self) -> dict[str, Any]:
        """What reconstructions depend on, as plain data."""
        return self.model_dump(mode="json", exclude={"name", "label", "seeds", "weights", "time_limit"})


def mistake(message: str, *at: str | int) -> PydanticCustomError:
    """An error for validators; ``at`` leads from the validated value to the key that is wrong."""
    # Braces in the template would be read as placeholders, so that the text travels in the context.
    return PydanticCustomError("suite", "{text}", {"text": message, "at": list(at)})


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``, did you mean 'x'?`` or the list of what is known."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if near:
        return f", did you mean {near[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""
