"""Processes that share a batch end with the weights of one that had it alone."""

from __future__ import annotations

import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from isocenter.unrolled import training as training_module
from isocenter.unrolled.distributed import Place, place
from isocenter.unrolled.weights_io import read_tensors

SCRIPT = Path(__file__).with_name("shared_batch.py")


def train_in_processes(folder: Path, count: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count)}  # as torchrun does
    started = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder)],
            env={**os.environ, **group, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(count)
    ]
    try:
        assert [process.wait(timeout=300) for process in started] == [0] * count
    finally:
        for process in started:
            process.kill()


def test_two_processes_do_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of five, three and two images for each; interrupted in the middle and resumed."""
    monkeypatch.setattr(training_module, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    runpy.run_path(str(SCRIPT))["train"](tmp_path / "one")
    train_in_processes(tmp_path / "two", 2)
    alone, together = (read_tensors(tmp_path / name / "weights.safetensors")[0] for name in ("one", "two"))
    for name, weight in alone.items():
        torch.testing.assert_close(together[name], weight, rtol=1e-4, atol=1e-5)
    for folder in ("one", "two"):
        rows = (tmp_path / folder / "fit" / "training.csv").read_text().splitlines()
        assert [row.split(",")[0] for row in rows] == ["step", "2", "4", "6", "8"]
        assert (tmp_path / folder / "fit" / "training.png").read_bytes().startswith(b"\x89PNG")


def test_one_process_changes_nothing() -> None:
    here = Place(torch.device("cpu"))
    weight = torch.nn.Parameter(torch.ones(3))
    (2 * weight).sum().backward()
    unused = torch.nn.Parameter(torch.ones(2))
    assert here.sum_gradients([weight, unused], torch.tensor(5.0)) == 5
    assert weight.grad is not None
    assert weight.grad.tolist() == [2, 2, 2]
    assert unused.grad is not None
    assert unused.grad.tolist() == [0, 0]
    assert here.share("value") == "value"
    assert here.first


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="--device nowhere"), place("nowhere"):
        pass
