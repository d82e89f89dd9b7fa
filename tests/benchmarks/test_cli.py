"""The command line, as a user meets it."""

from __future__ import annotations

import csv
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from isocenter import __version__
from isocenter.benchmarks import cli


def isocenter(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    monkeypatch.setattr(sys, "argv", ["isocenter", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    captured = capsys.readouterr()
    return left.value.code or 0, captured.out, captured.err


def psnr(folder: Path) -> list[tuple[str, ...]]:
    with (folder / "results.csv").open() as file:
        return [(r["task"], r["method"], r["seed"], r["image"], r["psnr"]) for r in csv.DictReader(file)]


def test_help_is_quick_and_imports_no_torch():
    code = "import sys; sys.argv = ['isocenter', '--help']\nfrom isocenter.__main__ import main\n"
    code += "try: main()\nexcept SystemExit: assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "run" in found.stdout
    assert "fetch" in found.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.7


def test_version(monkeypatch, capsys):
    assert isocenter(monkeypatch, capsys, "--version")[:2] == (0, f"isocenter {__version__}\n")


def test_run_reports_and_says_where(suite, monkeypatch, capsys):
    out = suite.parent / "out"
    code, text, _ = isocenter(monkeypatch, capsys, "run", str(suite), "--out", str(out), "--methods", "direct")
    assert code == 0
    assert text == f"2 cells done, 0 failed; {out / 'report.html'}\n"
    assert "denoising" in (out / "report.html").read_text()
    code, text, _ = isocenter(monkeypatch, capsys, "report", str(out))
    assert (code, text) == (0, f"{out / 'report.html'}\n")


def test_a_failed_cell_gives_exit_code_1_and_a_report(suite, monkeypatch, capsys):
    out = suite.parent / "out"
    code, text, errors = isocenter(
        monkeypatch, capsys, "run", str(suite), "--out", str(out), "--set", "methods.scale.trouble=raises"
    )
    assert code == 1
    assert "2 cells done, 4 failed" in text
    assert "failed: denoising · Scaled seed 0" in errors
    page = (out / "report.html").read_text()
    assert "the &lt;b&gt;method&lt;/b&gt;" in page
    assert "<b>method</b>" not in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "quickstrt"], "there is no suite 'quickstrt', neither built in nor as a file"),
        (["run", "SUITE", "--set", "sead=3"], "--set sead=3: unknown key 'sead', did you mean 'seed'?"),
        (["run", "SUITE", "--methods", "dirct"], "--methods dirct: the suite has none of this name"),
        (["run", "SUITE", "--set", "tasks.denoising.physics.kind=radn"], "unknown kind 'radn', did you mean 'radon'?"),
        (["check", "SUITE", "--set", "data.test=0"], "there are no test images"),
        (["report", "nowhere"], "nowhere is not a run folder"),
        (["fetch", "open-mss"], "open-ms"),
        (["status", "nowhere"], "nowhere is not a run folder"),
        (["compare", "nowhere", "elsewhere"], "nowhere is not a run folder"),
    ],
)
def test_mistakes_give_one_line_and_exit_code_2(suite, monkeypatch, capsys, arguments, message):
    arguments = [str(suite) if a == "SUITE" else a for a in arguments]
    code, text, errors = isocenter(monkeypatch, capsys, *arguments)
    assert code == 2
    assert message in errors
    assert errors.count("\n") == 1
    assert text == ""
    code, _, errors = isocenter(monkeypatch, capsys, *arguments, "--debug")
    assert code == 2
    assert "Traceback" in errors


def test_dry_run_lists_cells_and_writes_nothing(suite, monkeypatch, capsys):
    out = suite.parent / "out"
    code, text, _ = isocenter(monkeypatch, capsys, "run", str(suite), "--out", str(out), "--dry-run")
    assert code == 0
    lines = text.splitlines()
    assert [line.split("/")[0] for line in lines] == ["to run  denoising"] * 3 + ["to run  inpainting"] * 3 + [
        "6 to run"
    ]
    assert all(line.endswith("  (new)") for line in lines[:-1])
    assert not out.exists()
    isocenter(monkeypatch, capsys, "run", str(suite), "--out", str(out), "--methods", "direct")
    _, text, _ = isocenter(monkeypatch, capsys, "run", str(suite), "--out", str(out), "--dry-run")
    assert text.splitlines()[-1] == "2 cached, 4 to run"


def test_check_tries_images_and_operators(suite, monkeypatch, capsys):
    code, text, _ = isocenter(monkeypatch, capsys, "check", str(suite))
    assert code == 0
    assert "Identity → 1 × 16 × 16" in text
    assert "small is sound: 2 tasks, 6 cells; about 1 MB of disk, and of memory " in text


def test_check_looks_once_at_what_tasks_of_a_grid_share(suite, monkeypatch, capsys):
    from isocenter.benchmarks import checks

    looked = []
    original = checks.check_linear_operator
    monkeypatch.setattr(
        checks,
        "check_linear_operator",
        lambda physics, **options: looked.append(physics) or original(physics, **options),
    )
    grid = "tasks.denoising.grid={noise.sigma: [0.1, 0.2, 0.3], data.train: [1, 2]}"
    code, text, _ = isocenter(monkeypatch, capsys, "check", str(suite), "--set", grid)
    assert code == 0
    assert [type(physics).__name__ for physics in looked] == ["Identity", "Inpaint"]
    assert "small is sound: 7 tasks, 21 cells" in text


