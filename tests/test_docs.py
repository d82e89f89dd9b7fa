"""The guides do what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from isocenter.benchmarks.schema import load_suite

ROOT = Path(__file__).parents[1]


def files_of(guide: Path) -> dict[str, str]:
    """The code blocks that begin with a comment naming their file."""
    blocks = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    return dict(blocks)


def test_own_operator(tmp_path: Path) -> None:
    for name, text in files_of(ROOT / "docs" / "own-operator.md").items():
        (tmp_path / name).write_text(text, encoding="utf-8")

    def run(*command: str) -> str:
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    laws = run("check.py")
    assert "BROKEN" not in laws
    assert "⟨Ax, y⟩ = ⟨x, Aᵀy⟩" in laws
    run("-m", "isocenter", "check", "my_suite.yaml")
    run("-m", "isocenter", "run", "my_suite.yaml")
    assert "Single-pixel camera" in (tmp_path / "runs" / "my_suite" / "report.html").read_text(encoding="utf-8")
    results = (tmp_path / "runs" / "my_suite" / "results.csv").read_text(encoding="utf-8").splitlines()
    assert len(results) == 1 + 2 * 4  # two methods, four test images


def test_the_suites_of_the_guide_load(tmp_path: Path) -> None:
    loaded = {}
    for name, text in files_of(ROOT / "docs" / "suites.md").items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        loaded[name] = load_suite(tmp_path / name).suite
    assert len(loaded["views.yaml"].tasks) == 6
    assert loaded["shift.yaml"].tasks["noisier"].fitted_on == "nominal"
    assert [method.key for method in loaded["fewer.yaml"].methods] == ["direct", "tv", "tgv"]


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_slurm(tmp_path: Path, real: bool) -> None:
    """With an sbatch that runs the job at once, on this machine, or writes it down only."""
    pytest.importorskip("dask_jobqueue")
    script, log = tmp_path / "slurm.py", tmp_path / "log"
    script.write_text(files_of(ROOT / "docs" / "cluster.md")["slurm.py"], encoding="utf-8")
    commands = {"sbatch": 'cp "$1" job; echo Submitted batch job 7', "scancel": "", "isocenter": 'echo "$@" > log'}
    if real:
        commands["sbatch"] = '(bash "$1" > job.log 2>&1 &) ; sleep 1; echo Submitted batch job 7'
        commands["isocenter"] = f'exec {sys.executable} -m isocenter "$@"'
    for name, text in commands.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    small = ["quickstart", "--methods", "direct", "--out", "run", "--set", "data.*.test=1"]
    done = subprocess.run(
        [sys.executable, str(script), *small],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for line in ("#SBATCH -p gpu", "#SBATCH --gres=gpu:1", "#SBATCH -t 08:00:00", "#SBATCH --cpus-per-task=8"):
        assert line in done.stdout.splitlines()
    (worker,) = (line for line in done.stdout.splitlines() if "dask_worker" in line or "dask worker" in line)
    for option in ("--nthreads 8", "--resources GPU=1", "tcp://"):
        assert option in worker
    if real:
        assert "3 cells done, 0 failed" in done.stdout
    else:
        assert log.read_text().startswith(" ".join(["run", *small, "--scheduler tcp://"]))


def test_the_python_of_the_readme() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    x = names["x"]
    assert (names["tv"] - x).norm() < 0.05 * (names["fbp"] - x).norm()
