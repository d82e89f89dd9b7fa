"""The report of a run folder: one offline page, written from what the folder holds and nothing else."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jinja2
import yaml
from matplotlib import colormaps

from . import charts, metrics, perturbations, plots, statistics, viewer
from .environment import differences
from .image_grid import image_grid
from .judgement import Judgement, judge
from .record import Cell, Task, method_labels, read_json, read_tasks
from .report_tables import Entry, Table, published_table, scores_table, write_latex, write_means, write_scores
from .sweeps import families, phrase
from .units import Scale
from .verdict import cost, luck, second_opinion, verdict


@dataclass
class _Drawing:
    """A figure on the page; ``print_only`` where something better is on the screen."""

    title: str
    uri: str
    caption: str
    rem: str
    print_only: bool = False


@dataclass
class _Section:
    """What the template shows of a task."""

    name: str
    info: Mapping[str, Any]
    result: Judgement
    verdict: str = ""
    remarks: list[str] = field(default_factory=list)
    cost: str = ""
    table: Table = field(default_factory=Table)
    published: list[dict[str, str]] = field(default_factory=list)
    figures: list[_Drawing] = field(default_factory=list)
    perturbed: Table = field(default_factory=Table)
    images: dict[str, Any] | None = None
    images_note: str = ""
    data_range: str = ""
    notes: list[str] = field(default_factory=list)
    fits: list[str] = field(default_factory=list)
    failed: list[Cell] = field(default_factory=list)
    unfinished: list[Cell] = field(default_factory=list)


def write_report(run: Path) -> Path:
    """Write ``figures/``, ``tables/`` and ``report.html`` into a run folder, from what has finished; return the page.

    Raises:
        ValueError: if there is no run folder at ``run``, or a file in it is broken.
    """
    run = Path(run)
    if not (run / "suite.yaml").is_file():
        raise ValueError(f"{run} is not a run folder: it has no suite.yaml; expected a folder such as runs/quickstart")
    suite = _suite(run)
    tasks = read_tasks(run)
    labels = method_labels(tasks)
    looks = plots.looks(labels)
    for folder in ("figures", "tables"):
        (run / folder).mkdir(exist_ok=True)
    results = [judge(task, list(looks)) for task in tasks]
    sections = [_section(task, result, labels) for task, result in zip(tasks, results, strict=True)]
    _show(run, tasks, sections, looks)
    templates = jinja2.Environment(
        autoescape=True,  # whatever the file is called: names, YAML and tracebacks are text
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = templates.get_template("report.html.j2").render(
        name=str(suite.get("title") or run.resolve().name),
        sections=sections,
        looks=looks,
        overview=_overview(run, sections, labels),
        overview_title=_overview_title(sections),
        summary_figures=_summary_figures(run, tasks, sections, looks),
        cells=(cells := [cell for task in tasks for cell in task.cells]),
        differences=differences([cell.status.get("environment") or {} for cell in cells]),
        environment=read_json(run / "environment.json"),
        plugins=[str(plugin) for plugin in suite.get("plugins") or ()],
        suite=(run / "suite.yaml").read_text(encoding="utf-8"),
        metric_settings=metrics.SETTINGS,
        statistics_settings=statistics.SETTINGS,
        error_colours=[[round(255 * c) for c in colormaps["inferno"](i)[:3]] for i in range(256)],
    )
    path = run / "report.html"
    partial = path.with_suffix(".partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)
    return path


def _suite(run: Path) -> dict[str, Any]:
    try:
        suite = yaml.safe_load((run / "suite.yaml").read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{run / 'suite.yaml'} is no YAML: {' '.join(str(error).split())}") from error
    return suite if isinstance(suite, dict) else {}


def _section(task: Task, result: Judgement, labels: Mapping[str, str]) -> _Section:
    section = _Section(task.name, {"title": task.name} | dict(task.info), result)
    if "data_range" in task.info:
        scale = Scale.of_values(task.info)
        section.data_range = f"{scale.factor * task.info['data_range']:g} {scale.unit}".strip()
    section.failed = [cell for cell in task.cells if cell.state == "failed"]
    section.unfinished = [cell for cell in task.cells if cell.state not in ("failed", "done")]
    section.notes = task.notes
    fitted = {cell.method: cell for cell in reversed(task.cells) if cell.budget and cell.state == "done"}
    section.fits = [f"{fitted[method].label}: {fitted[method].budget}" for method in labels if method in fitted]
    section.published = published_table(task, result, labels)
    reference, metric = result.reference, result.measure.name
    section.verdict = verdict(result.table, result.judged, reference, labels, metric, result.units)
    if reference is None:
        return section
    remarks = [second_opinion(result.judged, labels, metric), luck(result.judged, labels, result.groups, metric)]
    section.remarks = [remark for remark in remarks if remark]
    section.cost = cost(result.judged, reference, labels, task.largest("seconds_fit"), metric)
    section.table = scores_table(task, result)
    images = len(result.table.images)
    section.notes += [
        f"{labels[s.method]} has numbers for {s.images} of {images} images; its mean is over those, its difference "
        "over the images that it shares with the reference."
        for s in result.summaries
        if s.images < images
    ]
    return section


def _show(run: Path, tasks: Sequence[Task], sections: Sequence[_Section], looks: Mapping[str, plots.Look]) -> None:
    """Figures, images and table files of every task."""
    chosen: list[list[viewer.Picture]] = []
    for task, section in zip(tasks, sections, strict=True):
        result = section.result
        if result.reference is None:
            chosen.append([])
            continue
        chosen.append(viewer.pictures(run, task, result, looks))
        section.figures = _figures(run, task, result, chosen[-1], looks)
        stem = run / "tables" / task.name
        labels = {method: look.label for method, look in looks.items()}
        write_scores(stem, task, result, labels)
        write_latex(stem, section.table, labels, f"{section.info['title']}: {section.verdict}")
        if found := perturbations.perturbed(task, result):
            drawn = perturbations.draw(found, result, looks)
            section.figures.append(_drawing(run, f"attack-{task.name}", "Perturbed measurements", drawn))
            section.perturbed = perturbations.perturbation_table(found, result)
            stem = run / "tables" / f"attack-{task.name}"
            perturbations.write_perturbations(stem, found, result, labels)
            heading = result.measure.heading(result.units)
            write_latex(stem, section.perturbed, labels, f"{section.info['title']}: mean {heading} when perturbed")
    kept, side = viewer.thin(chosen)
    for section, group in zip(sections, kept, strict=True):
        if group:
            section.images = viewer.pack(group, section.info, side)
            assert section.result.reference is not None
            about = _about(group, side, section.result, looks[section.result.reference].label)
            section.images_note = viewer.clipping(section.info) + about


def _about(group: Sequence[viewer.Picture], side: int, result: Judgement, reference: str) -> str:
    """By which rule the images were chosen, and what was done to them."""
    which = " and ".join([", ".join(p.rank for p in group[:-1]), group[-1].rank] if len(group) > 1 else [group[0].rank])
    several = "; networks with their first training seed" if max(result.table.seeds.values()) > 1 else ""
    size = f" To keep this page small, {side} × {side} pixels are averaged." if side > 1 else ""
    return (
        f"The images with the {which} {result.measure.title} of {reference}{several}. All share one zoom, one window "
        f"and one error scale, which starts at the 99.5 % quantile of the middle method.{size} Drag to move, double "
        "click, pinch or Ctrl and the wheel to zoom, Shift and drag for level and window."
    )


def _figures(
    run: Path, task: Task, result: Judgement, pictures: Sequence[viewer.Picture], looks: Mapping[str, plots.Look]
) -> list[_Drawing]:
    assert result.reference is not None
    figures: list[_Drawing] = []
    table, measure, units = result.table, result.measure, result.units
    if pictures:
        shown = next(picture for picture in pictures if picture.rank == "median")
        scale = Scale.of_images(task.info)
        truth, display = scale(shown.truth), viewer.window(task.info, shown.truth)
        panels = [replace(panel, image=scale(panel.image)) for panel in shown.panels]
        seed = "; first training seed" if max(table.seeds.values()) > 1 else ""
        lead = f"Image {shown.id}: the median {measure.title} of {looks[result.reference].label}{seed}. "
        lead += viewer.clipping(task.info)
        grid, caption = image_grid(truth, panels, display, scale.unit)
        figures.append(_drawing(run, f"grid-{task.name}", "Reconstructions and errors", (grid, lead + caption)))
        figures[-1].print_only = True
    values = {m.name: table.values[m.name] for m in result.pair}
    drawn = charts.distributions(values, table.methods, looks, len(set(table.patients)), result.pair, units)
    figures.append(_drawing(run, f"box-{task.name}", "Scores of every image", drawn))
    if len(result.judged) > 1:
        counts = task.largest("parameters")
        points = {s.method: (s.seconds, counts.get(s.method, 0.0), s.mean[measure.name]) for s in result.judged}
        drawn = charts.pareto(points, looks, measure, units)
        figures.append(_drawing(run, f"pareto-{task.name}", "Quality against time and size", drawn))
    done = [cell for cell in task.cells if cell.state == "done"]
    traces = {cell.method: cell.trace for cell in reversed(done) if cell.trace}
    if traces:
        ordered = {method: traces[method] for method in looks if method in traces}
        drawn = charts.convergence(ordered, looks, table.images[0])
        figures.append(_drawing(run, f"convergence-{task.name}", "Convergence", drawn))
    curves: dict[str, dict[str, Any]] = {}
    for cell in done:
        known = [row for row in cell.fit.get("curve") or () if row.get("validation_psnr") is not None]
        if len(known) > 1 and cell.spec.get("group") != "oracle":
            curves.setdefault(cell.method, {"curve": known, "axis": cell.fit.get("axis")})
    if curves:
        drawn = charts.tuning({method: curves[method] for method in looks if method in curves}, looks)
        figures.append(_drawing(run, f"tuning-{task.name}", "Tuning and training", drawn))
    return figures


def _summary_figures(
    run: Path, tasks: Sequence[Task], sections: Sequence[_Section], looks: Mapping[str, plots.Look]
) -> list[_Drawing]:
    figures = []
    columns = []
    for section in sections:
        result = section.result
        known = {s.method: result.comparisons[s.method] for s in result.judged if s.method in result.comparisons}
        # A direct reconstruction is so far off that nothing else could be read; it is left out beside others.
        column = {method: c for method, c in known.items() if result.groups.get(method) != "direct"} or known
        if column and not section.info.get("family"):  # families have curves
            columns.append((str(section.info["title"]), column))
    if columns:
        figures.append(_drawing(run, "differences", "Differences to the reference", charts.forest(columns, looks)))
    for family in families(tasks, [section.result for section in sections]):
        drawn = family.draw(looks)
        figures.append(_drawing(run, f"sweep-{family.name}", f"{family.name} against {phrase(family.across)}", drawn))
    return figures


def _drawing(run: Path, stem: str, title: str, drawn: charts.Drawn) -> _Drawing:
    """Write a figure into ``figures/``, and make it ready for the page."""
    path = run / "figures" / stem
    plots.save(drawn[0], path)
    svg = plots.themed(path.with_name(path.name + ".svg").read_text(encoding="utf-8"))
    uri = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
    return _Drawing(title, uri, drawn[1], f"{drawn[0].get_size_inches()[0] * 6:.1f}")


def _overview_title(sections: Sequence[_Section]) -> str:
    """``Mean PSNR [dB]``, or ``Means`` where tasks are led by several measures or units."""
    headings = {s.result.measure.heading(s.result.units) for s in sections if s.table.rows}
    return f"Mean {headings.pop()}" if len(headings) == 1 else "Means"


def _overview(run: Path, sections: Sequence[_Section], labels: Mapping[str, str]) -> Table:
    """The leading mean of every method on every task."""
    finished = [section for section in sections if section.table.rows]
    columns = [(str(s.info["title"]), f"mean {s.result.measure.heading(s.result.units)}") for s in finished]
    rows = []
    for method in labels:
        entries = []
        for section in finished:
            found = dict(section.table.rows).get(method)
            failed = any(cell.method == method for cell in section.failed)
            if found is None:
                entries.append(Entry("failed" if failed else "–"))
                continue
            mean = found[0].sort
            entries.append(Entry(section.result.measure.text(mean), mean, best=found[0].best))
        rows.append((method, entries))
    table = Table(columns, rows if columns else [])
    if table.rows:
        write_means(run / "tables" / "overview", table, labels)
        write_latex(run / "tables" / "overview", table, labels, "Means of the leading measure of every task.")
    return table