def test_check_compares_public_sets_with_the_catalogue(suite, shared_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ISOCENTER_MIRROR", str(tmp_path))
    images = "split: {kind: order, test: 1}, intensity: {kind: scaled}, size: 16, pixel_size: 1"
    folder = tmp_path / "mri" / "open_ms"
    folder.mkdir(parents=True)
    name = "patient01_study1_FLAIR.nii.gz"
    (folder / name).write_bytes((shared_data / "mri" / "open_ms" / name).read_bytes())
    arguments = ["check", str(suite), "--set", f"data={{kind: images, set: open-ms, folder: mri/open_ms, {images}}}"]
    arguments += ["--set", "methods=[{kind: direct}]"]
    assert isocenter(monkeypatch, capsys, *arguments)[0] == 0
    (folder / "LICENSE.txt").write_text("other words")  # of the set, whatever is read of it
    arguments += ["--set", "data.files=['*.nii.gz']"]
    code, _, errors = isocenter(monkeypatch, capsys, *arguments)
    assert code == 2
    assert "LICENSE.txt is damaged: it has not the SHA-256 of the catalogue; fetch open-ms again" in errors


def test_check_refuses_an_operator_that_breaks_a_law(suite, monkeypatch, capsys):
    plugin = suite.parent / "plugin.py"
    plugin.write_text(
        plugin.read_text()
        + """
from isocenter.benchmarks.spec import PhysicsSpec
from isocenter.physics import LinearOperator


class Shift(LinearOperator):
    def A(self, x):
        return x.roll(1, -1)

    def A_adjoint(self, y):
        return y


class ShiftSpec(PhysicsSpec):
    kind: Literal["shift"]

    def build(self, shape, pixel_size):
        return Shift((1, *shape), (1, *shape))


SPECS.append(ShiftSpec)
"""
    )
    code, _, errors = isocenter(
        monkeypatch, capsys, "check", str(suite), "--set", "tasks.denoising.physics={kind: shift}"
    )
    assert code == 2
    assert "tasks.denoising.physics: Shift breaks" in errors


def test_list_names_suites_kinds_and_data(monkeypatch, capsys):
    code, text, _ = isocenter(monkeypatch, capsys, "list")
    assert code == 0
    for word in ("quickstart", "real-mri", "real-ct", "phantoms", "radon", "poisson", "admm-net", "open-ms"):
        assert word in text


def test_fetch_from_a_mirror(shared_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ISOCENTER_MIRROR", str(shared_data))
    code, text, _ = isocenter(monkeypatch, capsys, "fetch", "tomopy-tooth", "--to", str(tmp_path))
    assert code == 0
    assert Path(text.strip()).is_dir()
    assert list(tmp_path.rglob("*.h5"))


def test_a_run_that_is_killed_resumes_to_the_same_numbers(suite, monkeypatch, capsys):
    whole, killed = suite.parent / "whole", suite.parent / "killed"
    isocenter(monkeypatch, capsys, "run", str(suite), "--out", str(whole))
    arguments = ["run", str(suite), "--out", str(killed), "--set", "methods.scale.trouble=kill"]
    first = subprocess.run(
        [sys.executable, "-m", "isocenter", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=suite.parent,
    )
    assert first.returncode == -9
    assert not (killed / "results.csv").exists()
    code, text, _ = isocenter(monkeypatch, capsys, *arguments)
    assert code == 0
    assert "6 cells done" in text
    assert psnr(killed) == psnr(whole)


def test_an_interrupt_ends_in_one_line_and_the_run_goes_on(suite, monkeypatch, capsys):
    arguments = ["run", str(suite), "--out", str(suite.parent / "out"), "--set", "methods.scale.trouble=interrupt"]
    code, text, errors = isocenter(monkeypatch, capsys, *arguments)
    assert (code, text) == (130, "")
    assert errors.splitlines()[-1] == "interrupted; the same command goes on where this one stopped"
    assert "Traceback" not in errors
    code, text, _ = isocenter(monkeypatch, capsys, *arguments)
    assert code == 0
    assert text.startswith("6 cells done, 0 failed")


def test_failed_cells_are_run_again_when_asked(suite, monkeypatch, capsys):
    (suite.parent / "survived").touch()
    arguments = ["run", str(suite), "--out", str(suite.parent / "out"), "--methods", "scale", "--tasks", "denoising"]
    slow = [*arguments, "--set", "methods.scale.trouble=kill", "--set", "time_limit=1e-3"]
    code, _, errors = isocenter(monkeypatch, capsys, *slow, "--fail-fast")
    assert code == 1
    assert errors.count("failed: denoising") == 1
    code, text, errors = isocenter(monkeypatch, capsys, *slow[:-2])  # the failure is kept, the other cell runs
    assert code == 1
    assert text.startswith("1 cells done, 1 failed")
    assert "--retry failed runs failed cells again" in errors
    code, text, _ = isocenter(monkeypatch, capsys, *slow[:-2], "--retry", "failed")
    assert code == 0
    assert text.startswith("2 cells done, 0 failed")
