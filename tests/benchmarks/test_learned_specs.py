"""Every kind of learned method, on real and on complex images, through the runner and back from its weights."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import pytest
import torch
from isocenter.benchmarks import report
from isocenter.benchmarks.learned_specs import SPECS
from isocenter.benchmarks.runner import expand, open_tasks, run_suite
from isocenter.benchmarks.schema import load_suite
from isocenter.benchmarks.yaml_lines import SuiteError
from isocenter.unrolled import LearnedMethod, training

SMALL = {
    "unet": "widths: [4, 8]",
    "admm-net": "stages: 1",
    "learned-primal-dual": "iterations: 2, width: 4",
    "hybrid": "stages: 1, widths: [4, 8], safeguard: edges, tuning: {budget: 4}",
    "learned-primal": "iterations: 2, width: 4",
    "learned-pdhg": "iterations: 2, width: 4",
    "learned-gradient": "iterations: 2, width: 4",
    "ista-net-plus": "phases: 1, width: 4",
    "admm-csnet": "stages: 1, features: 4",
    "variational-network": "stages: 1, filters: 4, kernel: 5",
    "dncnn": "depth: 3, width: 4",
    "dual-domain": "depth: 3, width: 4, widths: [4, 8]",
    "e2e-varnet": "cascades: 1, widths: [4, 8]",
    "modl": "iterations: 1, depth: 3, width: 4",
    "itnet": "iterations: 2, widths: [4, 8]",
    "tv-maps": "iterations: 4, widths: [4, 8]",
    "deep-equilibrium": "depth: 3, width: 4, iterations: 15",
    "pnp-network": "widths: [4, 6], max_iter: 3, tuning: {budget: 4}",
}
MISTAKES = [
    ("admm-net", "kernel: 4", "4 is even, and a kernel has a middle; take 3 or 5"),
    ("hybrid", "max_iter: 9", "max_iter belongs to a safeguard that is not there"),
    ("hybrid", "safeguard: edges, tuning: {rule: oracle}", "a network must not see test images in training"),
    ("hybrid", "safeguard: image, train_on: [tomography]", "its numbers are tuned for one operator"),
    ("pnp-network", "training: {loss: measurement-splitting}", "a denoiser has nothing to split"),
    ("pnp-network", "training: {augment: {flips: true}}", "a denoiser is trained on images that are not measured anew"),
]
DATA = "kind: phantoms, family: dival-ellipses, size: 16, train: 2, validation: 1, test: 1"
SUITE = f"""\
name: all
data:
  real: {{{DATA}}}
  complex: {{{DATA}, complex: {{kind: simulated-phase}}}}
tasks:
  tomography:
    data: real
    physics: {{kind: radon, geometry: {{kind: parallel, views: 8}}}}
    noise: {{kind: gaussian, sigma: 0.02}}
  coils:
    data: complex
    physics:
      kind: multicoil
      mask: {{kind: uniform, acceleration: 2, calibration_lines: 8}}
      coil_maps: {{kind: simulated, coils: 3}}
    noise: {{kind: gaussian, sigma: 0.02}}
methods:
"""
TRAINING = "training: {steps: 2, batch: 2, validate_every: 2, warmup: 0}"


@pytest.mark.parametrize(("kind", "options", "message"), MISTAKES)
def test_mistakes_are_found_before_anything_is_trained(tmp_path: Path, kind: str, options: str, message: str) -> None:
    (tmp_path / "wrong.yaml").write_text(SUITE + f"  - {{kind: {kind}, {options}}}\n")
    with pytest.raises(SuiteError, match=re.escape(message)):
        load_suite(tmp_path / "wrong.yaml")


def test_every_kind_is_trained_kept_and_loaded_on_real_and_on_complex_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "write_report", lambda run: run / "report.html")  # figures take seconds
    monkeypatch.setattr(training, "write_picture", lambda folder, curve: None)
    kinds = [spec.model_fields["kind"].annotation.__args__[0] for spec in SPECS]  # type: ignore[union-attr]
    methods = "".join(f"  - {{kind: {kind}, {SMALL[kind]}, {TRAINING}}}\n" for kind in kinds)
    (tmp_path / "all.yaml").write_text(SUITE + methods)
    loaded, run = load_suite(tmp_path / "all.yaml"), tmp_path / "run"
    outcome = run_suite(loaded, run)
    assert (outcome.done, outcome.failed) == (2 * len(SPECS), ())
    for task, cells in expand(loaded, open_tasks(loaded)).items():
        for cell in cells:
            folder, method = run / "cells" / task / cell.name, cell.method.build(0)
            method.load(folder / "fitted")
            assert method.parameters > 0
            if isinstance(method, LearnedMethod):
                assert method.card is not None
                assert method.card.channels in (None, 1 if task == "tomography" else 2)
            y = cell.task.stored(run / "tasks" / task, "test").measurement(0)[None]
            with h5py.File(folder / "reconstructions.h5") as file:
                kept = torch.from_numpy(file["reconstruction"][:])
            torch.testing.assert_close(method.reconstruct(y, cell.task.physics), kept, msg=cell.title)
