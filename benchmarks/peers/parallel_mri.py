"""Compressed sensing from eight coils: our solvers beside BART and SigPy, at the objective that they reach."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...baselines.admm import ADMM
from ...baselines.first_order import FISTA
from ...baselines.iteration import CHECK_EVERY, Solver
from ...baselines.objective import Objective
from ...baselines.terms import Term
from ...data.arrays import read_cfl
from ...data.head import head
from ...physics import GaussianNoise, MultiCoilSampling
from ...physics.coil_maps import simulated_coil_maps
from ...physics.fourier import to_channels, to_complex
from ...physics.noise import seeded_generator
from ...physics.poisson_disc import poisson_disc
from .peer_terms import PeerWavelet, PeriodicTotalVariation
from .race import Optimum, Problem, clear_progress, installed, iterate, progress
from .timing import interleaved

ITERATIONS = 100
WEIGHT = 5e-3
SIGMA = 0.01  # of the noise in real and in imaginary parts; images have magnitudes up to 1
BART_STEP = 0.95  # its default
SLACK = 1e-6  # of an objective, which float32 iterates cannot resolve
GIVE_UP = 1000  # iterations


class Peer(NamedTuple):
    """A peer's solver of one problem.

    Attributes:
        name: of the row.
        term: what it penalises.
        solve: iterations ↦ its image; None where it is not installed.
        begin: what it does without iterations, whose time does not count; None where that is nothing.
        solvers: ours, that are compared with it.
    """

    name: str
    term: Term
    solve: Callable[[int], Tensor] | None
    begin: Callable[[], object] | None
    solvers: dict[str, Callable[[Objective], Solver]]


def problem(size: int, term: Term, batch: int = 1) -> Problem:
    """A head with a smooth phase, 8 coils, a quarter of k-space in a Poisson-disc pattern."""
    physics = MultiCoilSampling(
        poisson_disc((size, size), 4, max(size * 3 // 32, 4), seed=0), simulated_coil_maps((size, size), 8, 0)
    )
    position = torch.linspace(-1, 1, size)
    phase = 2 * position[:, None] * (1 - position) + position**2
    x = to_channels(torch.polar(torch.from_numpy(head(0, 0, (size, size))), phase)[None])
    noise, clean = GaussianNoise(SIGMA), physics.A(x)
    y = torch.cat([noise(clean, seeded_generator("peers", i), physics.support) for i in range(batch)])
    return Problem(physics, y, term)


def peers(size: int, task: Problem, threads: int, folder: Path) -> list[Peer]:
    """BART and SigPy with Haar wavelets, with the wavelets that they take by default, and with total variation.

    BART halves images while they have 16 pixels, SigPy while the shorter side has as many as a filter.
    """
    octaves = size.bit_length() - 1
    weight = WEIGHT / task.physics.norm**2
    bart = Bart(task, threads, folder) if shutil.which("bart") else None
    sigpy = SigPy(task) if installed("sigpy") else None
    both: dict[str, Callable[[Objective], Solver]] = {"FISTA": FISTA, "ADMM": ADMM}
    rows: list[Peer] = []
    for title, family, taps in (("Haar", "haar", 2), ("dau2", "db2", 4)):
        term = PeerWavelet(weight, family, octaves - 3, taps)
        solve, begin = (bart.wavelet(term, title.lower()), bart.begin) if bart else (None, None)
        rows.append(Peer(f"BART pics, {title} wavelets", term, solve, begin, both))
    for title, family, taps in (("Haar", "haar", 2), ("db4", "db4", 8)):
        term = PeerWavelet(weight, family, int(math.log2(size / (taps - 1))), taps)
        rows.append(Peer(f"SigPy L1WaveletRecon, {title}", term, sigpy.wavelet(family) if sigpy else None, None, both))
    variation = PeriodicTotalVariation(weight)
    solve, begin = (bart.total_variation, bart.begin) if bart else (None, None)
    rows.append(Peer("BART pics, isotropic TV", variation, solve, begin, {"ADMM": ADMM}))
    anisotropic = PeriodicTotalVariation(weight, isotropic=False)
    solve = sigpy.total_variation if sigpy else None
    rows.append(Peer("SigPy TotalVariationRecon, anisotropic", anisotropic, solve, None, {"ADMM": ADMM}))
    return rows


class Bart:
    """``bart pics`` on the data of a problem, in files of ``folder``."""

    def __init__(self, task: Problem, threads: int, folder: Path) -> None:
        assert isinstance(task.physics, MultiCoilSampling)
        self.folder, self.threads = folder, threads
        write_cfl(folder / "kspace", to_complex(task.y)[0])
        write_cfl(folder / "maps", torch.complex(*task.physics.coil_maps))

    def begin(self) -> Tensor:
        """Start, read and write: no iterations."""
        return self._run(0, f"T:3:0:{WEIGHT}")

    def wavelet(self, term: PeerWavelet, name: str) -> Callable[[int], Tensor]:
        """FISTA. Its result is a gradient step behind its last proximal map, which is applied here."""

        def solve(iterations: int) -> Tensor:
            x = self._run(iterations, f"W:3:0:{WEIGHT}", "--wavelet", name)
            return term.adjoint(term.prox(term.analysis(x), torch.tensor([BART_STEP])))

        return solve

    def total_variation(self, iterations: int) -> Tensor:
        """ADMM, whose iterations are those of its conjugate gradients."""
        return self._run(iterations, f"T:3:0:{WEIGHT}")

    def _run(self, iterations: int, regularisation: str, *options: str) -> Tensor:
        # Without random shifts of the wavelets' grid (-n) and without a scale of its own (-w 1).
        command = ["bart", "pics", "-n", "-w", "1", "-i", str(iterations), "-R", regularisation, *options]
        command += [str(self.folder / name) for name in ("kspace", "maps", "image")]
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
        subprocess.run(command, check=True, capture_output=True, env=environment)
        image = read_cfl(str(self.folder / "image")).slice(0)
        return to_channels(torch.from_numpy(image)[None])


class SigPy:
    """SigPy's reconstructions on the data of a problem, with step sizes from the known norm of A."""

    def __init__(self, task: Problem) -> None:
        assert isinstance(task.physics, MultiCoilSampling)
        self.kspace = to_complex(task.y)[0].numpy()
        self.maps = torch.complex(*task.physics.coil_maps).numpy()
        self.norm = task.physics.norm

    def wavelet(self, family: str) -> Callable[[int], Tensor]:
        """FISTA."""

        def solve(iterations: int) -> Tensor:
            from sigpy.mri.app import L1WaveletRecon

            step, options = 1 / self.norm**2, {"max_iter": iterations, "show_pbar": False}
            return self._image(L1WaveletRecon(self.kspace, self.maps, WEIGHT, wave_name=family, alpha=step, **options))

        return solve

    def total_variation(self, iterations: int) -> Tensor:
        """PDHG on [A; ∇] with σ = 1."""
        from sigpy.mri.app import TotalVariationRecon

        step, options = 1 / (self.norm**2 + 8), {"max_iter": iterations, "show_pbar": False}
        return self._image(TotalVariationRecon(self.kspace, self.maps, WEIGHT, tau=step, sigma=1, **options))

    @staticmethod
    def _image(app: object) -> Tensor:
        return to_channels(torch.from_numpy(app.run().astype(np.complex64))[None])  # type: ignore[attr-defined]


