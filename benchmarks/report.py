"""The report of a run folder: one offline page, written from what the folder holds and nothing else."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import jinja2
import numpy as np
import yaml
from matplotlib.figure import Figure

from . import metrics, plots, statistics
from .environment import differences
from .hounsfield import RMSE_HU
from .image_grid import Panel, image_grid
from .record import Cell, Task, method_labels, read_json, read_tasks
from .statistics import Comparison, Scores, Summary
from .verdict import bracket, choose_reference, cost, duration, number, p_value, second_opinion, verdict


@dataclass
class _Section:
    """What the template shows of a task."""

    name: str
    info: Mapping[str, Any]
    verdict: str = ""
    opinion: str = ""
    cost: str = ""
    reference: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)
    hounsfield: bool = False
    figures: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    fits: list[str] = field(default_factory=list)
    published: list[str] = field(default_factory=list)
    failed: list[Cell] = field(default_factory=list)
    unfinished: list[Cell] = field(default_factory=list)


def write_report(run: Path) -> Path:
    """Write ``figures/`` and ``report.html`` into a run folder, from whatever has finished, and return the page.

    Raises:
        ValueError: if there is no run folder at ``run``, or a file in it is broken.
    """
    run = Path(run)
    if not (run / "suite.yaml").is_file():
        raise ValueError(f"{run} is not a run folder: it has no suite.yaml; expected a folder such as runs/quickstart")
    tasks = read_tasks(run)
    looks = plots.looks(method_labels(tasks))
    (run / "figures").mkdir(exist_ok=True)
    sections = [_section(run, task, looks) for task in tasks]
    environment = jinja2.Environment(
        autoescape=True,  # whatever the file is called: names, YAML and tracebacks are text
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(duration=duration, number=number)
    page = environment.get_template("report.html.j2").render(
        name=_title(run),
        sections=sections,
        looks=looks,
        overview=_overview(sections, looks),
        cells=(cells := [cell for task in tasks for cell in task.cells]),
        differences=differences([cell.status.get("environment") or {} for cell in cells]),
        environment=read_json(run / "environment.json"),
        suite=(run / "suite.yaml").read_text(encoding="utf-8"),
        metric_settings=metrics.SETTINGS,
        statistics_settings=statistics.SETTINGS,
    )
    path = run / "report.html"
    partial = path.with_suffix(".partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)
    return path


def _title(run: Path) -> str:
    """The suite's title, else the folder's name."""
    try:
        suite = yaml.safe_load((run / "suite.yaml").read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{run / 'suite.yaml'} is no YAML: {' '.join(str(error).split())}") from error
    title = suite.get("title") if isinstance(suite, dict) else None
    return str(title or run.resolve().name)


def _section(run: Path, task: Task, looks: Mapping[str, plots.Look]) -> _Section:
    section = _Section(task.name, {"title": task.name} | dict(task.info))
    section.failed = [cell for cell in task.cells if cell.state == "failed"]
    section.unfinished = [cell for cell in task.cells if cell.state not in ("failed", "done")]
    section.notes = task.notes
    fitted = {cell.method: cell for cell in reversed(task.cells) if cell.budget and cell.state == "done"}
    section.fits = [f"{fitted[method].label}: {fitted[method].budget}" for method in looks if method in fitted]
    section.published = _lines(task.info.get("published"))
    order = {method: i for i, method in enumerate(looks)}
    table = statistics.scores(sorted(task.rows, key=lambda row: order[row["method"]]))
    summaries = statistics.summarise(table)
    labels = {method: look.label for method, look in looks.items()}
    groups = {cell.method: str(cell.spec.get("group")) for cell in task.cells}
    compared = _compared(summaries, groups)
    reference, why = choose_reference(task.info.get("reference"), compared, groups)
    section.verdict = verdict(table, compared, reference, labels)
    if reference is None:
        return section
    section.opinion = second_opinion(compared, labels)
    section.cost = cost(compared, reference, labels, task.largest("seconds_fit"))
    section.reference = f"{labels[reference]} ({why})"
    comparisons = statistics.compare(table, reference)
    section.rows = _rows(task, summaries, comparisons, reference, groups)
    section.hounsfield = bool(task.mean(RMSE_HU))
    incomplete = [s for s in summaries if s.images < len(table.images)]
    section.notes += [
        f"{labels[s.method]} has numbers for {s.images} of {len(table.images)} images; its mean is over those, its "
        "difference over the images that it shares with the reference."
        for s in incomplete
    ]
    section.figures = _figures(run, task, table, compared, reference, looks)
    return section


def _compared(summaries: Sequence[Summary], groups: Mapping[str, str]) -> list[Summary]:
    """All but those that were tuned on the test images, which are shown and never judged."""
    return [s for s in summaries if groups.get(s.method) != "oracle"]


def _rows(
    task: Task,
    summaries: Sequence[Summary],
    comparisons: Mapping[str, Comparison],
    reference: str,
    groups: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Rows of the table of a task; each entry is what is shown and what is sorted by."""
    fits, memory, parameters = (task.largest(key) for key in ("seconds_fit", "peak_memory_mb", "parameters"))
    compared = _compared(summaries, groups)
    best = {m: max((s.mean[m] for s in compared if not math.isnan(s.mean[m])), default=math.nan) for m in metrics.NAMES}
    best["nrmse"] = min((s.mean["nrmse"] for s in compared if not math.isnan(s.mean["nrmse"])), default=math.nan)
    hounsfield = task.mean(RMSE_HU)
    least = min((hounsfield[s.method] for s in compared if s.method in hounsfield), default=math.nan)
    rows = []
    for s in summaries:
        entries: list[dict[str, Any]] = []
        for metric, digits in (("psnr", 2), ("ssim", 3), ("nrmse", 3), ("haarpsi", 3)):
            spread = f" ± {number(s.sd[metric], digits)}" if not math.isnan(s.sd[metric]) else ""
            entries.append(
                {
                    "sort": s.mean[metric],
                    "text": number(s.mean[metric], digits) + spread,
                    "small": bracket(s.interval[metric], digits).strip(),
                    "best": s.mean[metric] == best[metric] and s in compared and len(compared) > 1,
                }
            )
        if hounsfield:  # CT alone
            error = hounsfield.get(s.method, math.nan)
            entries.append({"sort": error, "text": number(error, 1), "best": error == least and len(compared) > 1})
        c = comparisons.get(s.method)
        if c is None:
            entries += [{"sort": 0.0, "text": "reference", "small": ""}, {"text": ""}, {"text": ""}]
        else:
            sign = "+" if c.difference > 0 else ""
            entries += [
                {
                    "sort": c.difference,
                    "text": sign + number(c.difference),
                    "small": bracket(c.interval).strip(),
                    "best": c.clear and c.difference > 0,
                },
                {"sort": c.p, "text": p_value(c.p)},
                {"sort": c.wins, "text": "–" if math.isnan(c.wins) else f"{100 * c.wins:.0f} %"},
            ]
        fit, count, peak = (part.get(s.method, math.nan) for part in (fits, parameters, memory))
        entries += [
            {"sort": s.seconds, "text": duration(s.seconds)},
            {"sort": fit, "text": duration(fit) if fit > 0 else "–"},
            {"sort": count, "text": plots.short(int(count)) if count > 0 else "–"},
            {"sort": peak, "text": f"{peak:.0f} MB" if peak > 0 else "–"},
        ]
        if any(other.seeds > 1 for other in summaries):
            text = f"± {number(s.seed_spread['psnr'])} ({s.seeds})" if s.seeds > 1 else "–"
            entries.append({"sort": s.seed_spread["psnr"], "text": text})
        rows.append({"method": s.method, "group": groups.get(s.method, ""), "entries": entries})
    return rows


