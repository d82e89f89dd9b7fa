"""`isocenter train`: one network into the run folder, where `run` goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from isocenter.benchmarks import packaged
from isocenter.benchmarks.fitting import train_cells
from isocenter.benchmarks.learned_specs import UNetSpec
from isocenter.benchmarks.runner import run_suite
from isocenter.benchmarks.schema import load_suite
from isocenter.benchmarks.training_specs import TrainingSpec
from isocenter.benchmarks.yaml_lines import SuiteError
from isocenter.unrolled import Training
from isocenter.unrolled.hybrid import Hybrid
from isocenter.unrolled.network import LearnedMethod
from isocenter.unrolled.weights_io import Card, read_weights, write_weights


def fits(suite: Path) -> list[str]:
    log = suite.parent / "log"
    return log.read_text().splitlines() if log.exists() else []


def train(suite: Path, method: str = "scale", out: str = "run", **options) -> list[str]:
    lines: list[str] = []
    train_cells(load_suite(suite), suite.parent / out, method, tell=lines.append, **options)
    return lines


def test_run_uses_what_was_trained(suite):
    assert len(train(suite, task="denoising", seed=1)) == 1
    assert fits(suite) == ["fit scale 1"]
    (fitted,) = (suite.parent / "run" / "cells" / "denoising").glob("scale-1-*/fitted/factor.json")
    assert not (suite.parent / "run" / "results.csv").exists()
    assert run_suite(load_suite(suite), suite.parent / "run").done == 6
    assert sorted(fits(suite)) == ["fit scale 0", "fit scale 0", "fit scale 1", "fit scale 1"]
    apart = suite.parent / "apart"
    run_suite(load_suite(suite), apart)
    (other,) = (apart / "cells" / "denoising").glob("scale-1-*/fitted/factor.json")
    assert fitted.read_text() == other.read_text()


def test_all_tasks_and_seeds_where_none_are_named_and_each_once(suite):
    assert len(train(suite)) == 4
    assert len(train(suite)) == 4
    assert len(fits(suite)) == 4


def test_packaged_weights_are_kept_unless_asked(suite, monkeypatch):
    monkeypatch.setattr(packaged, "FOLDER", suite.parent / "weights")
    run_suite(load_suite(suite), suite.parent / "trained")
    packaged.package(suite.parent / "trained")
    (suite.parent / "log").unlink()
    assert all("--retrain" in line for line in train(suite))
    assert fits(suite) == []
    train(suite, retrain=True)
    assert len(fits(suite)) == 4
    assert run_suite(load_suite(suite), suite.parent / "run", retrain=True).done == 6
    assert len(fits(suite)) == 4


def test_packaged_kernels_have_half_precision_and_scalars_all(tmp_path):
    """As the network is read again, all is float32."""
    torch.manual_seed(0)
    network = Hybrid(stages=1, widths=(4, 8))
    network.regularisation.fill_(1.2345e-5)  # less than half precision can hold
    card = Card(
        network.settings,
        {},
        {},
        data_range=1.0,
        validation_psnr=30.0,
        parameters=1,
        seconds=1.0,
        hardware="",
        commit="",
    )
    (tmp_path / "fitted").mkdir()
    write_weights(tmp_path / "fitted" / "weights.safetensors", network, card)
    packaged._replace(tmp_path / "packaged", tmp_path / "fitted", {})
    before, after = ((tmp_path / name / "weights.safetensors").stat().st_size for name in ("fitted", "packaged"))
    assert after < 0.75 * before
    again, _ = read_weights(
        tmp_path / "packaged" / "weights.safetensors", lambda channels: Hybrid(channels, stages=1, widths=(4, 8))
    )
    assert again.regularisation == network.regularisation
    for name, tensor in again.state_dict().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, network.state_dict()[name], rtol=1e-3, atol=1e-6)


def test_mistakes_end_in_one_line(suite):
    with pytest.raises(SuiteError, match="--method skale: the suite has none of this name, did you mean 'scale'"):
        train(suite, "skale")
    with pytest.raises(SuiteError, match="--task x: the suite has none of this name"):
        train(suite, task="x")
    with pytest.raises(SuiteError, match="no cell to train: scale has the seeds 0, 1"):
        train(suite, seed=5)
    with pytest.raises(SuiteError, match="--method direct: it is not trained"):
        train(suite, "direct")


def test_a_setting_that_is_new_counts_as_its_default(tmp_path):
    method = UNetSpec(kind="unet")
    identity = {"task": "t", "method": {**method.identity(), "seed": 0}}
    old = json.loads(json.dumps(identity))
    del old["method"]["training"]["checkpoint"]
    (tmp_path / "card.json").write_text(json.dumps({"fitted_to": old}))
    assert packaged.fits(tmp_path, identity, method)

    other = UNetSpec(kind="unet", training=TrainingSpec(checkpoint=True))
    assert not packaged.fits(tmp_path, {**identity, "method": {**other.identity(), "seed": 0}}, other)
    assert not packaged.fits(tmp_path, {**identity, "method": {**method.identity(), "seed": 1}}, method)
    old["method"]["gone"] = 1
    (tmp_path / "card.json").write_text(json.dumps({"fitted_to": old}))
    assert not packaged.fits(tmp_path, identity, method)
    (tmp_path / "card.json").write_text("damaged")
    assert not packaged.fits(tmp_path, identity, method)


def test_defaults_in_yaml_are_those_of_the_engine():
    assert TrainingSpec().build() == Training()


JOINT = """\
name: joint
data: {kind: phantoms, family: head, size: 64, train: 4, validation: 2, test: 1}
methods:
  - {kind: admm-net, stages: 1, train_on: [mild, strong], training: {steps: 4, batch: 2, validate_every: 2}}
