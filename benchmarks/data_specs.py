"""Images in YAML: phantoms, and folders of files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from .spec import Count, DatasetSpec, Positive, Spec, SuitePath, mistake

if TYPE_CHECKING:
    from ..data.datasets import Dataset
    from ..data.image_grids import Attenuation, Scaled

Fraction = Annotated[float, Field(ge=0, le=1)]
Images = Annotated[int, Field(ge=0)]
Patterns = Annotated[tuple[str, ...], Field(min_length=1)]
Interval = tuple[float, float]


class HounsfieldSpec(Spec):
    """Hounsfield units as attenuation: ``water`` in 1/mm, the interval that is the data range, the grey window."""

    kind: Literal["hu"] = "hu"
    water: Positive = 0.0192
    hu: Interval = (-1000.0, 1000.0)
    display: Interval = (-400.0, 400.0)

    def build(self) -> Attenuation:
        from ..data.image_grids import Attenuation

        return Attenuation(self.water, self.hu, self.display)


class SimulatedPhaseSpec(Spec):
    """Magnitude images with a smooth random phase."""

    kind: Literal["simulated-phase"]
    seed: Annotated[int, Field(ge=0)] = 0


class RawKspaceSpec(Spec):
    """Files are fully sampled multi-coil k-space, whose coils are combined by maps from its central lines."""

    kind: Literal["raw-kspace"]
    key: str | None = None
    calibration_lines: Annotated[int, Field(ge=8)] = 24


class PhantomsSpec(DatasetSpec):
    """Procedural images, as many as asked for; real ones unless ``complex`` says how they get a phase."""

    kind: Literal["phantoms"]
    family: Literal["head", "torso", "breast", "ellipses", "dival-ellipses", "shepp-logan"]
    size: Annotated[int, Field(ge=16)]
    train: Images = 64
    validation: Images = 8
    test: Count = 16
    seed: Annotated[int, Field(ge=0)] = 0
    oversampling: Count = 1
    contrast: Literal["T1", "T2", "FLAIR"] = "T1"
    attenuation: HounsfieldSpec = HounsfieldSpec()
    blur: bool = False
    complex: SimulatedPhaseSpec | None = None

    @model_validator(mode="after")
    def _fits_the_family(self) -> PhantomsSpec:
        # Keys without a meaning would pass for a setting that has an effect.
        for key, family in (("contrast", "head"), ("attenuation", "torso"), ("blur", "breast")):
            changed = getattr(self, key) != type(self).model_fields[key].default
            if changed and self.family != family:
                raise mistake(f"only the {family} phantom has {key}; the family is {self.family}", key)
        if self.family in ("head", "torso") and self.size * self.oversampling < 64:
            raise mistake(f"the {self.family} phantom needs 64 pixels or more, got {self.size}", "size")
        if self.complex is not None and self.family in ("torso", "breast", "ellipses"):
            raise mistake(f"{self.family} phantoms are no magnitudes of MR images and get no phase", "complex")
        return self

    def build(self, name: str) -> Dataset:
        from ..data.phantom_datasets import phantoms
        from ..data.simulated_phase import with_simulated_phase

        dataset = phantoms(
            name,
            self.family,
            self.size,
            {"train": self.train, "validation": self.validation, "test": self.test},
            seed=self.seed,
            oversampling=self.oversampling,
            contrast=self.contrast,
            attenuation=self.attenuation.build(),
            blur=self.blur,
        )
        return dataset if self.complex is None else with_simulated_phase(dataset, self.complex.seed)

    def identity(self) -> dict[str, Any]:
        # Keys younger than the packaged weights are left out at their defaults, so that these stay valid.
        young = {name for name in ("blur", "complex") if not getattr(self, name)}
        return self.model_dump(mode="json", exclude=young)

    def training_identity(self) -> dict[str, Any]:
        identity = self.identity()
        identity.pop("test")
        return identity


class ScaledSpec(Spec):
    """Intensities divided by a number: ``divide_by``, or a percentile of each volume."""

    kind: Literal["scaled"]
    divide_by: Positive | None = None
    percentile: Annotated[float, Field(gt=0, le=100)] = 99.5
    display: Interval = (0.0, 1.0)

    def build(self) -> Scaled:
        from ..data.image_grids import Scaled

        return Scaled(self.divide_by, self.percentile, self.display)


class SlicesSpec(Spec):
    """Which slices of a volume: a range as fractions of its length, every n-th, with enough content."""

    start: Fraction = 0.0
    stop: Fraction = 1.0
    step: Count = 1
    minimum_content: Fraction = 0.0
    threshold: Fraction = 0.1

    @model_validator(mode="after")
    def _is_a_range(self) -> SlicesSpec:
        if not self.start < self.stop:
            raise mistake(f"slices run from {self.start:g} to {self.stop:g}; expected start < stop", "stop")
        return self


Assign = Callable[[Sequence[str]], Mapping[str, str]]


class PatientLists(Spec):
    """Fixed lists of patients."""

    kind: Literal["patients"]
    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = Field(min_length=1)

    def build(self) -> Assign:
        from ..data.splits import by_lists

        lists = {"train": self.train, "validation": self.validation, "test": self.test}
        return lambda patients: by_lists(patients, lists)


class OrderBlocks(Spec):
    """Contiguous blocks of patients in the order of their files."""

    kind: Literal["order"]
    train: Images = 0
    validation: Images = 0
    test: Count

    def build(self) -> Assign:
        from ..data.splits import by_order

        counts = {"train": self.train, "validation": self.validation, "test": self.test}
        return lambda patients: by_order(patients, counts)


class PatientHash(Spec):
    """A seeded hash of the patient; fractions are expected values."""

    kind: Literal["hash"]
    seed: Annotated[int, Field(ge=0)] = 0
    validation: Fraction = 0.1
    test: Annotated[float, Field(gt=0, le=1)] = 0.2

    @model_validator(mode="after")
    def _leaves_room(self) -> PatientHash:
        if self.validation + self.test > 1:
            raise mistake(f"fractions {self.validation:g} and {self.test:g} are more than everything", "test")
        return self

    def build(self) -> Assign:
        from ..data.splits import by_hash

        return lambda patients: by_hash(patients, self.seed, self.validation, self.test)


class PatternLists(Spec):
    """File patterns of their own for each split."""

    kind: Literal["files"]
    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    test: Patterns


class ImagesSpec(DatasetSpec):
    """Files of any readable format in a folder.

    The folder is ``root``, or ``folder`` of a ``set`` that ``isocenter fetch`` brings or a mirror has. ``patient`` is
    a regular expression on the relative path whose first group is the patient, ``file`` (each its own), or ``header``.
    Images are real, magnitudes where files are complex, unless ``complex`` says how they get a phase.
    ``train``, ``validation`` and ``test`` bound the number of images, evenly spread.
    """

    kind: Literal["images"]
    root: SuitePath | None = None
    set: str | None = None
    folder: str | None = None
    files: Patterns = ("**/*",)
    patient: str = "file"
    split: Annotated[PatientLists | OrderBlocks | PatientHash | PatternLists, Field(discriminator="kind")]
    slices: SlicesSpec = SlicesSpec()
    intensity: Annotated[HounsfieldSpec | ScaledSpec, Field(discriminator="kind")]
    size: Annotated[int, Field(ge=8)]
    pixel_size: Positive
    oversampling: Count = 1
    grid: Literal["resample", "native"] = "resample"
    train: Images | None = None
    validation: Images | None = None
    test: Count | None = None
    labels: tuple[str, ...] = ()
    complex: Annotated[SimulatedPhaseSpec | RawKspaceSpec, Field(discriminator="kind")] | None = None

    @field_validator("patient")
    @classmethod
    def _pattern_with_a_group(cls, pattern: str) -> str:
        if pattern not in ("file", "header"):
            try:
                groups = re.compile(pattern).groups
            except re.error as error:
                raise mistake(f"{pattern!r} is no regular expression: {error}") from error
            if not groups:
                raise mistake(f"{pattern!r} has no group; put the patient in brackets, such as 'patient(\\d+)'")
        return pattern

    @field_validator("files")
    @classmethod
    def _below_the_root(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
                raise mistake(f"{pattern!r} leaves the folder; patterns are relative to it")
        return patterns

    @model_validator(mode="after")
    def _has_a_place(self) -> ImagesSpec:
        if (self.root is None) == (self.set is None):
            raise mistake("give either root, a folder, or set, the name of a public set")
        if self.set is not None and self.folder is None:
            raise mistake("say which folder of the set, such as folder: mri/open_ms")
        if self.set is None and self.folder is not None:
            raise mistake("folder belongs to a set; with root give the whole path there", "folder")
        if self.complex is not None and self.intensity.kind == "hu":
            raise mistake("complex images have no Hounsfield units; use intensity: {kind: scaled}", "intensity", "kind")
        return self

    def build(self, name: str) -> Dataset:
        from ..data.image_folders import Patients, Slices, find_files, image_folder
        from ..data.image_grids import Grid
        from ..data.raw_kspace import RawKspace
        from ..data.simulated_phase import with_simulated_phase

        root, added = self.place(), self.complex
        raw = RawKspace(added.key, added.calibration_lines) if isinstance(added, RawKspaceSpec) else None
        if isinstance(self.split, PatternLists):
            lists = {"train": self.split.train, "validation": self.split.validation, "test": self.split.test}
            files: Any = {split: find_files(root, patterns) for split, patterns in lists.items() if patterns}
        else:
            files = find_files(root, self.files)
        dataset = image_folder(
            name,
            root,
            files,
            Grid(self.size, self.pixel_size, self.oversampling, self.grid == "resample"),
            self.intensity.build(),
            patients=Patients(None if self.patient in ("file", "header") else self.patient, self.patient == "header"),
            assign=None if isinstance(self.split, PatternLists) else self.split.build(),
            slices=Slices(**self.slices.model_dump()),
            limit={"train": self.train, "validation": self.validation, "test": self.test},
            labels=self.labels,
            kspace=raw,
        )
        return with_simulated_phase(dataset, added.seed) if isinstance(added, SimulatedPhaseSpec) else dataset

    def verify(self) -> None:
        from ..data.fetch import verify

        if self.set is not None:
            verify(self.set, str(self.folder))

    def place(self) -> Path:
        """The folder of the files; a set lies in the mirror, or where ``isocenter fetch`` brought it."""
        if self.root is not None:
            return self.root
        from ..data.fetch import locate

        return locate(str(self.set), str(self.folder))

    def inputs(self) -> str:
        from ..data.image_folders import find_files, fingerprint

        patterns = self.files
        if isinstance(self.split, PatternLists):
            patterns = (*self.split.train, *self.split.validation, *self.split.test)
        return fingerprint(self.place(), find_files(self.place(), patterns))

    def identity(self) -> dict[str, Any]:
        young = {"complex"} if self.complex is None else set()  # see PhantomsSpec
        return self.model_dump(mode="json", exclude={"root", "set", "folder"} | young)

    def training_identity(self) -> dict[str, Any]:
        identity = self.identity()
        identity.pop("test")
        if not isinstance(self.split, PatientHash):  # there the fraction for tests moves the borders of all splits
            identity["split"].pop("test")
        return identity


SPECS = (PhantomsSpec, ImagesSpec)
