"""A suite: what a YAML file may say, and the one line that a mistake in it ends in."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, create_model, model_validator

from . import classical_specs, data_specs, learned_specs, noise_specs, physics_specs
from .extends import extend
from .grids import expand_grids
from .noise_specs import NoNoiseSpec
from .overrides import override
from .plugins import Plugins, load_plugins
from .spec import (
    SINGLE,
    Count,
    DatasetSpec,
    MethodSpec,
    Name,
    NoiseSpec,
    PhysicsSpec,
    Positive,
    Spec,
    SuitePath,
    did_you_mean,
    mistake,
)
from .yaml_lines import Lines, Place, SuiteError, load

if TYPE_CHECKING:
    from .attack import Attack


class Published(Spec):
    """A row of a table in the literature, which a report shows beside our own results and never counts among them.

    ``label`` is what the source calls the method; ``method`` is ours that it stands beside, if the suite runs one.
    ``rmse`` is in the unit of the images, 1/mm for attenuations. ``note`` says what differs from this task.
    """

    label: str
    method: Name | None = None
    psnr: float | None = None
    ssim: float | None = None
    rmse: Positive | None = None
    parameters: Count | None = None
    source: str
    note: str = ""

    @model_validator(mode="after")
    def _has_a_number(self) -> Published:
        if self.psnr is None and self.ssim is None and self.rmse is None:
            raise mistake(f"{self.label} was published with no number; give psnr, ssim or rmse")
        return self


class AttackSpec(Spec):
    """Worst-case perturbations of the measurements; see :class:`isocenter.benchmarks.attack.Attack`."""

    strengths: tuple[Positive, ...] = Field((0.01,), min_length=1)
    steps: Count = 20
    images: Count = 8

    def build(self) -> Attack:
        from .attack import Attack

        return Attack(**self.model_dump())


class Task(Spec):
    """Images, an operator and noise: what every method is given.

    ``grid`` makes several tasks of one, see :func:`isocenter.benchmarks.grids.expand_grids`; these are a ``family``,
    and ``sweep`` holds what each of them has of the grid. Measurements of a family share their random numbers.

    With ``fitted_on`` methods are tuned and trained on another task and used here as they are: both sides of a
    comparison know as little of this one. With ``clip`` the values of reconstructions are clipped to these bounds
    before they are judged, as some papers do. With ``attack`` the worst perturbations of measurements are looked for.
    """

    title: str = ""
    data: Name = SINGLE
    physics: PhysicsSpec
    noise: NoiseSpec
    labels: tuple[str, ...] = ()
    methods: tuple[Name, ...] | None = None
    grid: Mapping[str, tuple[Any, ...]] | None = Field(
        None, exclude=True, description="Paths in the task with lists of values; every combination becomes a task."
    )
    family: Name | None = None
    sweep: Mapping[str, bool | int | float | str | None] = {}
    fitted_on: Name | None = None
    clip: tuple[float, float] | None = None
    attack: AttackSpec | None = None
    published: tuple[Published, ...] = ()

    @model_validator(mode="after")
    def _sweep_of_a_family(self) -> Task:
        if self.sweep and self.family is None:
            raise mistake("a sweep needs a family, the name that its tasks share", "sweep")
        return self

    @model_validator(mode="after")
    def _noise_fits(self) -> Task:
        wanted, measured = self.noise.falls_on, self.physics.measures
        if wanted is not None and measured not in (wanted, "anything"):
            raise mistake(
                f"{self.noise.kind} noise is a model of {wanted}, {self.physics.kind} measures {measured}",
                "noise",
                "kind",
            )
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            raise mistake(f"values are clipped to {self.clip[0]:g} … {self.clip[1]:g}; expected low < high", "clip")
        return self


class Suite(Spec):
    """A benchmark as plain data: every method on every task, once for each of its seeds.

    ``extends`` names a suite to begin with, see :func:`isocenter.benchmarks.extends.extend`.
    ``reference`` is the method that the others are compared with, ``metric`` what the report leads with, and
    ``time_limit`` the seconds that a cell may take. Specs of plugins are named like built-in ones.
    """

    extends: str | None = Field(None, exclude=True, description="Built-in name or path of a suite to begin with.")
    name: Name
    title: str = ""
    description: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    plugins: tuple[SuitePath, ...] = ()
    data: Mapping[Name, DatasetSpec] = Field(min_length=1)
    methods: tuple[MethodSpec, ...] = Field(min_length=1)
    tasks: Mapping[Name, Task] = Field(min_length=1)
    reference: Name | None = None
    metric: Literal["psnr", "ssim", "rmse", "nrmse", "haarpsi"] = "psnr"
    time_limit: Positive | None = None

    @model_validator(mode="after")
    def _names_exist(self) -> Suite:
        names = [method.key for method in self.methods]
        for i, name in enumerate(names):
            if name in names[:i]:
                raise mistake(f"two methods are called {name!r}; give one of them another name", "methods", i, "name")
        if self.reference is not None and self.reference not in names:
            raise mistake(f"no method is called {self.reference!r}{did_you_mean(self.reference, names)}", "reference")
        if any(method.key == self.reference and method.oracle for method in self.methods):
            raise mistake(f"{self.reference!r} is tuned on the test images and cannot be the reference", "reference")
        for i, method in enumerate(self.methods):
            for name in method.trained_on():
                if not self.tasks_called(name):
                    hint = did_you_mean(name, self.task_names)
                    raise mistake(f"no task is called {name!r}{hint}", "methods", i, "train_on")
        for key, task in self.tasks.items():
            if task.data not in self.data:
                raise mistake(
                    f"no data is called {task.data!r}{did_you_mean(task.data, self.data)}", "tasks", key, "data"
                )
            for i, name in enumerate(task.methods or ()):
                if name not in names:
                    raise mistake(
                        f"no method is called {name!r}{did_you_mean(name, names)}", "tasks", key, "methods", i
                    )
            if task.fitted_on is not None:
                self._can_be_fitted_on(key, task.fitted_on)
            for i, row in enumerate(task.published):
                if row.method is not None and row.method not in names:
                    hint = did_you_mean(row.method, names)
                    raise mistake(f"no method is called {row.method!r}{hint}", "tasks", key, "published", i, "method")
        return self

    def tasks_called(self, name: str) -> tuple[str, ...]:
        """The tasks that a name stands for: the one that has it, or those of its family; none where there are none."""
        if name in self.tasks:
            return (name,)
        return tuple(key for key, task in self.tasks.items() if task.family == name)

    @property
    def task_names(self) -> tuple[str, ...]:
        """Every name that tasks may be called by: their own and their families'."""
        return tuple(dict.fromkeys(n for key, task in self.tasks.items() for n in (key, task.family) if n is not None))

    def _can_be_fitted_on(self, task: str, other: str) -> None:
        place = ("tasks", task, "fitted_on")
        if other not in self.tasks or other == task:
            others = [name for name in self.tasks if name != task]
            raise mistake(f"no other task is called {other!r}{did_you_mean(other, others)}", *place)
        if self.tasks[other].fitted_on is not None:
            raise mistake(f"{other!r} is itself fitted on {self.tasks[other].fitted_on!r}; name that one", *place)
        known = [method.key for method in self.methods_of(other)]
        for method in self.methods_of(task):
            if method.needs() and not method.trained_on() and method.weights is None and method.key not in known:
                raise mistake(f"{method.key} is not run on {other!r} and cannot be fitted there", *place)

    def methods_of(self, task: str) -> tuple[MethodSpec, ...]:
        """The methods that a task is run with."""
        chosen = self.tasks[task].methods
        return tuple(method for method in self.methods if chosen is None or method.key in chosen)

    def dump(self) -> str:
        """The resolved suite as YAML: every default written out, paths absolute; loads to the same suite."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


@dataclass(frozen=True)
class LoadedSuite:
    """A suite with the file that it came from, so that errors found later can name the line as well."""

    suite: Suite
    file: Path
    lines: Lines
    plugins: Plugins

    @contextlib.contextmanager
    def at(self, *place: str | int) -> Iterator[None]:
        """Turn a mistake found while building into a :class:`SuiteError` that names the line of ``place``."""
        try:
            yield
        except SuiteError:
            raise
        except (ValueError, OSError) as error:
            raise self.lines.error(place, str(error)) from error


def load_suite(name_or_path: str | Path, overrides: Sequence[str] = ()) -> LoadedSuite:
    """Read, check and resolve a suite.

    Args:
        name_or_path: a built-in name, or a path to a YAML file.
        overrides: ``a.b=c``, applied before anything is checked.

    Raises:
        SuiteError: one line for whatever is wrong.
    """
    file = find_suite(name_or_path)
    raw, lines = _read(file)
    for text in overrides:
        override(raw, lines, text)
    if isinstance(raw.get("data"), dict) and isinstance(raw["data"].get("kind"), str):
        raw["data"] = {SINGLE: raw["data"]}
        lines.move(("data",), ("data", SINGLE))
    expand_grids(raw, lines)
    raw.setdefault("name", file.stem)
    plugins = load_plugins(raw, file.parent, lines)
    model = suite_model(plugins.specs)
    try:
        suite = model.model_validate(raw, context={"folder": file.parent.resolve()})
    except ValidationError as error:
        raise explain(error, raw, lines) from error
    return LoadedSuite(suite, file, lines, plugins)


def plugins_of(name_or_path: str | Path) -> Plugins:
    """The plugins of a suite, whatever else it says."""
    file = find_suite(name_or_path)
    raw, lines = _read(file)
    return load_plugins(raw, file.parent, lines)


def _read(file: Path) -> tuple[dict[str, Any], Lines]:
    """What a file says, with what it extends."""
    raw, lines = load(file)
    if not isinstance(raw, dict):
        raise lines.error((), "a suite is a mapping with name, data, methods and tasks")
    return extend(raw, lines, lambda name: find_suite(name, file.parent)), lines


def built_in_suites() -> dict[str, Path]:
    """Suites that come with the package, by name."""
    folder = Path(str(files(__package__) / "suites"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_suite(name_or_path: str | Path, folder: Path = Path()) -> Path:
    """The file of a suite; paths are relative to ``folder``."""
    known = built_in_suites()
    if str(name_or_path) in known:
        return known[str(name_or_path)]
    name = str(name_or_path)
    with contextlib.suppress(OSError):  # a name that cannot be one of a file
        path = folder / Path(name).expanduser()
        if path.is_dir() and (path / "suite.yaml").is_file():
            return path / "suite.yaml"  # the suite of a run
        if path.is_file():
            return path
    raise SuiteError(f"there is no suite {name!r}, neither built in nor as a file{did_you_mean(name, known)}")


def suite_model(plugin_specs: Sequence[type[Spec]] = ()) -> type[Suite]:
    """The suite with every family of specs as a union over ``kind``, plugins' specs included."""
    family: dict[type[Spec], list[type[Spec]]] = {
        base: [*built_in, *(s for s in plugin_specs if issubclass(s, base))]
        for base, built_in in (
            (DatasetSpec, data_specs.SPECS),
            (PhysicsSpec, physics_specs.SPECS),
            (NoiseSpec, noise_specs.SPECS),
            (MethodSpec, (*classical_specs.SPECS, *learned_specs.SPECS)),
        )
    }

    def union(base: type[Spec]) -> Any:
        return Annotated[functools.reduce(operator.or_, family[base]), Field(discriminator="kind")]

    task = create_model(
        "Task", __base__=Task, physics=(union(PhysicsSpec), ...), noise=(union(NoiseSpec), NoNoiseSpec())
    )
    return create_model(
        "Suite",
        __base__=Suite,
        data=(dict[Name, union(DatasetSpec)], Field(min_length=1)),  # type: ignore[misc, arg-type]
        methods=(tuple[union(MethodSpec), ...], Field(min_length=1)),  # type: ignore[misc, arg-type]
        tasks=(dict[Name, task], Field(min_length=1)),  # type: ignore[valid-type]
    )


