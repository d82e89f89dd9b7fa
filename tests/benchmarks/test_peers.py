"""BART and SigPy minimise what our solvers minimise, where they are installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from isocenter.benchmarks.peers.parallel_mri import WEIGHT, Bart, SigPy, problem
from isocenter.benchmarks.peers.peer_terms import PeerWavelet, PeriodicTotalVariation
from isocenter.benchmarks.peers.race import Optimum, installed

SIZE = 64


@pytest.mark.skipif(shutil.which("bart") is None, reason="bart is not installed")
def test_bart_finds_our_optima(tmp_path: Path) -> None:
    task = problem(SIZE, PeriodicTotalVariation(WEIGHT))
    weight, bart = WEIGHT / task.physics.norm**2, Bart(task, 1, tmp_path)
    wavelet = PeerWavelet(weight, "haar", SIZE.bit_length() - 4, 2)
    images = [
        (wavelet, bart.wavelet(wavelet, "haar")(300)),
        (PeriodicTotalVariation(weight), bart.total_variation(1000)),
    ]
    for term, image in images:
        optimum = Optimum(task._replace(term=term), 1e-4)
        assert -1e-4 < optimum.gap(image) < 1e-3


@pytest.mark.slow
@pytest.mark.skipif(not installed("sigpy"), reason="sigpy is not installed")
def test_sigpy_finds_our_optima() -> None:
    task = problem(SIZE, PeriodicTotalVariation(WEIGHT))
    weight, sigpy = WEIGHT / task.physics.norm**2, SigPy(task)
    images = [
        (PeerWavelet(weight, "haar", 5, 2), sigpy.wavelet("haar")(300)),
        (PeriodicTotalVariation(weight, isotropic=False), sigpy.total_variation(1500)),
    ]
    for term, image in images:
        optimum = Optimum(task._replace(term=term), 1e-4)
        assert -1e-4 < optimum.gap(image) < 1e-3
