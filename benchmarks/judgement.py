"""Everything that the statistics say about a task, worked out once for all tables and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .bootstrap import rank_intervals
from .metrics import MEASURES, Measure
from .record import Task
from .statistics import Comparison, Scores, Summary, compare, scores, summarise
from .units import Scale
from .verdict import choose_reference


@dataclass(frozen=True)
class Judgement:
    """The numbers of a task.

    Attributes:
        measure: the one that leads: ``metric`` in ``task.json``, PSNR where there is none.
        units: that errors of the images are shown in; all numbers of a judgement are in it.
        table: scores of every image.
        groups: ``"direct"``, ``"classical"``, ``"learned"`` or ``"oracle"`` by method.
        summaries: of all methods that have results.
        judged: of those that may be called best; one that was tuned on the test images may not.
        reference: whom the others are compared with, None where nothing has finished, and why.
        comparisons: with the reference, by method.
        ranks: interval of the place among the judged, by method.
    """

    measure: Measure
    units: str
    table: Scores
    groups: Mapping[str, str]
    summaries: list[Summary]
    judged: list[Summary]
    reference: str | None
    why: str
    comparisons: Mapping[str, Comparison]
    ranks: Mapping[str, tuple[int, int] | None]

    @property
    def pair(self) -> list[Measure]:
        """The leading measure and one beside it, where there is room for two."""
        return [MEASURES[name] for name in dict.fromkeys((self.measure.name, "psnr", "ssim"))][:2]


def judge(task: Task, methods: list[str]) -> Judgement:
    """Of a task as its folder tells.

    Args:
        task: the task.
        methods: of the run, in the order of its tables.
    """
    order = {method: i for i, method in enumerate(methods)}
    measure = MEASURES.get(str(task.info.get("metric")), MEASURES["psnr"])
    groups = {cell.method: str(cell.spec.get("group")) for cell in task.cells}
    scale = Scale.of_values(task.info)
    table = in_shown_units(scores(sorted(task.rows, key=lambda row: order[row["method"]])), scale)
    summaries = summarise(table)
    judged = [s for s in summaries if groups.get(s.method) != "oracle"]
    reference, why = choose_reference(task.info.get("reference"), judged, groups, measure.name)
    values = table.values[measure.name][[table.methods.index(s.method) for s in judged]]
    ranks = rank_intervals(-values if measure.error else values, table.patients)
    return Judgement(
        measure=measure,
        units=scale.unit,
        table=table,
        groups=groups,
        summaries=summaries,
        judged=judged,
        reference=reference,
        why=why,
        comparisons={} if reference is None else compare(table, reference, measure.name),
        ranks=dict(zip((s.method for s in judged), ranks, strict=True)),
    )


def in_shown_units(table: Scores, scale: Scale) -> Scores:
    """The same scores, with errors of the images in the unit that they are shown in."""
    factors = {name: scale.factor for name, measure in MEASURES.items() if measure.has_image_units}

    def scaled(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: factors.get(name, 1.0) * value for name, value in values.items()}

    spread = {method: scaled(values) for method, values in table.seed_spread.items()}
    return replace(table, values=scaled(table.values), seed_spread=spread)
