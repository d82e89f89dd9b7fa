"""What cells were computed on is written down for each of them, and told where it differs."""

from __future__ import annotations

import json

from isocenter.benchmarks import environment as module
from isocenter.benchmarks.environment import differences, machine
from isocenter.benchmarks.report import write_report
from isocenter.benchmarks.runner import run_suite
from isocenter.benchmarks.schema import load_suite

ONE = {
    "git": {"commit": "a" * 40, "dirty": False},
    "source": "111111111111",
    "versions": {"torch": "2.4", "numpy": "2.0"},
    "cpu": "Z80",
    "gpu": None,
    "threads": 2,
}


def test_cells_that_were_computed_alike_differ_in_nothing():
    assert differences([ONE, ONE]) == []
    assert differences([]) == differences([{}, ONE]) == []  # cells of old runs know nothing
    # Another commit with the same source is the same code.
    assert differences([ONE, {**ONE, "git": {"commit": "b" * 40, "dirty": False}}]) == []


def test_differences_are_told_with_their_numbers_of_cells():
    changed = {**ONE, "git": {"commit": "a" * 40, "dirty": True}, "source": "222222222222"}
    newer = {**ONE, "versions": {"torch": "2.5", "numpy": "2.0"}}
    assert differences([ONE, ONE, changed]) == [
        "cells differ in code: commit aaaaaaaaaaaa (2 cells); commit aaaaaaaaaaaa with changes (222222222222) (1 cell)"
    ]
    assert differences([newer, ONE]) == ["cells differ in versions: torch 2.5 (1 cell); torch 2.4 (1 cell)"]
    assert differences([ONE, {**ONE, "gpu": "H100", "threads": 1}]) == [
        "cells differ in GPU: none (1 cell); H100 (1 cell)",
        "cells differ in threads: 2 (1 cell); 1 (1 cell)",
    ]


def test_the_hash_of_the_source_tells_changed_code(tmp_path, monkeypatch):
    (tmp_path / "physics").mkdir()
    (tmp_path / "physics" / "radon.py").write_text("a = 1")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    first = module._source.__wrapped__()
    (tmp_path / "physics" / "notes.md").write_text("words")
    assert module._source.__wrapped__() == first
    (tmp_path / "physics" / "radon.py").write_text("a = 2")
    assert module._source.__wrapped__() != first


def test_a_run_gone_on_with_other_code_says_so_in_its_report(suite, monkeypatch):
    folder = suite.parent / "run"
    run_suite(load_suite(suite), folder, methods=["direct"])
    other = {**machine(), "source": "<script>", "git": {"commit": None, "dirty": None}}
    monkeypatch.setattr("isocenter.benchmarks.cells.machine", lambda: other)
    run_suite(load_suite(suite), folder)
    page = write_report(folder).read_text()
    assert "cells differ in code: source &lt;script&gt; (4 cells); " in page
    assert str(suite.parent / "plugin.py") in page  # plugins are named
    found = [json.loads(path.read_text())["environment"]["source"] for path in folder.rglob("status.json")]
    assert sorted(found) == sorted(["<script>"] * 4 + [machine()["source"]] * 2)
