"""Perturbed measurements in the report: numbers with known answers, lines, files, and text that stays text."""

from __future__ import annotations

import csv
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from isocenter.benchmarks.attack import COLUMNS
from isocenter.benchmarks.judgement import judge
from isocenter.benchmarks.perturbations import draw, perturbation_table, perturbed
from isocenter.benchmarks.plots import looks
from isocenter.benchmarks.record import Task, method_labels, read_tasks
from isocenter.benchmarks.report import write_report

LOSSES = {"tv": 40.0, "evil": 100.0}  # dB for each unit of ‖e‖ / ‖y‖ of the worst kind; a fourth of it at random
EVIL = "<script>alert('$x$')</script>"


def rows(images: int, strengths: tuple[float, ...] = (0.01, 0.02), seeds: int = 1) -> list[dict[str, str]]:
    """Of ``attack.csv``: images start at 30, 31, … dB; another seed has 1 dB more; evil has no worst perturbation."""
    found = []
    for method, loss in LOSSES.items():
        for seed in range(seeds):
            for i in range(images):
                own = {"task": "ct-30", "method": method, "seed": str(seed), "image": f"i{i}", "patient": f"p{i}"}
                cases = [(0.0, "none", 0.0)]
                cases += [(s, "random", s * loss / 4) for s in strengths]
                cases += [(s, "worst", s * loss) for s in strengths if method == "tv"]
                for strength, kind, less in cases:
                    psnr = 30 + i + seed - less
                    values = {"psnr": str(psnr), "rmse": str(10 ** (-psnr / 20)), "ssim": "0.9"}
                    found.append({**own, "strength": str(strength), "perturbation": kind, **values})
    return found


def task(images: int, info: dict | None = None, **kwargs: object) -> Task:
    results = [r | {"seconds": "1"} for r in rows(images) if r["perturbation"] == "none"]
    return Task("ct-30", {"units": "1/mm", **(info or {})}, (), tuple(results), tuple(rows(images, **kwargs)))


def test_changes_are_paired_with_the_same_images_unperturbed() -> None:
    one = task(8, seeds=2)
    result = judge(one, ["tv", "evil"])
    found = perturbed(one, result)
    worst = {p.strength: p for p in found["tv"] if p.kind == "worst"}
    assert [p.mean for p in worst.values()] == pytest.approx([33.5 + 0.5 - 0.4, 33.5 + 0.5 - 0.8])
    change = worst[0.02].change
    assert change is not None
    assert change.interval is not None
    assert (change.gain, change.interval.low, change.interval.high) == pytest.approx((-0.8, -0.8, -0.8))
    assert worst[0.02].interval is not None
    assert (worst[0.02].images, worst[0.02].patients) == (8, 8)

    table = perturbation_table(found, result)
    assert [title for title, _ in table.columns] == [
        "Unperturbed",
        "1 % random",
        "1 % worst",
        "2 % random",
        "2 % worst",
    ]
    shown = {method: [(e.text, e.small) for e in entries] for method, entries in table.rows}
    assert shown["tv"] == [
        ("34.00", ""),
        ("33.90", "−0.10"),
        ("33.60", "−0.40"),
        ("33.80", "−0.20"),
        ("33.20", "−0.80"),
    ]
    assert shown["evil"][2:] == [("–", ""), ("33.50", "−0.50"), ("–", "")]


def test_errors_are_told_by_factors_and_in_shown_units() -> None:
    one = task(3, {"metric": "rmse"})
    result = judge(one, ["tv", "evil"])
    found = perturbed(one, result)
    (clean, *_), worst = found["tv"], found["tv"][-1]
    assert clean.mean == pytest.approx(10 * np.mean([10 ** (-(30 + i) / 20) for i in range(3)]))  # 1 / mm is 10 / cm
    assert worst.kind == "worst"
    entry = dict(perturbation_table(found, result).rows)["tv"][-1]
    assert entry.small == f"× {10 ** (0.8 / 20):.2f}"
    figure, _ = draw(found, result, looks({"tv": "TV", "evil": EVIL}))
    assert figure.axes[0].get_ylabel() == "mean RMSE [cm⁻¹]"


@pytest.mark.parametrize(("images", "scale", "strengths"), [(4, "linear", (0.01, 0.02)), (1, "symlog", (0.001, 0.1))])
def test_solid_lines_are_the_worst_and_dashed_ones_random(
    images: int, scale: str, strengths: tuple[float, ...]
) -> None:
    one = task(images, strengths=strengths)
    result = judge(one, ["tv", "evil"])
    figure, caption = draw(perturbed(one, result), result, looks({"tv": "TV", "evil": EVIL}))
    (ax,) = figure.axes
    lines = {(line.get_color(), line.get_linestyle()): line for line in ax.get_lines()}
    assert [style for _, style in lines] == ["-", "--", "--"]  # of evil there is no worst
    solid = next(iter(lines.values()))
    assert solid.get_xdata() == pytest.approx([0, *(100 * s for s in strengths)])
    start = np.mean(30.0 + np.arange(images))
    assert solid.get_ydata() == pytest.approx([start, *(start - 40 * s for s in strengths)])
    assert ax.get_xscale() == scale
    assert ("bands are 95 %" in caption) == (images > 1)


def test_the_page_the_figures_and_the_tables_have_them(tmp_path: Path, synthetic: ModuleType) -> None:
    run = synthetic.build_run(tmp_path / "run", methods=("tv", "evil"), images=3, patients=3, size=24)
    with (run / "attack.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ("task", "method", "seed", *COLUMNS))
        writer.writeheader()
        writer.writerows(rows(3))
    page = write_report(run).read_text(encoding="utf-8")
    assert page.count("2 % worst") == 1
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert") >= 2
    for name in ("figures/attack-ct-30.svg", "figures/attack-ct-30.png", "tables/attack-ct-30.tex"):
        assert (run / name).stat().st_size > 200
    with (run / "tables" / "attack-ct-30.csv").open(newline="", encoding="utf-8") as file:
        table = {(r["method"], r["perturbation"], r["strength"]): r for r in csv.DictReader(file)}
    assert len(table) == 8
    row = table["evil", "random", "0.02"]
    assert (row["label"], float(row["psnr"]), float(row["change"])) == (EVIL, pytest.approx(30.5), pytest.approx(-0.5))
    assert method_labels(read_tasks(run))["evil"] == EVIL
    (run / "attack.csv").write_text("task,method\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"attack\.csv: no column image, perturbation, seed, strength"):
        write_report(run)
