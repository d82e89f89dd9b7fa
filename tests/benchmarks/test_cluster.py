"""Cells on Dask workers: the same numbers as in one process, whoever dies on the way."""

from __future__ import annotations

import csv
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from isocenter.benchmarks import cluster
from isocenter.benchmarks.cluster import Cluster
from isocenter.benchmarks.runner import Outcome, run_suite
from isocenter.benchmarks.schema import load_suite
from isocenter.benchmarks.yaml_lines import SuiteError

distributed = pytest.importorskip("distributed")

MORE = """\
  - {kind: scale, name: survivor, trouble: kill}
  - {kind: scale, name: endless, trouble: spins, time_limit: 0.5}
  - {kind: scale, name: shared, train_on: [denoising, inpainting]}
"""


@pytest.fixture
def many(suite: Path) -> Path:
    """The suite with methods that kill their process once, never end, or share a fit."""
    suite.write_text(suite.read_text().replace("tasks:\n", f"{MORE}tasks:\n"))
    return suite


def run(suite: Path, where: Cluster | None = None, out: str = "run", **options) -> Outcome:
    return run_suite(load_suite(suite), suite.parent / out, where=where and where.run, **options)


def results(folder: Path) -> list[dict[str, str]]:
    """The rows of results.csv without times, of methods that both ways of running can run."""
    with (folder / "results.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def status(folder: Path, method: str) -> dict:
    (found,) = (folder / "cells" / "denoising").glob(f"{method}-0-*")
    return json.loads((found / "status.json").read_text())


def test_a_worker_that_is_killed_loses_nothing(many):
    """One of two dies while it runs a cell."""
    outcome = run(many, Cluster("local:2", threads=1))
    assert outcome.done == 10
    assert sorted(outcome.failed) == ["denoising · endless", "inpainting · endless"]
    assert (many.parent / "survived").exists()
    assert status(many.parent / "run", "endless")["error"] == "TimeLimitError: the time limit of 0.5 s has passed"
    assert (many.parent / "log").read_text().splitlines().count("fit shared 0") == 1
    assert status(many.parent / "run", "survivor")["environment"]["threads"] == 1

    serial = run(many, out="serial", methods=["direct", "scale", "survivor", "shared"])
    assert (serial.done, serial.failed) == (10, ())
    assert results(many.parent / "run") == results(many.parent / "serial")
    # A run goes on wherever it is asked to, and needs no workers where there is nothing to do.
    assert run(many, Cluster("tcp://127.0.0.1:1"), methods=["direct", "scale"]).done == 10


@pytest.mark.slow
def test_a_cell_that_kills_every_worker_is_given_up(suite):
    suite.write_text(suite.read_text().replace("kind: scale", "kind: scale, trouble: dies").replace("[0, 1]", "[0]"))
    outcome = run(suite, Cluster("local:2", threads=1), tasks=["denoising"])
    assert (outcome.done, outcome.failed) == (1, ("denoising · Scaled",))
    assert status(suite.parent / "run", "scale")["error"] == cluster.LOST


def test_what_trains_gets_a_worker_with_a_gpu(suite, monkeypatch):
    """As on a machine with one GPU and two processes; the second sees none."""
    plugin = suite.parent / "plugin.py"
    fits, on = 'log(f"fit {self.spec.key} {self.seed}', "on GPU {os.environ['CUDA_VISIBLE_DEVICES']!r}"
    plugin.write_text(plugin.read_text().replace(fits, f"{fits} {on}"))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert run(suite, Cluster("local:2", threads=1)).done == 6
    assert set((suite.parent / "log").read_text().splitlines()) == {f"fit scale {seed} on GPU '0'" for seed in (0, 1)}


@pytest.fixture(scope="module")
def workers():
    """A cluster that was there before."""
    options = {"dashboard_address": None, "silence_logs": logging.CRITICAL}
    with distributed.LocalCluster(n_workers=1, threads_per_worker=3, **options) as workers:
        yield workers


class TestAnotherScheduler:
    def test_its_workers_are_used_with_their_threads(self, suite, workers):
        run(suite, out="serial")
        assert run(suite, Cluster(workers.scheduler_address)).done == 6
        assert results(suite.parent / "run") == results(suite.parent / "serial")
        assert status(suite.parent / "run", "scale")["environment"]["threads"] == 3

    def test_a_worker_that_does_not_see_the_folder(self, suite, workers):
        """The path leads through a file that this process has opened and the worker has not."""
        seen = os.open(suite.parent, os.O_RDONLY)
        try:
            with pytest.raises(
                SuiteError, match=r"the worker at tcp://\S+ does not see /proc/self/fd/.*\(No such file"
            ):
                run(suite, Cluster(workers.scheduler_address), out=f"/proc/self/fd/{seen}/run")
        finally:
            os.close(seen)

    def test_a_worker_with_another_plugin(self, suite, workers):
        loaded = load_suite(suite)
        plugin = suite.parent / "plugin.py"
        plugin.write_text(plugin.read_text() + "\n# saved while the run begins\n")
        with pytest.raises(SuiteError, match=r"would compute direct-0-\w+ where the run asks for direct-0-\w+; do all"):
            run_suite(loaded, suite.parent / "run", where=Cluster(workers.scheduler_address).run, methods=["direct"])

    @pytest.mark.slow
    def test_it_goes_away(self, suite, workers):
        """The last with these workers, since they go."""
        arguments = f"run {suite} --scheduler {workers.scheduler_address} --set methods.scale.trouble=spins"
        with subprocess.Popen(
            [sys.executable, "-m", "isocenter", *arguments.split(), "--out", str(suite.parent / "run")],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            _wait_for(suite.parent / "run" / "log.txt", "denoising · Direct")
            workers.close()
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "the same command goes on" in errors.splitlines()[-1]
        assert "Traceback" not in errors


@pytest.mark.slow
def test_an_interrupt_ends_in_one_line_and_the_run_goes_on(suite):
    """As from a terminal, where every process gets it."""
    command = [sys.executable, "-m", "isocenter", "run", str(suite), "--out", str(suite.parent / "run")]
    command += ["--scheduler", "local:2", "--threads", "1"]
    with subprocess.Popen(
        [*command, "--set", "methods.scale.trouble=spins"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        _wait_for(suite.parent / "run" / "log.txt", "denoising · Direct")
        time.sleep(1)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted; the same command goes on where this one stopped"
    assert "Traceback" not in errors
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("6 cells done")


@pytest.mark.parametrize(
    ("scheduler", "threads", "message"),
    [
        ("local:0", None, "expected local:N with N processes, such as local:2"),
        ("local", None, "expected local:N with N processes"),
        ("node7:8786", None, "expected local:N, or an address such as tcp://host:8786"),
        ("tcp://node7:8786", 4, "--threads: the workers of a cluster have their own; start them with --nthreads"),
    ],
)
def test_mistakes_in_the_option(scheduler, threads, message):
    with pytest.raises(SuiteError, match=message):
        Cluster(scheduler, threads)


def test_nobody_answers(suite, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT", 1.0)
    with pytest.raises(SuiteError, match=r"--scheduler tcp://127\.0\.0\.1:1: no Dask scheduler answers there"):
        run(suite, Cluster("tcp://127.0.0.1:1"))


def test_without_dask_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SuiteError, match=r"pip install isocenter\[cluster\]"):
        Cluster("local:2")


def _wait_for(log: Path, text: str) -> None:
    until = time.monotonic() + 300
    while not log.exists() or text not in log.read_text():
        assert time.monotonic() < until, f"{text!r} did not appear"
        time.sleep(0.1)
