"""The schema for editors accepts what loads and refuses what does not, as far as it can know."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from isocenter.benchmarks import cli
from isocenter.benchmarks.editor_schema import editor_schema
from isocenter.benchmarks.schema import built_in_suites, load_suite
from isocenter.benchmarks.yaml_lines import SuiteError, parse

GUIDE = Path(__file__).parents[2] / "docs" / "suites.md"

SMALL = """\
data: {kind: phantoms, family: head, size: 64}
methods:
  - {kind: tv, max_iter: 5}
tasks:
  ct:
    physics: {kind: radon, geometry: {kind: parallel, views: 30}}
    noise: {kind: poisson, photons: 1e5}
    grid: {physics.geometry.views: [20, 30]}
"""


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = editor_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(json.loads(json.dumps(schema)))


@pytest.mark.parametrize("name", list(built_in_suites()))
def test_built_in_suites_are_valid_as_written_and_resolved(validator, name):
    validator.validate(parse(built_in_suites()[name].read_text(encoding="utf-8")))
    validator.validate(yaml.safe_load(load_suite(name).suite.dump()))


def test_suites_of_the_guide_are_valid(validator):
    texts = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert texts
    for text in texts:
        validator.validate(parse(text))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("max_iter", "max_itr"),
        ("kind: tv", "kind: tvv"),
        ("max_iter: 5", "max_iter: 0"),
        ("max_iter: 5", "max_iter: many"),
        ("photons: 1e5", "photons: -1"),
        ("kind: poisson, ", ""),
        ("size: 64", "sise: 64"),
        ("size: 64", "size: 8"),
        ("  ct:", "  c/t:"),
        ("methods:", "methds:"),
        ("[20, 30]", "20"),
        ("kind: parallel", "kind: fan"),
        ("family: head", "family: foot"),
        ("data:", "extends: quickstart\ndatas:"),
    ],
)
def test_what_is_refused_when_it_is_loaded_is_refused_in_the_editor(validator, tmp_path, old, new):
    assert validator.is_valid(parse(SMALL))
    assert old in SMALL
    text = SMALL.replace(old, new, 1)
    assert not validator.is_valid(parse(text))
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(SuiteError):
        load_suite(tmp_path / "s.yaml")


def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    monkeypatch.setattr(sys, "argv", ["isocenter", "schema", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert not left.value.code
    return json.loads(capsys.readouterr().out)


def test_the_command_prints_it_with_the_kinds_of_plugins(suite, monkeypatch, capsys):
    assert printed(monkeypatch, capsys) == json.loads(json.dumps(editor_schema()))
    own = parse(suite.read_text())
    assert not jsonschema.Draft202012Validator(printed(monkeypatch, capsys)).is_valid(own)
    jsonschema.validate(own, printed(monkeypatch, capsys, str(suite)))
    suite.write_text(suite.read_text().replace("seed: 3", "sead: 3"))  # a file that is being written need not be valid
    assert "ScaleSpec" in printed(monkeypatch, capsys, str(suite))["$defs"]