def _figures(
    run: Path,
    task: Task,
    table: Scores,
    summaries: Sequence[Summary],
    reference: str,
    looks: Mapping[str, plots.Look],
) -> list[dict[str, str]]:
    figures: list[dict[str, str]] = []

    def add(kind: str, title: str, drawn: tuple[Figure, str], lead: str = "") -> None:
        stem = run / "figures" / f"{kind}-{task.name}"
        plots.save(drawn[0], stem, raster=kind == "grid")
        svg = plots.themed(stem.with_name(stem.name + ".svg").read_text(encoding="utf-8"))
        uri = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
        width = drawn[0].get_size_inches()[0]
        figures.append({"title": title, "uri": uri, "caption": lead + drawn[1], "rem": f"{width * 6:.1f}"})

    chosen = _typical(run, task, table, reference, looks)
    if chosen is not None:
        image, truth, panels = chosen
        low, high = task.info.get("display") or (float(np.nanmin(truth)), float(np.nanmax(truth)))
        seed = "; first training seed" if max(table.seeds.values()) > 1 else ""
        lead = f"Image {image}: of those stored the closest to the median PSNR of {looks[reference].label}{seed}. "
        drawn = image_grid(truth, panels, (low, high), str(task.info.get("units") or ""))
        add("grid", "Reconstructions and errors", drawn, lead)
    patients = len(set(table.patients))
    add("box", "Scores of every image", plots.box_plot(table.values, table.methods, looks, patients))
    if len(summaries) > 1:
        points = {s.method: (s.seconds, s.mean["psnr"]) for s in summaries}
        parameters = {method: int(count) for method, count in task.largest("parameters").items()}
        add("pareto", "Quality against time", plots.pareto(points, looks, parameters))
    curves: dict[str, dict[str, Any]] = {}
    for cell in task.cells:
        known = [row for row in cell.fit.get("curve") or () if row.get("validation_psnr") is not None]
        if len(known) > 1 and cell.state == "done" and cell.spec.get("group") != "oracle":
            curves.setdefault(cell.method, {"curve": known, "axis": cell.fit.get("axis")})
    if curves:
        ordered = {method: curves[method] for method in looks if method in curves}
        add("tuning", "Tuning and training", plots.tuning(ordered, looks))
    return figures