tasks:
  mild: {physics: {kind: blur, psf: {kind: gaussian, sigma: 1.0}}, noise: {kind: gaussian, sigma: 0.01}}
  strong: {physics: {kind: blur, psf: {kind: gaussian, sigma: 2.0}}, noise: {kind: gaussian, sigma: 0.05}}
  unseen: {physics: {kind: blur, psf: {kind: gaussian, sigma: 1.5}}, noise: {kind: gaussian, sigma: 0.03}}
"""


def test_one_network_for_several_tasks_is_trained_once(tmp_path):
    suite = tmp_path / "joint.yaml"
    suite.write_text(JOINT, encoding="utf-8")
    folder = tmp_path / "run"
    assert run_suite(load_suite(suite), folder).done == 3
    (shared,) = (folder / "fits").iterdir()
    card = json.loads((shared / "fitted" / "weights.json").read_text())
    assert card["data"]["training_images"] == 8
    fits = [json.loads(path.read_text()) for path in (folder / "cells").glob("*/*/fit.json")]
    assert len(fits) == 3
    assert all(fit == fits[0] for fit in fits)
    assert not list((folder / "cells").glob("*/*/fitted"))

    # A change of a task that it is trained on is another fit, of any other task it is not.
    changed = [f"tasks.{name}.noise.sigma=0.04" for name in ("unseen", "mild")]
    run_suite(load_suite(suite, changed[:1]), folder)
    assert len(list((folder / "fits").iterdir())) == 1
    run_suite(load_suite(suite, changed), folder)
    assert len(list((folder / "fits").iterdir())) == 2


def test_a_task_to_train_on_that_is_not_there_is_named_with_its_line(tmp_path):
    suite = tmp_path / "joint.yaml"
    suite.write_text(JOINT.replace("strong]", "stron]"), encoding="utf-8")
    with pytest.raises(SuiteError, match=r"joint.yaml:4: .*no task is called 'stron', did you mean 'strong'"):
        run_suite(load_suite(suite), tmp_path / "run")


GUARDED = """\
name: guarded
data: {kind: phantoms, family: head, size: 64, train: 4, validation: 2, test: 1}
methods:
  - &network {kind: hybrid, stages: 1, widths: [4, 8], training: {steps: 4, batch: 2, validate_every: 2}}
  - {<<: *network, name: guarded, safeguard: edges, tuning: {budget: 4}, max_iter: 20}
tasks:
  blur: {physics: {kind: blur, psf: {kind: gaussian, sigma: 1.0}}, noise: {kind: gaussian, sigma: 0.01}}
"""


def test_a_network_with_and_without_a_safeguard_is_trained_once(tmp_path, monkeypatch):
    suite, out, trained = tmp_path / "guarded.yaml", tmp_path / "run", []
    suite.write_text(GUARDED, encoding="utf-8")
    original = LearnedMethod.fit
    monkeypatch.setattr(LearnedMethod, "fit", lambda self, *on: trained.append(1) or original(self, *on))

    assert run_suite(load_suite(suite), out, methods=["guarded"]).done == 1
    assert run_suite(load_suite(suite), out).done == 2
    assert len(trained) == 1
    alone, guarded = (next((out / "cells" / "blur").glob(f"{name}-0-*")) for name in ("hybrid", "guarded"))
    weights = [(cell / "fitted" / "weights.safetensors").read_bytes() for cell in (alone, guarded)]
    assert weights[0] == weights[1]
    fits = [json.loads((cell / "fit.json").read_text()) for cell in (alone, guarded)]
    assert fits[1]["budget"].startswith(f"{fits[0]['budget']}, then ")
    assert fits[1]["curve"] == fits[0]["curve"]
    assert fits[1]["seconds"] > fits[0]["seconds"]

    # With another number of steps it is another network.
    run_suite(load_suite(suite, ["methods.guarded.training.steps=3"]), out)
    assert len(trained) == 2

    # One that is packaged is not trained again, and its files count as the result does.
    monkeypatch.setattr(packaged, "FOLDER", tmp_path / "weights")
    packaged.package(out)
    shutil.rmtree(packaged.packaged("guarded", "blur", "guarded", 0))
    again = tmp_path / "again"
    assert run_suite(load_suite(suite), again).done == 2
    assert len(trained) == 2
    (found,) = (again / "cells" / "blur").glob("guarded-0-*")
    assert found.name != guarded.name
    assert "fitted before" in json.loads((found / "fit.json").read_text())["budget"]
