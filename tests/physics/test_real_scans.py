"""Measured scans: the conventions of angle, detector and rotation axis are those of real scanners."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import torch
from isocenter.physics import FanBeam, LinearOperator, Normalised, ParallelBeam, Radon
from isocenter.physics.conjugate_gradient import conjugate_gradient
from torch import Tensor


def misfit(A: LinearOperator, y: Tensor) -> float:
    """‖A x − y‖ / ‖y‖ after a few iterations of least squares: what no image explains."""
    n = Normalised(A)
    right = n.A_adjoint(y / n.scale)
    x = conjugate_gradient(lambda v: n.A_adjoint(n.A(v)), right, start=torch.zeros_like(right), tol=0, max_iter=10)
    return float((A.A(x) - y).norm() / y.norm())


def test_the_axis_of_a_parallel_scan_lies_where_it_is_known_to_be(shared_data: Path) -> None:
    """The tooth of tomopy, whose axis projects to 295.5 of 640 elements, 24 below the centre."""
    with h5py.File(shared_data / "sinogram" / "tomopy_tooth" / "tooth.h5") as file:
        counts = file["exchange/data"][:, 0].astype("float32")
        white, dark = (file[f"exchange/data_{name}"][:, 0].mean(0) for name in ("white", "dark"))
        angles = np.deg2rad(file["exchange/theta"][:])
    lines = -np.log(np.clip((counts - dark) / (white - dark), 1e-3, None))
    y = torch.tensor(lines[::3], dtype=torch.float32)[None, None]
    found = {d: misfit(Radon(ParallelBeam(angles[::3], 640, 1.0, d), (160, 160), 4.0), y) for d in (-34, -24, -14, 24)}
    assert min(found, key=found.__getitem__) == -24
    assert found[-24] < 0.7 * found[-14]


def test_a_fan_beam_scan_turns_the_way_it_did(shared_data: Path) -> None:
    """A disc of the Helsinki challenge, from a scanner whose geometry is known; turned the other way nothing fits."""
    scan = np.load(shared_data / "sinogram" / "htc2022" / "htc2022_tb_merged_fanbeam.npz")
    every, angles = slice(None, None, 4), np.deg2rad(scan["angles_deg"])
    y = torch.tensor(scan["sinogram"][every])[None, None]

    def fan(sign: int) -> Radon:
        distances = float(scan["sod_mm"]), float(scan["sdd_mm"])
        return Radon(FanBeam(sign * angles[every], 560, float(scan["det_pixel_mm"]), *distances), (128, 128), 0.66)

    right, wrong = misfit(fan(1), y), misfit(fan(-1), y)
    assert right < 0.04
    assert right < 0.6 * wrong
