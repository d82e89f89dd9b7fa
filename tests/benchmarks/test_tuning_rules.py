"""Rules of tuning in a suite: what each was given, and that an oracle is labelled and never judged."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from isocenter.benchmarks.run_folder import read_csv, read_json
from isocenter.benchmarks.runner import expand, open_tasks, run_suite
from isocenter.benchmarks.schema import load_suite
from isocenter.benchmarks.yaml_lines import SuiteError

PLUGIN = '''
from typing import ClassVar, Literal

import numpy as np
from isocenter.baselines.tuned import Estimate, Parameter, TunedMethod
from isocenter.benchmarks.classical_specs import TuningSpec
from isocenter.benchmarks.spec import DatasetSpec, MethodSpec
from isocenter.data.datasets import Dataset, Sample


class Squares(DatasetSpec):
    """Images of one grey each: 1 for validation, a weaker one for the test."""

    kind: Literal["squares"]
    grey: float = 0.3

    def build(self, name):
        def samples(split, grey):
            return tuple(
                Sample(f"{split}{k}", f"{split}{k}", lambda: np.full((16, 16), grey, np.float32)) for k in range(3)
            )

        splits = {"train": (), "validation": samples("validation", 1.0), "test": samples("test", self.grey)}
        return Dataset(name, (16, 16), 1, 1.0, 1.0, "", (0.0, 1.0), (), splits)


class Shrinkage(TunedMethod):
    searched = (Parameter("regularisation", 1e-3, 1e3),)

    def estimate(self, y, physics, values, *, start=None, rough=False):
        return Estimate(y / (1 + values["regularisation"]))


class ShrinkageSpec(MethodSpec):
    kind: Literal["shrinkage"]
    tuning: TuningSpec = TuningSpec()
    title: ClassVar[str] = "Shrinkage"

    def build(self, seed):
        return Shrinkage({"regularisation": None}, self.tuning.build())

    def needs(self):
        return ("validation",)


SPECS = [Squares, ShrinkageSpec]
'''

SUITE = """\
name: rules
plugins: [plugin.py]
data: {kind: squares}
methods:
  - kind: shrinkage
  - {kind: shrinkage, name: upper, label: Best, tuning: {rule: oracle}}
  - {kind: shrinkage, name: stein, tuning: {rule: sure, budget: 20}}
  - {kind: shrinkage, name: morozov, tuning: {rule: discrepancy, noise_level: 0.2}}
tasks:
  denoising:
    physics: {kind: identity}
    noise: {kind: gaussian, sigma: 0.2}
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "plugin.py").write_text(PLUGIN, encoding="utf-8")
    path = tmp_path / "rules.yaml"
    path.write_text(SUITE, encoding="utf-8")
    return path


def test_the_oracle_is_tuned_on_the_test_images_and_says_so(suite: Path, tmp_path: Path) -> None:
    outcome = run_suite(load_suite(suite), tmp_path / "run")
    assert not outcome.failed
    cells = {path.name.rsplit("-", 2)[0]: path for path in (tmp_path / "run" / "cells" / "denoising").iterdir()}
    fits = {name: read_json(path / "fit.json") for name, path in cells.items()}
    with h5py.File(tmp_path / "run" / "tasks" / "denoising" / "measurements.h5") as file:
        measured = {
            split: (torch.from_numpy(file[split]["truth"][:]), torch.from_numpy(file[split]["measurement"][:]))
            for split in ("validation", "test")
        }

    def chosen(name: str) -> float:
        return 1 / (1 + fits[name]["chosen"]["regularisation"])

    for name, split in (("shrinkage", "validation"), ("upper", "test")):
        x, y = measured[split]
        factors = np.linspace(0, 1, 2001)
        psnr = [-10 * float(torch.log10((s * y - x).square().mean((1, 2, 3))).mean()) for s in factors]
        assert chosen(name) == pytest.approx(factors[np.argmax(psnr)], abs=5e-3)
    y = measured["validation"][1]
    assert chosen("stein") == pytest.approx(1 - y.numel() * 0.2**2 / float(y.square().sum()), rel=3e-3)

    assert "on 3 test images" in fits["upper"]["budget"]
    assert fits["upper"]["warnings"][0] == "oracle: tuned on the test images, an upper bound and no result"
    spec = read_json(cells["upper"] / "spec.json")
    assert (spec["label"], spec["group"]) == ("Best (oracle)", "oracle")
    assert read_json(cells["shrinkage"] / "spec.json")["group"] == "classical"

    scores = {
        name: np.mean([float(row["psnr"]) for row in read_csv(path / "metrics.csv")]) for name, path in cells.items()
    }
    assert max(scores, key=scores.__getitem__) == "upper"
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Best (oracle): oracle: tuned on the test images, an upper bound and no result" in page
    assert "Best (oracle), the" not in page  # neither the reference nor the winner
    assert "is clearly best" not in page.split("Best (oracle)")[-1]


def test_the_oracles_cell_depends_on_the_test_images(suite: Path) -> None:
    def keys(*overrides: str) -> list[str]:
        loaded = load_suite(suite, overrides)
        return [cell.key for cell in expand(loaded, open_tasks(loaded))["denoising"]]

    assert all(one != other for one, other in zip(keys(), keys("data.grey=0.4"), strict=True))
    assert len(set(keys())) == 4


def test_mistakes_in_yaml(suite: Path) -> None:
    with pytest.raises(SuiteError, match="'upper' is tuned on the test images and cannot be the reference"):
        load_suite(suite, ("reference=upper",))
    with pytest.raises(SuiteError, match="rule validation uses no noise level"):
        load_suite(suite, ("methods.0.tuning={noise_level: 0.1}",))
    with pytest.raises(SuiteError, match="held-out"):
        load_suite(suite, ("methods.0.tuning={rule: heldout}",))
