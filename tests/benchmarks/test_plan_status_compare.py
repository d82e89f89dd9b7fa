"""What a run would do, how far it is, and how two runs differ: told from folders, computing nothing."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from isocenter.benchmarks import report
from isocenter.benchmarks.changes import changes
from isocenter.benchmarks.compare import compare_runs
from isocenter.benchmarks.environment import machine
from isocenter.benchmarks.plan import plan
from isocenter.benchmarks.progress import status_lines
from isocenter.benchmarks.run_folder import RunFolder, alone
from isocenter.benchmarks.runner import expand, open_tasks, run_suite
from isocenter.benchmarks.schema import load_suite
from isocenter.benchmarks.yaml_lines import SuiteError
from isocenter.unrolled.learning_curve import TABLE


@pytest.fixture(autouse=True)
def _figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "write_report", lambda run: run / "report.html")


def run(suite: Path, *overrides: str, out: str = "run", **options) -> Path:
    run_suite(load_suite(suite, overrides), suite.parent / out, **options)
    return suite.parent / out


def plans(suite: Path, *overrides: str, **options) -> dict[str, str]:
    """State and reason by cell, without the key."""
    loaded = load_suite(suite, overrides)
    cells = expand(loaded, open_tasks(loaded))
    methods = [method.key for method in loaded.suite.methods]
    found = plan(RunFolder(suite.parent / "run"), cells, methods, loaded.suite.tasks, **options)
    return {entry.cell.rsplit("-", 1)[0] + " " + entry.state: entry.why for entry in found}


def cell(folder: Path, task: str, method: str) -> Path:
    (found,) = (folder / "cells" / task).glob(f"{method}-*")
    return found


def test_changes_name_the_value_and_the_kind():
    old = {"noise": {"kind": "gaussian", "sigma": 0.1}, "data": {"train": 4}, "gone": 1}
    assert changes(old, old) == []
    assert changes(old, {**old, "data": {"train": 5, "seed": 1}}) == ["data.train 4 → 5", "data.seed (absent) → 1"]
    assert changes(old, {"noise": {"kind": "none"}, "data": {"train": 4}}) == [
        "noise gaussian → none",
        "gone 1 → (absent)",
    ]


def test_a_plan_says_what_changed(suite):
    assert set(plans(suite).values()) == {"new"}
    run(suite)
    assert set(plans(suite)) == {
        f"{task}/{cell} cached" for task in ("denoising", "inpainting") for cell in ("direct-0", "scale-0", "scale-1")
    }
    changed = plans(suite, "tasks.denoising.noise.sigma=0.2", "methods.scale.budget=2")
    assert changed["denoising/direct-0 to run"] == "changed: task.noise.sigma 0.1 → 0.2"
    assert changed["inpainting/scale-1 to run"] == "changed: method.budget 1 → 2"
    assert changed["denoising/scale-0 to run"] == "changed: task.noise.sigma 0.1 → 0.2, method.budget 1 → 2"
    assert changed["inpainting/direct-0 cached"] == ""
    assert [key for key in changed if key.endswith("stale")] == [
        "denoising/direct-0 stale", "denoising/scale-0 stale", "denoising/scale-1 stale",
        "inpainting/scale-0 stale", "inpainting/scale-1 stale",
    ]  # fmt: skip
    run(suite, "methods.scale.budget=2")
    assert plans(suite)["inpainting/scale-1 cached"] == "it is in stale/, and comes back"


def test_a_plan_says_what_a_run_left(suite):
    folder = run(suite)
    scale = cell(folder, "denoising", "scale-0")
    (scale / "metrics.csv").write_text("edited")
    interrupted = cell(folder, "inpainting", "scale-0")
    (interrupted / "status.json").unlink()
    started = cell(folder, "inpainting", "scale-1")
    (started / "status.json").unlink()
    shutil.rmtree(started / "fitted")
    (started / "fit").mkdir()
    (started / "fit" / "training.csv").write_text("step,loss,validation_psnr,learning_rate,seconds\n400,1,20.5,1,1\n")
    found = plans(suite)
    assert found["denoising/scale-0 to run"].endswith("was removed or changed; its fit is there")
    assert found["inpainting/scale-0 to run"] == "it was interrupted; its fit is there"
    assert found["inpainting/scale-1 to run"] == "it was interrupted; its fit goes on"


def test_a_plan_keeps_failures_unless_they_are_retried(suite):
    run(suite, "methods.scale.trouble=raises")
    found = plans(suite, "methods.scale.trouble=raises")
    assert found["denoising/scale-0 failed"] == "RuntimeError: the <b>method</b> broke"
    assert "denoising/scale-0 to run" in plans(suite, "methods.scale.trouble=raises", retry_failed=True)


def test_the_plan_is_what_a_run_does(suite):
    run(suite)
    overrides = ("methods.scale.budget=2", "tasks.inpainting.physics.seen=0.6")
    before = plans(suite, *overrides)
    cached = {p: (p / "status.json").stat().st_mtime_ns for _, p in RunFolder(suite.parent / "run").cells()}
    folder = RunFolder(run(suite, *overrides))
    kept = {f"{task}/{p.name}".rsplit("-", 1)[0] for task, p in folder.cells() if p in cached}
    assert kept == {name.split()[0] for name in before if name.endswith("cached")}
    assert all((p / "status.json").stat().st_mtime_ns == cached[p] for _, p in folder.cells() if p in cached)


def test_status_counts_cells_and_names_what_failed(suite):
    folder = run(suite, "methods.scale.trouble=raises", tasks=["denoising"])
    lines = list(status_lines(folder))
    assert lines[0] == f"small in {folder}: nothing is running"
    assert lines[2].split() == ["task", "done", "failed", "to", "run", "time"]
    assert lines[3].split()[:4] == ["denoising", "1", "2", "–"]
    assert lines[4].split()[:4] == ["inpainting", "–", "–", "3"]
    assert lines[5].split()[:4] == ["all", "1", "2", "3"]
    assert "failed: denoising · Scaled, seed 0: RuntimeError: the <b>method</b> broke" in lines


def test_status_of_a_run_that_is_going_on(suite):
    folder = run(suite)
    done, other = cell(folder, "denoising", "scale-0"), cell(folder, "inpainting", "scale-0")
    for path in (done, other):
        (path / "status.json").unlink()
    (done / "fit").mkdir()
    (done / "fit" / TABLE).write_text("step,loss,validation_psnr,learning_rate,seconds\n400,1,20.5,1,1\n")
    with RunFolder(folder).locked(), alone(done):
        lines = list(status_lines(folder))
    assert lines[0].startswith(f"small in {folder}: process ")
    assert "running: denoising · Scaled, seed 0, step 400, 20.50 dB on validation images" in lines
    assert "interrupted: inpainting · Scaled, seed 0" in lines
    assert "nothing is running" in next(status_lines(folder))


def test_status_and_compare_tell_of_other_code(suite, monkeypatch):
    first, second = run(suite), run(suite, out="second")
    other = {**machine(), "source": "0123456789ab", "git": {"commit": None, "dirty": None}, "threads": 7}
    shutil.rmtree(cell(second, "denoising", "direct-0"))
    monkeypatch.setattr("isocenter.benchmarks.cells.machine", lambda: other)
    run(suite, out="second")
    assert any(
        "cells differ in code: " in line and "source 0123456789ab (1 cell)" in line for line in status_lines(second)
    )
    lines = list(compare_runs(first, second).lines())
    assert any(line.startswith("within the second, cells differ in code: ") for line in lines)
    shutil.rmtree(second / "cells")
    run(suite, out="second")
    lines = list(compare_runs(first, second).lines())
    assert f"computed on other: source {machine()['source']} → 0123456789ab" in lines
    assert f"computed on other: threads {machine()['threads']} → 7" in lines


def test_a_run_equals_itself_done_again(suite):
    lines = list(compare_runs(run(suite), run(suite, out="again")).lines())
    assert sum(line.endswith("the same") for line in lines) == 6
    assert lines[-2:] == [
        "the cells that both have are set alike",
        "both were computed on the same code, versions and machine",
    ]


def test_runs_are_compared_image_by_image_with_what_was_changed(suite):
    first = run(suite)
    second = run(suite, "tasks.denoising.noise.sigma=0.2", "data.test=2", "methods.scale.seeds=[1, 2]", out="second")
    comparison = compare_runs(first, second)
    lines = list(comparison.lines())
    with (first / "results.csv").open() as a, (second / "results.csv").open() as b:
        one, two = (
            {
                tuple(row[k] for k in ("task", "method", "seed", "image")): float(row["psnr"])
                for row in csv.DictReader(f)
            }
            for f in (a, b)
        )
    key = ("denoising", "direct", "0")
    expected = [two[(*key, image)] - one[(*key, image)] for image in ("test-0", "test-1")]
    (pair,) = (pair for pair in comparison.pairs if pair.key == key)
    assert list(pair.differences("psnr")) == pytest.approx(expected)
    (line,) = (line for line in lines if line.startswith("denoising · direct · 0"))
    assert f"{sum(expected) / 2:+.3f}" in line
    assert f"{min(expected):+.3f}" in line  # the largest difference; twice the noise is worse
    assert "only in the first: denoising · scale · 0, inpainting · scale · 0" in lines
    assert "only in the second: denoising · scale · 2, inpainting · scale · 2" in lines
    assert "changed: task.noise.sigma 0.1 → 0.2  (denoising · direct · 0, denoising · scale · 1)" in lines
    assert "changed: task.data.test 3 → 2  (everywhere)" in lines
    comparison.write(suite.parent / "pairs.csv")
    with (suite.parent / "pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 2
    assert float(rows[0]["psnr_second"]) - float(rows[0]["psnr_first"]) == pytest.approx(expected[0])


def test_images_of_one_name_that_are_others_are_not_compared(suite):
    first = run(suite)
    plugin = suite.parent / "plugin.py"
    plugin.write_text(plugin.read_text().replace("k % 5 + 2", "k % 5 + 2 + (split == 'test' and k == 1)"))
    lines = list(compare_runs(first, run(suite, out="second")).lines())
    assert "denoising: left out 1 of the images, which have the same name in both and are not the same" in lines
    assert next(line for line in lines if line.startswith("denoising · direct")).split()[5] == "2"
    plugin.write_text(plugin.read_text().replace("< radius *", "< (9 - radius) *"))
    with pytest.raises(SuiteError, match="share no test image"):
        compare_runs(first, run(suite, out="second"))


def test_runs_without_overlap_say_so(suite):
    first, second = run(suite, tasks=["denoising"]), run(suite, tasks=["inpainting"], out="second")
    with pytest.raises(
        SuiteError, match=r"share no test image .* the first has denoising · direct · 0, .* the second inp"
    ):
        compare_runs(first, second)


def test_runs_of_before_settings_and_environments_were_recorded_compare(suite):
    first, second = run(suite), run(suite, out="second")
    for name, key in (("status.json", "environment"), ("spec.json", "identity")):
        for file in second.rglob(name):
            content = json.loads(file.read_text())
            del content[key]
            file.write_text(json.dumps(content))
    (second / "cells" / "denoising" / "notes").mkdir()  # of the user
    assert list(compare_runs(first, second).lines())[-2:] == [
        "the settings of 6 cells are not recorded; compare the two suite.yaml",
        "what the cells were computed on is not recorded",
    ]
    assert next(line for line in status_lines(second) if line.startswith("all")).split()[1] == "6"
