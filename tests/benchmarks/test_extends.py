"""A suite that extends another one is that one, but for what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from isocenter.benchmarks.schema import Suite, load_suite
from isocenter.benchmarks.yaml_lines import SuiteError

BASE = """\
name: base
title: The base
plugins: [plugin.py]
data:
  discs: {kind: discs, train: 7}
methods:
  - kind: direct
  - {kind: tv, max_iter: 9}
  - {kind: scale, name: times, seeds: [0, 1]}
tasks:
  denoising:
    data: discs
    physics: {kind: identity}
    noise: {kind: gaussian, sigma: 0.1}
  inpainting:
    data: discs
    physics: {kind: inpaint, seen: 0.5}
reference: direct
"""


@pytest.fixture
def base(suite: Path) -> Path:
    """A suite in a folder of its own, with the plugin beside it."""
    folder = suite.parent / "base"
    folder.mkdir()
    (suite.parent / "plugin.py").rename(folder / "plugin.py")
    (folder / "base.yaml").write_text(BASE)
    return folder / "base.yaml"


def extended(base: Path, text: str, *overrides: str) -> Suite:
    file = base.parents[1] / "own.yaml"
    file.write_text("extends: base/base.yaml\n" + text)
    return load_suite(file, overrides).suite


def test_what_is_not_said_is_inherited_but_for_the_name(base):
    own, whole = extended(base, ""), load_suite(base).suite
    assert own.model_dump() == {**whole.model_dump(), "name": "own"}
    assert own.plugins == (base.with_name("plugin.py"),)  # a path is relative to the file that it stands in


def test_mappings_merge_and_lists_replace(base):
    own = extended(base, "title: Mine\ndata: {discs: {test: 5}}\ntasks: {denoising: {noise: {sigma: 0.2}}}\n")
    assert (own.title, own.data["discs"].train, own.data["discs"].test) == ("Mine", 7, 5)
    assert own.tasks["denoising"].noise.sigma == 0.2
    assert list(own.tasks) == ["denoising", "inpainting"]
    own = extended(base, "methods: [{kind: tikhonov}]\nreference: null\n")
    assert ([method.key for method in own.methods], own.reference) == (["tikhonov"], None)


def test_methods_change_by_name(base):
    text = "methods:\n  tv: {max_iter: 3}\n  times: {seeds: [4]}\n  more: {kind: tv, low: 0}\n  tgv: {kind: tgv}\n"
    own = {method.key: method for method in extended(base, text).methods}
    assert list(own) == ["direct", "tv", "times", "more", "tgv"]
    assert (own["tv"].max_iter, own["times"].seeds, own["more"].low, own["tgv"].name) == (3, (4,), 0, None)
    assert [m.key for m in extended(base, "methods: {times: null, direct: null}\nreference: tv\n").methods] == ["tv"]


def test_null_takes_away_and_another_kind_replaces(base):
    own = extended(base, "tasks: {inpainting: null, denoising: {noise: {kind: none}}}\n")
    assert list(own.tasks) == ["denoising"]
    assert own.tasks["denoising"].noise.model_dump() == {"kind": "none"}
    assert extended(base, "tasks: {denoising: {noise: null}}\n").tasks["denoising"].noise.kind == "none"
    # One dataset in the place of several.
    assert list(extended(base, "data: {kind: discs}\ntasks: {denoising: {data: null}, inpainting: null}\n").data) == [
        "images"
    ]


def test_grids_and_arguments_come_after(base):
    own = extended(base, "tasks: {denoising: {grid: {data.train: [1, 2]}}}\n", "data.discs.test=1", "methods.tv.tol=1")
    assert list(own.tasks) == ["denoising-train-1", "denoising-train-2", "inpainting"]
    assert (own.data["discs-train-2"].train, own.data["discs-train-2"].test, own.methods[1].tol) == (2, 1, 1)


def test_the_resolved_suite_stands_alone(base):
    own = extended(base, "tasks: {denoising: {grid: {noise: [{kind: none}, {kind: gaussian, sigma: 1}]}}}\n")
    base.with_name("plugin.py").rename(base.with_name("elsewhere.py"))
    text = own.dump().replace("plugin.py", "elsewhere.py")
    base.write_text("nothing\n")
    (base.parent / "resolved.yaml").write_text(text)
    again = load_suite(base.parent / "resolved.yaml").suite
    assert again.model_dump(exclude={"plugins"}) == own.model_dump(exclude={"plugins"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: 3", "own.yaml:1: extends: is 3, expected a built-in name or the path of a suite"),
        (
            "extends: quickstrt",
            "own.yaml:1: extends: there is no suite 'quickstrt', neither built in nor as a file, did",
        ),
        ("extends: base/own2.yaml", "own.yaml:1: extends: own2.yaml extends 'base.yaml' itself; extend that one"),
        ("extends: base/base.yaml\nmethods: {tv: {max_itr: 1}}", "own.yaml:2: methods[1]: unknown key 'max_itr', did"),
        (
            "extends: base/base.yaml\nmethods:\n  direct: null\n  tv: {\n    tol: -1}",
            "own.yaml:5: methods[0].tol: is -1",
        ),
        (
            "extends: base/base.yaml\ntasks: {denoising: {data: x}}",
            "own.yaml:2: tasks.denoising.data: no data is called",
        ),
        ("extends: base/base.yaml\nmethods: {direct: null}", "base.yaml:18: reference: no method is called 'direct'"),
        ("extends: base/base.yaml\nmethods: {new: {low: 0}}", "own.yaml:2: methods[3]: 'kind' is missing"),
        ("extends: base/bad.yaml\ntitle: x", "bad.yaml:8: methods[1].max_iter: is -9, expected greater than"),
        ("extends: base/bad.yaml\nmethods: {direct: null}", "bad.yaml:8: methods[0].max_iter: is -9"),
        ("extends: base/bad.yaml\nmethods: {tv: {tol: 1}}", "bad.yaml:8: methods[1].max_iter: is -9"),
        ("extends: quickstart\nplugins: [none.py]", "own.yaml:2: plugins[0]: there is no file"),
    ],
)
def test_mistakes_name_the_file_and_line_that_they_stand_on(base, text, message):
    base.with_name("own2.yaml").write_text("extends: base.yaml\n")
    base.with_name("bad.yaml").write_text(BASE.replace("max_iter: 9", "max_iter: -9"))
    file = base.parents[1] / "own.yaml"
    file.write_text(text + "\n")
    with pytest.raises(SuiteError) as caught:
        load_suite(file)
    assert message in str(caught.value)


def test_an_argument_takes_the_blame_for_what_was_inherited(base):
    with pytest.raises(SuiteError, match=r"^--set tasks.denoising.noise=.*: tasks.denoising.noise.sigma: is -1"):
        extended(base, "", "tasks.denoising.noise={kind: gaussian, sigma: -1}")
    with pytest.raises(SuiteError, match=r"^own.yaml:2: tasks.denoising-noise-gaussian.noise.sigma: is -1"):
        extended(base, "tasks: {denoising: {grid: {noise: [{kind: gaussian, sigma: -1}]}}}\n")


def test_a_built_in_suite_can_be_extended(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("extends: quickstart\nmethods: {tgv: {kind: tgv}}\ntasks: {deblurring: null}\n")
    suite = load_suite(file).suite
    assert suite.name == "mine"
    assert [method.key for method in suite.methods] == ["direct", "tv", "unet", "admm-net", "hybrid", "tgv"]
    assert list(suite.tasks) == ["sparse-view-ct", "accelerated-mri"]
