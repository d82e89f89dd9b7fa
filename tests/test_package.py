"""The package: who imports whom, and that everything is in the wheel."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ["physics", "data", "baselines", "unrolled", "benchmarks"]


def imports(file: Path) -> set[str]:
    """Layers that a file imports, relatively or as ``isocenter.…``."""
    package = file.relative_to(ROOT).parent.parts
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            parts = (*base, *(node.module or "").split("."))
            names = [(*parts, alias.name) for alias in node.names]
            if not node.level:
                names = [name[1:] for name in names if name[0] == "isocenter"]
        elif isinstance(node, ast.Import):
            names = [tuple(a.name.split("."))[1:] for a in node.names if a.name.split(".")[0] == "isocenter"]
        else:
            continue
        found |= {part for name in names for part in [next((p for p in name if p), "")] if part in LAYERS}
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_nothing_imports_upwards(layer):
    allowed = set(LAYERS[: LAYERS.index(layer) + 1])
    for file in (ROOT / layer).rglob("*.py"):
        assert imports(file) <= allowed, f"{file.relative_to(ROOT)} imports {imports(file) - allowed}"


def test_the_root_imports_nothing_and_holds_no_other_module():
    assert {file.name for file in ROOT.glob("*.py")} == {"__init__.py", "__main__.py"}
    tree = ast.parse((ROOT / "__init__.py").read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]


def test_declared_packages_are_the_folders():
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    declared = toml.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {
        ".".join(("isocenter", *file.relative_to(ROOT).parent.parts))
        for layer in ("", *LAYERS)
        for file in ((ROOT / layer).rglob("__init__.py") if layer else [ROOT / "__init__.py"])
    }
    assert set(declared) == folders


def test_a_wheel_holds_everything_and_runs_elsewhere(tmp_path):
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if files.returncode:
        pytest.skip("not a git checkout, so that there is no list of what belongs to the project")
    source = tmp_path / "source"
    for name in filter(None, files.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    # Without --wheel the wheel is built from the sdist, which therefore holds everything too.
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(source)]
    built = subprocess.run(build, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-2000:]
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    target = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)

    packed = {p.relative_to(target / "isocenter").as_posix() for p in (target / "isocenter").rglob("*") if p.is_file()}
    kept = {".py", ".yaml", ".tsv", ".j2", ".safetensors", ".json"}
    expected = {
        p.relative_to(source).as_posix()
        for layer in LAYERS
        for p in (source / layer).rglob("*")
        if p.is_file() and p.suffix in kept
    }
    assert expected - packed == set()
    assert "py.typed" in packed
    assert not [name for name in packed if name.startswith(("tests", "docs"))]

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = (
        "import isocenter, sys; print(isocenter.__file__, file=sys.stderr)\nfrom isocenter.__main__ import main; main()"
    )
    listed = subprocess.run(
        [sys.executable, "-c", code, "list"],
        cwd=elsewhere, capture_output=True, text=True, env={"PYTHONPATH": str(target), "HOME": str(elsewhere)},
    )  # fmt: skip
    assert listed.returncode == 0, listed.stderr
    assert str(target) in listed.stderr
    for word in ("quickstart", "real-mri", "real-ct", "open-ms"):
        assert word in listed.stdout
