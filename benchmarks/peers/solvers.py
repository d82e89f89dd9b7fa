"""Speed of the solvers beside BART, SigPy, ODL, deepinv and scikit-image, to the same objective, measured in one run.

python -m isocenter.benchmarks.peers.solvers [--threads 2] [--repeats 5] [--limit 60] [--quick]

Peers that are not installed are named and left out. All solvers of a row minimise the same function, to a relative gap
above an optimum that is certified in float64; looking at the gap is not timed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import shutil
import subprocess

import torch

from . import batches, parallel_mri, tv_ct, tv_denoising
from .race import installed

TOLERANCES = (1e-3, 1e-4)


def versions() -> str:
    """Of torch and of every peer that is installed."""
    packages = {"sigpy": "sigpy", "odl": "odl", "deepinv": "deepinv", "skimage": "scikit-image"}
    found = [f"{name} {importlib.metadata.version(name)}" for module, name in packages.items() if installed(module)]
    if shutil.which("bart"):
        found.append("bart " + subprocess.run(["bart", "version"], capture_output=True, text=True).stdout.strip())
    return ", ".join([f"torch {torch.__version__}", *found])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds after which a solver is stopped")
    parser.add_argument("--quick", action="store_true", help="half the size, one run of each, a limit of five seconds")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    shrink, repeats, limit = (2, 1, min(options.limit, 5.0)) if options.quick else (1, options.repeats, options.limit)
    certified = 1e-5 if options.quick else 1e-6
    print(f"{platform.processor() or platform.machine()}, {options.threads} threads, {versions()}")
    tv_ct.compare(128 // shrink, TOLERANCES, certified, limit, repeats)
    tv_denoising.compare(256 // shrink, TOLERANCES, certified, limit, repeats)
    parallel_mri.compare(256 // shrink, options.threads, 1e-4, repeats)
    batches.compare(shrink, repeats)


if __name__ == "__main__":
    main()
