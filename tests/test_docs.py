"""The guides do what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

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
    assert [method.key for method in loaded["fewer.yaml"].methods] == ["direct", "tv", "tgv"]


def test_the_python_of_the_readme() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    x = names["x"]
    assert (names["tv"] - x).norm() < 0.05 * (names["fbp"] - x).norm()