def _typical(
    run: Path, task: Task, table: Scores, reference: str, looks: Mapping[str, plots.Look]
) -> tuple[str, np.ndarray, list[Panel]] | None:
    """The image to show, its truth and its reconstructions; None where nothing is stored."""
    measurements = run / "tasks" / task.name / "measurements.h5"
    if not measurements.is_file():
        return None
    stored: dict[str, tuple[Path, list[str]]] = {}
    for cell in task.cells:
        path = cell.folder / "reconstructions.h5"
        if cell.state == "done" and cell.method in table.methods and cell.method not in stored and path.is_file():
            with h5py.File(path, "r") as file:
                data = file["reconstruction"]
                ids = data.attrs.get("images", file.attrs.get("images", task.info.get("images", [])))
                stored[cell.method] = (path, [str(image) for image in ids][: len(data)])
    with h5py.File(measurements, "r") as file:
        group = file["test"]
        known = [str(i) for i in (group["ids"].asstr()[:] if "ids" in group else task.info.get("images", []))]
        common = [i for i in known if i in table.images and all(i in ids for _, ids in stored.values())]
        if not stored or not common:
            return None
        psnr = table.values["psnr"][table.methods.index(reference)]
        at = {image: table.images.index(image) for image in common}
        middle = np.median(psnr[np.isfinite(psnr)]) if np.isfinite(psnr).any() else 0.0
        image = min(common, key=lambda i: abs(psnr[at[i]] - middle) if np.isfinite(psnr[at[i]]) else math.inf)
        truth = _magnitude(group["truth"][known.index(image)])
    panels = []
    for method in (m for m in looks if m in stored):
        path, ids = stored[method]
        with h5py.File(path, "r") as file:
            picture = _magnitude(file["reconstruction"][ids.index(image)])
        row = table.methods.index(method)
        score = (float(table.values[m][row, at[image]]) for m in ("psnr", "ssim"))
        panels.append(Panel(looks[method], picture, *score))
    return image, truth, panels


def _magnitude(image: np.ndarray) -> np.ndarray:
    """[C, H, W] → [H, W]: the image, or the magnitude of a complex one."""
    return image[0] if image.shape[0] == 1 else np.sqrt((image**2).sum(0))


def _overview(sections: Sequence[_Section], looks: Mapping[str, plots.Look]) -> list[dict[str, Any]]:
    """Mean PSNR of every method (row) on every task (column)."""
    lines = []
    for method in looks:
        entries = []
        for section in sections:
            row = next((row for row in section.rows if row["method"] == method), None)
            failed = any(cell.method == method for cell in section.failed)
            absent = {"sort": math.nan, "text": "failed" if failed else "–", "best": False}
            if row is None:
                entries.append(absent)
            else:
                mean = row["entries"][0]
                entries.append({"sort": mean["sort"], "text": number(mean["sort"]), "best": mean["best"]})
        lines.append({"method": method, "entries": entries})
    return lines


def _lines(value: Any) -> list[str]:
    """Plain data as lines of text."""
    if not value:
        return []
    if isinstance(value, Mapping):
        return [f"{key}: {item}" for key, item in value.items()]
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]