def write_cfl(base: Path, values: Tensor) -> None:
    """BART's pair of files of ``[H, W]``, or of coils ``[C, H, W]``."""
    array = values.to(torch.complex64).numpy()
    array = array if array.ndim == 2 else array.transpose(1, 2, 0)[:, :, None]
    base.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(map(str, array.shape)) + "\n", encoding="ascii")
    array.ravel("F").tofile(base.with_suffix(".cfl"))


def iterations_to(value: float, solver: Callable[[Objective], Solver], task: Problem, optimum: Optimum) -> int | None:
    """How many iterations bring an objective down to a value; None if a thousand do not."""
    for count, state in enumerate(solver(task.objective()).iterate(), start=1):
        if optimum.value_of(state.x) <= value * (1 + SLACK):
            return count * CHECK_EVERY
        if count * CHECK_EVERY >= GIVE_UP:
            return None
    return None


@torch.no_grad()
def compare_with(peer: Peer, task: Problem, certified: float, repeats: int) -> None:
    """Print the rows of one peer."""
    task = task._replace(term=peer.term)
    if peer.solve is None:
        print(f"{peer.name:52}{'not installed':>14}")
        return
    optimum, solve = Optimum(task, certified), peer.solve
    progress(peer.name)
    reached = optimum.value_of(solve(ITERATIONS))
    counts = {name: iterations_to(reached, solver, task, optimum) for name, solver in peer.solvers.items()}
    timed: dict[str, Callable[[], object]] = {peer.name: lambda: solve(ITERATIONS)}
    if peer.begin:
        timed["begin"] = peer.begin
    rows: dict[str, tuple[int, Callable[[], Tensor]]] = {}
    for name, solver in peer.solvers.items():
        for count in sorted({counts[name] or GIVE_UP, ITERATIONS}):
            label = f"  isocenter {name}" + (", same objective" if count == counts[name] else "")
            rows[label] = count, partial(iterate, solver, task, count)
    progress(f"{peer.name}, {repeats} times in turns with ours")
    seconds = interleaved(timed | {label: once for label, (_, once) in rows.items()}, repeats)
    theirs = seconds[peer.name] - seconds.get("begin", 0.0)
    clear_progress()
    print(f"{peer.name:52}{ITERATIONS:10}{theirs:10.3f}{reached / optimum.value - 1:12.1e}")
    for label, (count, once) in rows.items():
        gap = optimum.gap(once())
        print(f"{label:52}{count:10}{seconds[label]:10.3f}{gap:12.1e}{theirs / seconds[label]:9.1f}×")


def compare(size: int, threads: int, certified: float, repeats: int) -> None:
    """Print the table."""
    print(
        f"\n8 coils, {size}², Poisson-disc R = 4, λ = {WEIGHT:g}, {threads} threads each; gaps are relative to the ",
        end="",
    )
    print("optimum; BART's time is that of its iterations, without its start and files")
    print(f"{'':52}{'iterations':>10}{'seconds':>10}{'gap':>12}{'ratio':>10}")
    task = problem(size, PeriodicTotalVariation(WEIGHT))
    with tempfile.TemporaryDirectory() as folder:
        for peer in peers(size, task, threads, Path(folder)):
            compare_with(peer, task, certified, repeats)
