"""What a suite may say; whatever is wrong ends in one line that names the line of the file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from isocenter.benchmarks.runner import open_tasks
from isocenter.benchmarks.schema import built_in_suites, load_suite, suite_model
from isocenter.benchmarks.yaml_lines import SuiteError, load, parse

SUITE = """\
name: demo
data:
  head: {kind: phantoms, family: head, size: 64, test: 4}
  torso:
    kind: phantoms
    family: torso
    size: 64
methods:
  - kind: direct
  - {kind: tv, max_iter: 5}
tasks:
  ct:
    data: torso
    physics:
      kind: radon
      geometry: {kind: parallel, views: 30}
    noise: {kind: poisson, photons: 1e5}
  mri:
    data: head
    physics:
      kind: fourier
      mask: {kind: variable-density, acceleration: 4, calibration_lines: 8}
reference: tv
"""

MISTAKES = [
    ("max_iter", "max_itr", "s.yaml:10: methods[1]: unknown key 'max_itr', did you mean 'max_iter'?"),
    ("kind: tv", "kind: tvv", "s.yaml:10: methods[1]: unknown kind 'tvv', did you mean 'tv'?"),
    ("    size: 64\n", "    sise: 64\n", "s.yaml:7: data.torso: unknown key 'sise', did you mean 'size'?"),
    ("photons: 1e5", "photons: many", "s.yaml:17: tasks.ct.noise.photons: is 'many', expected a valid number"),
    ("photons: 1e5", "photons: -1", "s.yaml:17: tasks.ct.noise.photons: is -1, expected greater than 0"),
    ("kind: poisson, ", "", "s.yaml:17: tasks.ct.noise: 'kind' is missing"),
    ("views: 30", "angles: []", "s.yaml:16: tasks.ct.physics.geometry.angles: is [], expected"),
    ("views: 30", "views: 30, angles: [1]", "geometry: give either views, a number, or angles"),
    (
        "views: 30",
        "views: 30, stop: -1",
        "s.yaml:16: tasks.ct.physics.geometry.stop: views run from start 0 to stop -1",
    ),
    ("kind: parallel", "kind: fan", "s.yaml:16: tasks.ct.physics.geometry: 'source_axis' is missing (1 more after it)"),
    ("kind: parallel", "kind: cone", "geometry: unknown kind 'cone'; known: fan, parallel"),
    ("data: head", "data: haed", "s.yaml:19: tasks.mri.data: no data is called 'haed', did you mean 'head'?"),
    ("reference: tv", "reference: tvx", "s.yaml:23: reference: no method is called 'tvx', did you mean 'tv'?"),
    ("- kind: direct", "- kind: tv", "two methods are called 'tv'"),
    ("- kind: direct", "- direct", "s.yaml:9: methods[0]: is 'direct', expected a mapping"),
    ("size: 64, test", "size: 64.5, test", "s.yaml:3: data.head.size: is 64.5, expected a valid integer"),
    ("size: 64, test", "size: 32, test", "s.yaml:3: data.head.size: the head phantom needs 64 pixels"),
    ("family: head", "family: foot", "s.yaml:3: data.head.family: is 'foot', expected 'head', 'torso'"),
    ("family: torso", "family: torso\n    contrast: T2", "data.torso.contrast: only the head phantom has contrast"),
    ("name: demo", "name: ../x", "s.yaml:1: name: is '../x', expected a name of letters"),
    ("  ct:", "  c/t:", "s.yaml:12: tasks.c/t: is 'c/t', expected a name"),
    ("methods:", "methds:", "s.yaml:8: unknown key 'methds', did you mean 'methods'?"),
    ("test: 4", "test: .nan", "s.yaml:3: data.head.test: is nan, expected"),
    ("name: demo", "name: demo\nname: demo", "s.yaml:1: name: this key is given twice, again on line 2"),
    ("name: demo", "name: [", "s.yaml:"),
    (
        "name: demo",
        "name: !!python/object/apply:os.system [ls]",
        "s.yaml:1: name: the tag tag:yaml.org,2002:python/object/apply:os.system has",
    ),
    ("name: demo", "plugins: [absent.py]", "s.yaml:1: plugins[0]: there is no file"),
    ("name: demo", "plugins: 3", "s.yaml:1: plugins: expected a list of Python files"),
    ("name: demo", "data2: *x", "s.yaml:1: not valid YAML"),
    ("data: head", "data: head\n    fitted_on: cd", "s.yaml:20: tasks.mri.fitted_on: no other task is called 'cd'"),
    ("data: head", "data: head\n    fitted_on: mri", "s.yaml:20: tasks.mri.fitted_on: no other task is called 'mri'"),
    (
        "  mri:\n    data: head",
        "  pet: {data: head, physics: {kind: identity}, fitted_on: mri}\n  mri:\n    data: head\n    fitted_on: ct",
        "s.yaml:18: tasks.pet.fitted_on: 'mri' is itself fitted on 'ct'; name that one",
    ),
    (
        "reference: tv",
        "    methods: [direct]\n  pet: {data: head, physics: {kind: identity}, fitted_on: mri}",
        "s.yaml:24: tasks.pet.fitted_on: tv is not run on 'mri' and cannot be fitted there",
    ),
    ("data: head", "data: head\n    clip: [1, 0]", "s.yaml:20: tasks.mri.clip: values are clipped to 1 … 0"),
    (
        "data: head",
        "data: head\n    published: [{label: TV, method: t, psnr: 30, source: x}]",
        "s.yaml:20: tasks.mri.published[0].method: no method is called 't', did you mean 'tv'?",
    ),
    (
        "data: head",
        "data: head\n    published: [{label: TV, source: x}]",
        "s.yaml:20: tasks.mri.published[0]: TV was published with no number; give psnr, ssim or rmse",
    ),
]


def write(folder: Path, text: str) -> Path:
    path = folder / "s.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES)
def test_mistakes_end_in_one_line(tmp_path, old, new, message):
    assert old in SUITE
    with pytest.raises(SuiteError) as caught:
        load_suite(write(tmp_path, SUITE.replace(old, new, 1)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        # What only shows when images are looked for and operators are tried, still before any computing.
        (
            "kind: parallel, views: 30",
            "kind: fan, views: 9, source_axis: 200, source_detector: 400",
            "s.yaml:14: tasks.ct.physics: the corner of the image is 282.8 mm from the axis",
        ),
        ("acceleration: 4", "acceleration: 40", "s.yaml:20: tasks.mri.physics: cartesian_variable_density"),
        ("views: 30", "views: 30, offset: 1e9, detectors: 0", "geometry.detectors: is 0"),
        ("test: 4}", "test: 4, validation: 0}", "s.yaml:3: data.head: there are no validation images, which tv"),
        ("tv, max_iter: 5}", "tv, weights: nowhere}", "s.yaml:10: methods[1].weights: there is no folder"),
        (
            "{kind: phantoms, family: head, size: 64, test: 4}",
            "{kind: images, root: nowhere, split: {kind: hash}, intensity: {kind: scaled}, size: 64, pixel_size: 1}",
            "s.yaml:3: data.head: there is no folder",
        ),
        (
            "{kind: phantoms, family: head, size: 64, test: 4}",
            "{kind: images, root: ., files: ['*.png'], split: {kind: hash}, intensity: {kind: scaled}, size: 64, "
            "pixel_size: 1}",
            "has nothing that matches '*.png'",
        ),
    ],
)
def test_impossible_geometry_and_missing_files_name_their_line(tmp_path, old, new, message):
    assert old in SUITE
    with pytest.raises(SuiteError) as caught:
        open_tasks(load_suite(write(tmp_path, SUITE.replace(old, new, 1))))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_set_that_is_not_there_says_how_to_get_it(tmp_path, monkeypatch):
    images = "kind: images, split: {kind: hash}, intensity: {kind: hu}, size: 64, pixel_size: 1"
    monkeypatch.delenv("ISOCENTER_MIRROR", raising=False)
    monkeypatch.setenv("ISOCENTER_DATA", str(tmp_path / "none"))
    for name, folder, advice in (
        ("open-ms", "mri/open_ms", "run `isocenter fetch open-ms`, or set ISOCENTER_MIRROR"),
        ("tcga-lung", "ct/tcga_lung", "not offered for download; set ISOCENTER_MIRROR"),
    ):
        spec = "{" + images + f", set: {name}, folder: {folder}" + "}"
        text = SUITE.replace("{kind: phantoms, family: head, size: 64, test: 4}", spec)
        with pytest.raises(SuiteError, match=r"s\.yaml:3: data\.head: the files of") as caught:
            open_tasks(load_suite(write(tmp_path, text)))
        assert advice in str(caught.value)


def test_a_plugin_that_fails_names_its_line(tmp_path):
    (tmp_path / "bad.py").write_text("import no_such_module\n")
    (tmp_path / "none.py").write_text("SPECS = [int]\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit(0)\n")
    for name, reason in (
        ("bad.py", "bad.py fails: ModuleNotFoundError"),
        ("none.py", "<class 'int'> in SPECS is no subclass"),
        ("leaves.py", "leaves.py fails: SystemExit"),
    ):
        with pytest.raises(SuiteError, match=r"s\.yaml:2: plugins\[0\]: ") as caught:
            load_suite(write(tmp_path, SUITE.replace("name: demo", f"name: demo\nplugins: [{name}]")))
        assert reason in str(caught.value)


def test_plugins_bring_their_own_kinds(suite):
    loaded = load_suite(suite)
    assert [type(method).__name__ for method in loaded.suite.methods] == ["DirectSpec", "ScaleSpec"]
    with pytest.raises(SuiteError, match="unknown key 'troble', did you mean 'trouble'"):
        load_suite(write(suite.parent, suite.read_text().replace("seeds:", "troble:")))


@pytest.mark.parametrize(
    ("text", "place", "value"),
    [
        ("data.head.test=7", ("data", "head", "test"), 7),
        ("data.*.train=3", ("data", "torso", "train"), 3),
        ("methods.tv.max_iter=9", ("methods", 1, "max_iter"), 9),
        ("methods.1.tol=1e-5", ("methods", 1, "tol"), 1e-5),
        ("tasks.mri.noise.kind=none", ("tasks", "mri", "noise", "kind"), "none"),
        ("tasks.ct.noise={kind: none}", ("tasks", "ct", "noise"), {"kind": "none"}),
        ("tasks.ct.physics.geometry={kind: parallel, views: 3}", ("tasks", "ct", "physics", "geometry", "views"), 3),
        ("methods.*.seeds=[1, 2]", ("methods", 0, "seeds"), [1, 2]),
    ],
)
def test_set_changes_one_value(tmp_path, text, place, value):
    changed = load_suite(write(tmp_path, SUITE), [text]).suite.model_dump(mode="json")
    for step in place:
        changed = changed[step]
    assert changed == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data.head.tset=7", "--set data.head.tset=7: data.head: unknown key 'tset', did you mean 'test'?"),
        ("methods.tvv.max_iter=9", "methods has no entry 'tvv', did you mean 'tv'?"),
        ("name", "expected key.key=value"),
        ("name.x=1", "name is a single value"),
        ("methods.2.tol=1", "methods has no entry '2'; known: direct, tv"),
        ("tasks.cd.noise.sigma=1", "--set tasks.cd.noise.sigma=1: tasks has no 'cd', did you mean 'ct'?"),
        ("data.haed.test=1", "--set data.haed.test=1: data has no 'haed', did you mean 'head'?"),
        ("seed=[", "the value is not YAML"),
    ],
)
def test_set_names_its_own_mistakes(tmp_path, text, message):
    with pytest.raises(SuiteError) as caught:
        load_suite(write(tmp_path, SUITE), [text])
    assert message in str(caught.value)


def test_set_finds_items_of_lists_and_names_with_dots(tmp_path):
    text = (
        SUITE.replace("kind: tv,", "kind: tv, name: tv.2,")
        .replace("views: 30", "angles: [0, 1]")
        .replace(": tv\n", ": tv.2\n")
    )
    file = write(tmp_path, text.replace("  ct:", "  ct-0.5:"))
    overrides = ["methods.tv.2.tol=1e-5", "tasks.ct-0.5.physics.geometry.angles.1=0.5"]
    suite = load_suite(file, overrides).suite
    assert suite.methods[1].tol == 1e-5
    assert suite.tasks["ct-0.5"].physics.geometry.angles == (0, 0.5)


def test_a_single_dataset_needs_no_name(suite):
    loaded = load_suite(suite, ["data.test=1"])
    assert loaded.suite.data["images"].test == 1
    assert {task.data for task in loaded.suite.tasks.values()} == {"images"}


def test_the_resolved_suite_loads_to_itself(tmp_path, suite):
    for path in (write(tmp_path, SUITE), suite, *built_in_suites()):
        first = load_suite(path).suite
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        again = load_suite(write(tmp_path / "elsewhere", first.dump())).suite
        assert again.model_dump() == first.model_dump()


def test_yaml_scalars_are_those_of_yaml_1_2():
    values = parse("[1e-3, 01, no, 12:30, 2020-01-01, 1_0, .5, -3, true, ~, 0x10]")
    assert values == [1e-3, "01", "no", "12:30", "2020-01-01", "1_0", 0.5, -3, True, None, "0x10"]


def test_yaml_aliases_merge_and_bombs(tmp_path):
    data, lines = load(write(tmp_path, "a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\n"))
    assert data["b"] == {"x": 1, "y": 3}
    assert lines.line(("b", "y")) == 4
    with pytest.raises(SuiteError, match="refers to the value that it is part of"):
        load(write(tmp_path, "a: &a [*a]\n"))
    bomb = "".join(f"k{i}: &k{i} [{', '.join([f'*k{i - 1}'] * 9)}]\n" for i in range(1, 12))
    with pytest.raises(SuiteError, match="more than 100000 values"):
        load(write(tmp_path, "k0: &k0 [x]\n" + bomb))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "s.yaml:1: the suite is empty"),
        (b"# nothing\n", "s.yaml:1: the suite is empty"),
        (b"- a\n", "s.yaml:1: a suite is a mapping with name, data, methods and tasks"),
        ("title: é\n".encode("latin-1"), "s.yaml: cannot read the suite: it is not UTF-8 text"),
        ("title: é\n".encode("utf-16"), "s.yaml: cannot read the suite: it is not UTF-8 text"),
        (b"name: a\x00b\n", "s.yaml:1: not valid YAML: unacceptable character #x0000"),
        (b"data:\n\tkind: x\n", "s.yaml:2: not valid YAML: while scanning for the next token, found character '\\t'"),
        (b"a: 1\n---\nb: 2\n", "s.yaml:2: not valid YAML: expected a single document"),
        (b"data:\n  kind: a\n  kind: b\n", "s.yaml:2: data.kind: this key is given twice, again on line 3"),
        (b'name: a\n"name": b\n', "s.yaml:1: name: this key is given twice, again on line 2"),
        (b"? [a, b]\n: 1\n", "s.yaml:1: line 1 has a key that is not text"),
        (b"a: &a {<<: *a}\n", "s.yaml:1: a: an alias refers to the value that it is part of"),
        (b"a: *b\n", "s.yaml:1: not valid YAML: found undefined alias 'b'"),
        (b"a: " + b"[" * 5000 + b"]" * 5000, "s.yaml:1: not valid YAML: maximum recursion depth exceeded"),
        (
            b"name: a\nseed: !!python/name:os.system\n",
            "s.yaml:2: seed: the tag tag:yaml.org,2002:python/name:os.system",
        ),
        (b"name: !own x\n", "s.yaml:1: name: the tag !own has no meaning in a suite"),
        (b"name: !!binary aGVsbG8=\n", "s.yaml:1: name: the tag tag:yaml.org,2002:binary has no meaning in a suite"),
        (b"data: !!set {a}\n", "s.yaml:1: data: the tag tag:yaml.org,2002:set has no meaning in a suite"),
        (b"seed: !!bool maybe\n", "s.yaml:1: seed: 'maybe' is not of the type bool"),
        (b"seed: " + b"9" * 5000, f"s.yaml:1: seed: '{'9' * 40}' is not of the type int"),
        (b"#" * 1_000_001, "s.yaml: it holds more than 1,000,000 bytes, which is no suite"),
        (b"<script>: 1\n", "s.yaml:1: unknown key '<script>'"),
    ],
)
def test_a_file_that_is_no_suite_ends_in_one_line(tmp_path, content, message):
    (tmp_path / "s.yaml").write_bytes(content)
    with pytest.raises(SuiteError) as caught:
        load_suite(tmp_path / "s.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", ".", "/dev/null", "a\x00b", "x" * 5000, "~nobody/x"])
def test_a_name_of_no_file_ends_in_one_line(name):
    with pytest.raises(SuiteError, match="there is no suite"):
        load_suite(name)


SCALARS = st.none() | st.booleans() | st.integers(-5, 500) | st.floats() | st.sampled_from(["", "tv", "x", "/", "T1"])
VALUES = st.recursive(SCALARS, lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(max_size=4), c, max_size=3))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_anywhere_loads_or_ends_in_one_line(tmp_path, data):
    raw = yaml.safe_load(SUITE)
    place = raw
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(VALUES)
    message = "s.yaml:"
    try:
        load_suite(write(tmp_path, yaml.safe_dump(raw, allow_unicode=True)))
    except SuiteError as error:
        message = str(error)
    assert "\n" not in message
    assert message.startswith("s.yaml:")


@pytest.mark.parametrize("name", list(built_in_suites()))
def test_built_in_suites_load(name):
    suite = load_suite(name).suite
    assert suite.name == name
    assert suite.title
    assert suite.reference in {method.key for method in suite.methods}


def test_the_schema_can_be_shown_to_editors():
    schema = suite_model().model_json_schema()
    assert {"data", "methods", "tasks"} <= set(schema["properties"])


def test_a_mistake_in_the_only_method_is_named_itself(tmp_path):
    file = tmp_path / "one.yaml"
    rest = "data: {kind: phantoms, family: head, size: 64, test: 1}\ntasks: {a: {physics: {kind: identity}}}\n"
    file.write_text(rest + "methods:\n  - {kind: tv, iterations: 3}\n")
    with pytest.raises(SuiteError, match=r"one.yaml:4: methods\[0\]: unknown key 'iterations'"):
        load_suite(file)
    file.write_text(rest + "methods: []\n")
    with pytest.raises(SuiteError, match=r"one.yaml:3: methods: is \[\], expected at least one"):
        load_suite(file)


@pytest.mark.parametrize(
    ("physics", "noise"),
    [("{kind: identity}", "{kind: poisson, photons: 1e4}"), ("{kind: fourier, mask: M}", "{kind: rician, sigma: 0.1}")],
)
def test_noise_that_makes_no_sense_on_a_measurement_is_refused(tmp_path, physics, noise):
    physics = physics.replace("M", "{kind: uniform, acceleration: 2, calibration_lines: 4}")
    file = tmp_path / "noise.yaml"
    file.write_text(
        "data: {kind: phantoms, family: head, size: 64, test: 1}\nmethods: [{kind: direct}]\n"
        f"tasks:\n  a:\n    physics: {physics}\n    noise: {noise}\n"
    )
    with pytest.raises(SuiteError, match=r"noise.yaml:6: tasks.a.noise.kind: .* noise is a model of"):
        load_suite(file)
