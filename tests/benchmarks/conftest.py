"""A small suite whose images and methods come from a plugin, so that the runner is tested without training."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

PLUGIN = '''
"""Discs, and a method that multiplies by a fitted number; what it does is written to a log."""

import json
import os
import signal
import warnings
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import ClassVar, Literal

import numpy as np
import torch

from isocenter.baselines.method import Fit, Method
from isocenter.benchmarks.spec import DatasetSpec, MethodSpec
from isocenter.data.datasets import Dataset, Sample

LOG = Path(__file__).with_name("log")


def disc(radius, size):
    y, x = np.mgrid[:size, :size] - size / 2 + 0.5
    return (np.hypot(x, y) < radius * size / 16).astype(np.float32)


class Discs(DatasetSpec):
    kind: Literal["discs"]
    train: int = 4
    validation: int = 2
    test: int = 3
    size: int = 16

    def build(self, name):
        def samples(split, count):
            return tuple(
                Sample(f"{split}-{k}", f"{split}-{k // 2}", lambda r=k % 5 + 2: disc(r, self.size))
                for k in range(count)
            )

        splits = {split: samples(split, getattr(self, split)) for split in ("train", "validation", "test")}
        return Dataset(name, (self.size, self.size), 1, 1.0, 1.0, "", (0.0, 1.0), ("discs",), splits)

    def training_identity(self):
        return self.model_dump(mode="json", exclude={"test"})


class Scale(Method):
    group = "learned"

    def __init__(self, spec, seed):
        self.spec, self.seed, self.factor, self.seen = spec, seed, None, 0

    def fit(self, train, validation, folder=None):
        log(f"fit {self.spec.key} {self.seed}")
        x, y = train.batch(range(len(train)))
        self.factor = float((x * y).sum() / (y * y).sum())
        return Fit("one number", {"factor": self.factor}, [{"x": 0.0, "validation_psnr": 1.0}], "factor", 0.5, [])

    def reconstruct(self, y, physics):
        trouble = self.spec.trouble
        if trouble == "raises":
            raise RuntimeError("the <b>method</b>\\nbroke")
        if trouble == "nan":
            return physics.direct(y) * float("nan")
        if trouble == "shape":
            return physics.direct(y)[..., 1:]
        if trouble == "memory":
            return np.empty(1 << 50)
        if trouble == "torch-memory":
            return torch.empty(1 << 50)
        while trouble == "spins":
            y = y + 1
        if trouble == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if trouble == "warns":
            warnings.warn(f"did not converge, residual {float(y.norm()):.3e}")
        if trouble in ("interrupt", "kill") and not LOG.with_name("survived").exists():
            LOG.with_name("survived").touch()
            if trouble == "interrupt":
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGKILL)
        return self.factor * physics.direct(y)

    def save(self, folder):
        (folder / "factor.json").write_text(json.dumps(self.factor))

    def load(self, folder):
        self.factor = json.loads((folder / "factor.json").read_text())

    @property
    def parameters(self):
        return 1


class ScaleSpec(MethodSpec):
    kind: Literal["scale"]
    trouble: Literal[
        "none", "raises", "nan", "shape", "memory", "torch-memory", "spins", "dies", "warns", "interrupt", "kill"
    ] = "none"
    budget: int = 1
    train_on: tuple[str, ...] = ()
    title: ClassVar[str] = "Scaled"

    def build(self, seed):
        return Scale(self, seed)

    def needs(self):
        return ("train", "validation")

    def trained_on(self):
        return self.train_on


def log(line):
    with LOG.open("a") as file:
        print(line, file=file)


SPECS = [Discs, ScaleSpec]
'''

SUITE = """\
name: small
seed: 3
plugins: [plugin.py]
data: {kind: discs}
methods:
  - kind: direct
  - {kind: scale, seeds: [0, 1]}
tasks:
  denoising:
    physics: {kind: identity}
    noise: {kind: gaussian, sigma: 0.1}
  inpainting:
    physics: {kind: inpaint, seen: 0.5}
reference: direct
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """The path of a suite with two tasks, two methods and five cells."""
    (tmp_path / "plugin.py").write_text(PLUGIN, encoding="utf-8")
    path = tmp_path / "small.yaml"
    path.write_text(SUITE, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """The module that makes run folders without running anything."""
    spec = spec_from_file_location("synthetic_run", Path(__file__).with_name("synthetic_run.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _no_report(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Figures take seconds and have tests of their own."""
    if request.module.__name__.endswith(("test_runner", "test_faults", "test_cluster")):
        from isocenter.benchmarks import report

        monkeypatch.setattr(report, "write_report", lambda run: run / "report.html")
