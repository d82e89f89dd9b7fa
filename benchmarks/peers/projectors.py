"""Speed of the Radon transform beside deepinv's and plain calls of ASTRA, measured in one run.

python -m isocenter.benchmarks.peers.projectors [--threads 2] [--repeats 7]
"""

from __future__ import annotations

import argparse
import platform
import resource
import time
from collections.abc import Callable

import astra
import deepinv
import numpy as np
import torch
from torch import Tensor

from ...physics import ParallelBeam, Radon, views
from ...physics.projection_matrix import astra_projections, astra_volume
from .timing import interleaved


def plain_astra(geometry: ParallelBeam, n: int, x: Tensor, y: Tensor) -> tuple[Callable[[], None], Callable[[], None]]:
    """One call of ASTRA for each image and direction, with its objects made once, as its tutorials show."""
    volume, scan = astra_volume((n, n), 1.0), astra_projections(geometry, range(len(geometry.angles)))
    projector = astra.create_projector("linear", scan, volume)
    image, sinogram = astra.data2d.create("-vol", volume), astra.data2d.create("-sino", scan)
    forward, back = astra.astra_dict("FP"), astra.astra_dict("BP")
    forward |= {"ProjectorId": projector, "VolumeDataId": image, "ProjectionDataId": sinogram}
    back |= {"ProjectorId": projector, "ReconstructionDataId": image, "ProjectionDataId": sinogram}
    forward_id, back_id = astra.algorithm.create(forward), astra.algorithm.create(back)

    def project() -> None:
        for one in x[:, 0].numpy():
            astra.data2d.store(image, one)
            astra.algorithm.run(forward_id)
            astra.data2d.get(sinogram)

    def back_project() -> None:
        for one in y[:, 0].numpy():
            astra.data2d.store(sinogram, one)
            astra.algorithm.run(back_id)
            astra.data2d.get(image)

    return project, back_project


def compare(n: int, count: int, batch: int, repeats: int, with_deepinv: bool) -> None:
    """Print a table for n² pixels, a number of parallel views, and a batch."""
    detectors = int(np.ceil(n * 2**0.5)) | 1
    geometry = ParallelBeam(views(count), detectors)
    began = time.perf_counter()
    radon = Radon(geometry, (n, n))
    prepared = time.perf_counter() - began
    x = torch.rand(batch, 1, n, n)
    y = radon.A(x)
    project, back_project = plain_astra(geometry, n, x, y)
    ways: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        f"isocenter ({radon.backend})": (lambda: radon.A(x), lambda: radon.A_adjoint(y)),
        "ASTRA, one call per image": (project, back_project),
    }
    if radon.backend == "matrix":
        threads = Radon(geometry, (n, n), backend="astra")
        ways["isocenter (astra, threads)"] = (lambda: threads.A(x), lambda: threads.A_adjoint(y))
    if with_deepinv:
        peer = deepinv.physics.Tomography(angles=torch.arange(count) * 180.0 / count, img_width=n, circle=False)
        z = peer.A(x)
        ways["deepinv Tomography"] = (lambda: peer.A(x), lambda: peer.A_adjoint(z))
    forward = interleaved({name: run[0] for name, run in ways.items()}, repeats)
    adjoint = interleaved({name: run[1] for name, run in ways.items()}, repeats)
    ours = next(iter(ways))
    reference = forward[ours] + adjoint[ours]
    size = f"{getattr(radon._projector, 'nbytes', 0) / 2**30:.2f} GB, made or read in {prepared:.1f} s"
    print(f"\n{n}² pixels × {count} views × {detectors} detectors, batch {batch}; matrix and transpose {size}")
    print(f"{'':32}{'forward':>10}{'adjoint':>10}{'both':>10}   ms an image{'ratio of both':>18}")
    for name in ways:
        a, b = (1e3 * seconds[name] / batch for seconds in (forward, adjoint))
        print(f"{name:32}{a:10.2f}{b:10.2f}{a + b:10.2f}{(a + b) * batch / 1e3 / reference:32.1f}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"{platform.processor() or platform.machine()}, {options.threads} threads, torch {torch.__version__}, ", end=""
    )
    print(f"ASTRA {astra.__version__}, deepinv {deepinv.__version__}; medians of {options.repeats} interleaved runs")
    compare(256, 60, 16, options.repeats, with_deepinv=True)
    compare(256, 60, 1, options.repeats, with_deepinv=True)
    compare(512, 360, 1, max(3, options.repeats // 2), with_deepinv=False)
    print(f"\npeak memory of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB")


if __name__ == "__main__":
    main()