def explain(error: ValidationError, raw: Any, lines: Lines) -> SuiteError:
    """The first mistake, in the order of the file, as one line; says how many more there are."""
    found = []
    for details in error.errors():
        if details["type"] == "too_short" and details["input"]:
            continue  # items that are wrong themselves are reported below; to pydantic there are none left
        place = _place(raw, details["loc"])
        key: str | None = None
        context = details.get("ctx", {})
        message = details["msg"].removeprefix("Value error, ")
        given = f"is {_short(details['input'])}, expected "
        match details["type"]:
            case "suite":
                place += tuple(context["at"])
                if message.startswith("unknown key"):
                    place, key = place[:-1], str(place[-1])
            case "missing":
                message, place = f"{place[-1]!r} is missing", place[:-1]
            case "union_tag_not_found":
                message = "'kind' is missing; `isocenter list` shows what there is"
            case "union_tag_invalid":
                known = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
                message, key = f"unknown kind {context['tag']!r}{did_you_mean(context['tag'], known)}", "kind"
            case "string_pattern_mismatch":
                message = f"{given}a name of letters, digits and . _ + -"
            case "too_short":
                message = f"{given}at least one"
            case "model_type" | "model_attributes_type" | "dict_type":
                message = f"{given}a mapping of keys to values"
            case kind if kind != "value_error":
                expected = message.removeprefix("Input should be ")
                message = f"{given}{expected[0].lower()}{expected[1:]}"
        found.append((lines.line((*place, key) if key else place), place, message, key))
    _, place, message, key = min(found, key=lambda entry: entry[0])
    others = len({(line, message) for line, _, message, _ in found}) - 1  # tasks of a grid share their mistakes
    more = f" ({others} more after it)" if others else ""
    return lines.error(place, message + more, key)


def _place(raw: Any, location: Sequence[str | int]) -> Place:
    """pydantic's location without the tags of unions that it puts between keys."""
    place: list[str | int] = []
    value = raw
    for position, step in enumerate(location):
        last = position == len(location) - 1
        if isinstance(value, Mapping):
            if step not in value and step == value.get("kind"):
                continue
            if step == "[key]":
                break
            value = value.get(step)
        elif isinstance(value, Sequence) and not isinstance(value, str) and isinstance(step, int):
            value = value[step] if step < len(value) else None
        elif not last or not isinstance(step, str):
            continue
        else:
            break
        place.append(step)
    return tuple(place)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
