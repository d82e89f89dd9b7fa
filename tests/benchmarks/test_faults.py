"""Whatever happens to a run and its folder: the next one ends with the same numbers."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import pytest
import torch
from isocenter.baselines import PriorImage
from isocenter.benchmarks import cells, runner
from isocenter.benchmarks.metrics import NAMES
from isocenter.benchmarks.run_folder import DiskFullError, RunFolder, alone, disk_is_full
from isocenter.benchmarks.runner import Outcome, run_suite
from isocenter.benchmarks.schema import load_suite
from isocenter.benchmarks.time_limit import TimeLimitError, time_limit
from isocenter.benchmarks.yaml_lines import SuiteError
from safetensors import SafetensorError
from safetensors.torch import save_file


def run(suite: Path, *overrides: str, out: str | Path = "run", **options) -> Outcome:
    return run_suite(load_suite(suite, overrides), suite.parent / out, **options)


def results(folder: Path) -> list[dict[str, str]]:
    """The rows of results.csv without times."""
    with (folder / "results.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def cell(folder: Path, task: str, method: str) -> Path:
    (found,) = (folder / "cells" / task).glob(f"{method}-*")
    return found


def status(folder: Path) -> dict:
    return json.loads((folder / "status.json").read_text())


def in_child(work: Callable[[], object]) -> int:
    """Run in a forked process; its exit code, negative where a signal ended it."""
    child = os.fork()
    if not child:
        code = 70
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def edit(path: Path) -> None:
    """Change a digit of a text, or a number of an HDF5 file, and leave the size as it is."""
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            numbers = file["reconstruction"] if "reconstruction" in file else file["test/measurement"]
            numbers[0] = numbers[0] + 1
    else:
        text = path.read_text()
        place = max(i for i, letter in enumerate(text) if letter.isdigit())
        path.write_text(f"{text[:place]}{9 - int(text[place])}{text[place + 1 :]}")


class TestEdits:
    """Files that are not those that a run wrote."""

    @pytest.mark.parametrize("name", ["metrics.csv", "reconstructions.h5", "fit.json"])
    @pytest.mark.parametrize("damage", [edit, Path.unlink, lambda path: path.write_bytes(b"")])
    def test_a_result_is_computed_again(self, suite, name, damage):
        run(suite)
        folder = suite.parent / "run"
        before, other = results(folder), (cell(folder, "denoising", "direct-0") / "status.json").stat().st_mtime_ns
        damage(cell(folder, "denoising", "scale-1") / name)
        assert run(suite).done == 6
        assert results(folder) == before
        assert (cell(folder, "denoising", "direct-0") / "status.json").stat().st_mtime_ns == other

    def test_results_csv_is_collected_again(self, suite):
        run(suite)
        before = results(suite.parent / "run")
        table = suite.parent / "run" / "results.csv"
        table.write_text(table.read_text().replace("direct", "scale"))
        assert results(suite.parent / "run") != before
        run(suite)
        assert results(suite.parent / "run") == before

    @pytest.mark.parametrize("damage", [edit, Path.unlink])
    def test_measurements_are_simulated_again(self, suite, damage):
        run(suite)
        folder = suite.parent / "run"
        measurements = folder / "tasks" / "denoising" / "measurements.h5"
        before, written = results(folder), measurements.read_bytes()
        damage(measurements)
        shutil.rmtree(cell(folder, "denoising", "scale-1"))
        run(suite)
        assert measurements.read_bytes() == written
        assert results(folder) == before
        damage(measurements)  # no cell needs them, but the report shows the truth that is in them
        run(suite)
        assert measurements.read_bytes() == written

    def test_a_fit_is_made_again(self, suite):
        run(suite)
        folder = suite.parent / "run"
        before, fits = results(folder), len((suite.parent / "log").read_text().splitlines())
        victim = cell(folder, "denoising", "scale-1")
        (victim / "status.json").unlink()
        run(suite)
        assert len((suite.parent / "log").read_text().splitlines()) == fits  # whole, it is used
        edit(victim / "fitted" / "factor.json")
        (victim / "status.json").unlink()
        run(suite)
        assert len((suite.parent / "log").read_text().splitlines()) == fits + 1
        assert results(folder) == before
        assert "damaged and made again" in (folder / "log.txt").read_text()


class TestKills:
    """A process that is gone from one instruction to the next."""

    def test_a_run_that_is_killed_again_and_again_ends_with_the_same_numbers(self, suite):
        """SIGKILL between two random operations on files; each run goes on where the last one was killed."""
        run(suite, "data.test=1", out="whole")
        events = []

        def count() -> None:
            sys.addaudithook(lambda event, args: events.append(event) if touches(event, args, suite.parent) else None)
            run(suite, "data.test=1", out="counted")
            (suite.parent / "count").write_text(str(len(events)))

        assert in_child(count) == 0
        total = int((suite.parent / "count").read_text())
        assert total > 100
        chance = random.Random(0)
        for chain in range(3):
            out = suite.parent / f"killed-{chain}"
            moments = [chance.randrange(total // 2) for _ in range(3)]
            ends = [in_child(partial(kill_after, moment, suite, out)) for moment in moments]
            assert ends[0] == -signal.SIGKILL
            assert set(ends) <= {-signal.SIGKILL, 0}  # the later ones may have had less to do
            assert run(suite, "data.test=1", out=out).done == 6
            assert results(out) == results(suite.parent / "whole")
            assert [path for path in out.rglob("*") if ".partial" in path.name] == []

    def test_a_training_whose_checkpoint_is_damaged_begins_anew(self, suite):
        overrides = ["data.train=4", "methods=[{kind: unet, widths: [2, 2], training: {steps: 4, batch: 2}}]"]
        overrides += ["reference=unet", "tasks.denoising.methods=null"]
        run(suite, *overrides, out="whole", tasks=["denoising"])
        run(suite, *overrides, tasks=["denoising"])
        victim = cell(suite.parent / "run", "denoising", "unet-0")
        shutil.rmtree(victim / "fitted")
        (victim / "status.json").unlink()
        (victim / "fit").mkdir()
        (victim / "fit" / "training.safetensors").write_bytes(b"damaged")
        assert run(suite, *overrides, tasks=["denoising"]).failed == ()
        assert results(suite.parent / "run") == results(suite.parent / "whole")
        assert "begins anew" in (suite.parent / "run" / "log.txt").read_text()

    def test_a_training_survives_the_failure_of_what_is_tuned_after_it(self, suite, monkeypatch):
        overrides = ["data.train=4", "reference=hybrid", "tasks.denoising.methods=null"]
        hybrid = "stages: 1, widths: [2, 2], sparse_stages: 0, sparse_iterations: 0, safeguard: image"
        overrides += [f"methods=[{{kind: hybrid, {hybrid}, training: {{steps: 4, batch: 2}}}}]"]

        def fails(self, train, validation, folder=None):
            raise ValueError("this rule chooses one parameter")

        with monkeypatch.context() as patch:
            patch.setattr(PriorImage, "fit", fails)
            assert run(suite, *overrides, tasks=["denoising"]).done == 0
            victim = cell(suite.parent / "run", "denoising", "hybrid-0")
            trained = (victim / "fit" / "training.safetensors").read_bytes()
            run(suite, *overrides, tasks=["denoising"], retry_failed=True)
            assert (victim / "fit" / "training.safetensors").read_bytes() == trained


def touches(event: str, args: tuple, folder: Path) -> bool:
    return event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir") and str(folder) in str(args[0])


def kill_after(operations: int, suite: Path, out: Path) -> None:
    """A run that kills itself once it has begun so many operations on files."""
    left = operations

    def hook(event: str, args: tuple) -> None:
        nonlocal left
        if touches(event, args, out):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    run(suite, "data.test=1", out=out)


class TestFullDisk:
    @pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small file system")
    def test_a_run_stops_in_one_line_and_goes_on_when_there_is_room(self, suite, tmp_path):
        run(suite, out="whole")
        small = tmp_path / "small"
        small.mkdir()
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)], capture_output=True
        ).returncode:
            pytest.skip("no right to mount")
        try:

            def fails() -> None:
                with pytest.raises(DiskFullError, match="the disk is full or the quota used up; make room"):
                    run(suite, out=small / "run")

            for room in (8, 40, 100, 200):  # KB; each gets further
                free = os.statvfs(small)
                (small / "filler").write_bytes(bytes(free.f_bavail * free.f_frsize - room * 1024))
                assert in_child(fails) == 0
                assert not (small / "run" / "results.csv").exists()
                (small / "filler").unlink()
            assert run(suite, out=small / "run").done == 6
            assert results(small / "run") == results(suite.parent / "whole")
        finally:
            subprocess.run(["umount", str(small)], check=True)

    @pytest.mark.parametrize("place", ["measurements", "metrics", "status", "results"])
    def test_wherever_it_happens(self, suite, monkeypatch, place):
        run(suite, out="whole")

        def full(*_, **__) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            if place == "measurements":
                patch.setattr("isocenter.benchmarks.tasks.store", full)
            elif place == "metrics":
                patch.setattr(cells, "write_csv", full)
            elif place == "status":
                patch.setattr(cells, "write_json", full)
            else:
                patch.setattr(runner, "write_csv", full)
            with pytest.raises(DiskFullError, match="make room, and the same command goes on"):
                run(suite)
        assert run(suite).done == 6
        assert results(suite.parent / "run") == results(suite.parent / "whole")

    def test_libraries_that_write_by_themselves_are_understood(self):
        words = os.strerror(errno.ENOSPC)
        assert disk_is_full(SafetensorError(f"I/O error: {words} (os error 28)"))
        consequence = RuntimeError("cannot save")
        consequence.__cause__ = OSError(errno.EDQUOT, "quota")
        assert disk_is_full(consequence)
        with pytest.raises(Exception, match="o such file") as other:
            save_file({"a": torch.zeros(1)}, "/nowhere/a.safetensors")
        assert not disk_is_full(other.value)


class TestFailures:
    """Cells that come to nothing."""

    @pytest.mark.parametrize(
        ("trouble", "message"),
        [
            ("memory", "Unable to allocate"),
            ("torch-memory", "memory"),
            ("spins", "TimeLimitError: the time limit of 0.3 s has passed"),
        ],
    )
    def test_it_is_written_down_and_the_rest_goes_on(self, suite, trouble, message):
        changes = [f"methods.scale.trouble={trouble}", "methods.scale.seeds=[0]"]
        changes += ["methods.scale.time_limit=0.3"] if trouble == "spins" else []
        outcome = run(suite, *changes)
        assert (outcome.done, outcome.failed) == (2, ("denoising · Scaled", "inpainting · Scaled"))
        state = status(cell(suite.parent / "run", "denoising", "scale-0"))
        assert message in state["error"]
        assert "in reconstruct" in state["traceback"]

    def test_failures_are_kept_until_they_are_asked_for(self, suite):
        outcome = run(suite, "methods.scale.trouble=spins", "methods.scale.time_limit=0.2", tasks=["denoising"])
        assert (outcome.done, len(outcome.failed)) == (1, 2)
        where = cell(suite.parent / "run", "denoising", "scale-0") / "status.json"
        before = where.stat().st_mtime_ns
        assert run(suite, "methods.scale.trouble=spins", tasks=["denoising"]).failed == outcome.failed
        assert where.stat().st_mtime_ns == before
        for limits, expected in (
            (["time_limit=0.3"], "0.3 s"),
            (["time_limit=1", "methods.scale.time_limit=0.4"], "0.4 s"),
        ):
            outcome = run(suite, "methods.scale.trouble=spins", *limits, tasks=["denoising"], retry_failed=True)
            assert (outcome.done, len(outcome.failed)) == (1, 2)
            assert expected in status(where.parent)["error"]

    def test_the_time_limit_is_no_part_of_what_numbers_depend_on(self, suite):
        run(suite)
        times = {p: p.stat().st_mtime_ns for p in (suite.parent / "run" / "cells").rglob("status.json")}
        run(suite, "time_limit=1000", "methods.scale.time_limit=1000")
        assert {p: p.stat().st_mtime_ns for p in (suite.parent / "run" / "cells").rglob("status.json")} == times

    def test_fail_fast_stops_at_the_first(self, suite):
        outcome = run(suite, "methods.scale.trouble=raises", fail_fast=True)
        assert (outcome.done, outcome.failed) == (1, ("denoising · Scaled seed 0",))
        assert len(results(suite.parent / "run")) == 3


class TestTimeLimit:
    def spin(self) -> None:
        while True:
            pass

    def test_a_signal_ends_waiting_in_the_main_thread(self):
        began = time.monotonic()
        with pytest.raises(TimeLimitError, match=r"of 0\.1 s"), time_limit(0.1):
            time.sleep(10)
        assert time.monotonic() - began < 2

    def test_another_thread_is_interrupted_too(self):
        caught = []

        def work() -> None:
            try:
                with time_limit(0.1):
                    self.spin()
            except TimeLimitError as error:
                caught.append(str(error))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(10)
        assert caught == ["the time limit of 0.1 s has passed"]

    def test_code_that_is_done_in_time_is_left_alone(self):
        done = []

        def work() -> None:
            for _ in range(50):
                with time_limit(0.01):
                    pass
                time.sleep(0.001)
            time.sleep(0.05)
            done.append(True)

        work()
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(10)
        assert done == [True, True]


class TestTwoRuns:
    def test_the_second_says_so(self, suite):
        folder = suite.parent / "run"
        holds, told = os.pipe()
        child = os.fork()
        if not child:
            with RunFolder(folder).locked():
                os.write(told, b".")
                time.sleep(60)
            os._exit(0)
        os.read(holds, 1)
        try:
            with pytest.raises(SuiteError, match=rf"process {child} on \S+ is running here; wait for it"):
                run(suite)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert run(suite).done == 6  # a lock goes with the process that holds it

    @pytest.mark.parametrize("place", ["file/run", "/proc/run"])
    def test_a_folder_that_cannot_be_written(self, suite, place):
        (suite.parent / "file").touch()
        with pytest.raises(SuiteError, match=r"cannot write the run there: .*; choose another --out"):
            run(suite, out=place)

    def test_a_worker_that_outlived_its_run_is_waited_for(self, suite):
        """Its cell is then done, and is not run a second time."""
        run(suite)
        folder = suite.parent / "run"
        victim = cell(folder, "denoising", "scale-0")
        state = (victim / "status.json").read_text()
        (victim / "status.json").unlink()
        fits = (suite.parent / "log").read_text()

        def finish() -> None:
            with alone(victim):
                held.set()
                time.sleep(0.3)
                (victim / "status.json").write_text(state)

        held = threading.Event()
        worker = threading.Thread(target=finish)
        worker.start()
        held.wait()
        assert run(suite).done == 6
        worker.join()
        assert (victim / "status.json").read_text() == state
        assert (suite.parent / "log").read_text() == fits


def test_memory_does_not_grow_with_the_number_of_test_images(suite, monkeypatch):
    """380 images more, of 64 KB each, with 64 KB of measurements and of reconstructions each: 71 MB."""
    monkeypatch.setattr(cells, "metrics", lambda x, truth, data_range: dict.fromkeys(NAMES, torch.zeros(1)))

    def peak(images: int) -> int:
        def work() -> None:
            run(
                suite,
                f"data.test={images}",
                "data.size=128",
                "tasks.denoising.methods=[direct]",
                out=f"run-{images}",
                tasks=["denoising"],
            )
            (suite.parent / f"peak-{images}").write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))

        assert in_child(work) == 0
        return int((suite.parent / f"peak-{images}").read_text())

    assert peak(400) - peak(20) < 8 * 1024


def test_a_time_limit_that_was_lost_is_raised_at_the_end() -> None:
    """As where it comes inside a callback of the garbage collector, from which nothing is raised."""
    lost = contextlib.suppress(TimeLimitError)
    with pytest.raises(TimeLimitError, match=r"the time limit of 0\.05 s has passed"), time_limit(0.05), lost:
        time.sleep(10)
