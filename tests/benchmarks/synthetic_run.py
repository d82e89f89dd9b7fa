"""A run folder as the runner leaves it, with reconstructions that are blurred and noisy truths."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from isocenter.benchmarks.metrics import metrics
from scipy.ndimage import gaussian_filter

FIELDS = ("task", "method", "seed", "image", "patient", "psnr", "ssim", "rmse", "nrmse", "haarpsi", "seconds")
METHODS = {  # method: label, group, blur, noise, seconds per image, parameters
    "direct": ("Filtered back-projection", "direct", 0.4, 0.12, 0.004, 0),
    "tv": ("Total variation, primal–dual", "classical", 0.9, 0.03, 1.31, 1),
    "wavelet": ("Wavelet ℓ1 (FISTA)", "classical", 1.0, 0.04, 0.8, 1),
    "unet": ("U-Net post-processing", "learned", 0.8, 0.02, 0.011, 485_000),
    "admm-net": ("ADMM-Net", "learned", 0.55, 0.015, 0.042, 120_000),
    "lpd": ("Learned primal–dual with tied weights", "learned", 0.52, 0.015, 0.06, 253_220),
    "evil": ("<script>alert('$x$')</script>", "learned", 0.7, 0.02, 0.02, 2_100_000),
    "pnp": ("Plug-and-play DRUNet with a rather long name", "classical", 0.6, 0.02, 6.2, 2),
}


def picture(index: int, size: int = 96) -> np.ndarray:
    """Ellipses with texture, values in [0, 1]."""
    rng = np.random.default_rng(index)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    image = np.where((x / 0.75) ** 2 + (y / 0.92) ** 2 < 1, 0.9, 0.0)
    image[(x / 0.69) ** 2 + (y / 0.86) ** 2 < 1] = 0.3
    for _ in range(14):
        cx, cy = rng.uniform(-0.45, 0.45, 2)
        a, b = rng.uniform(0.03, 0.25, 2)
        image[((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < 1] += rng.uniform(-0.15, 0.25)
    image += (image > 0) * gaussian_filter(rng.standard_normal((size, size)), 1.5) * 0.05
    return np.clip(image, 0, 1).astype(np.float32)


def build_run(
    run: Path,
    *,
    methods: tuple[str, ...] = tuple(METHODS),
    tasks: tuple[str, ...] = ("ct-30",),
    images: int = 12,
    patients: int = 6,
    seeds: tuple[int, ...] = (0,),
    failed: tuple[str, ...] = (),
    stored: int | None = None,
    size: int = 96,
    channels: int = 1,
    info: Mapping[str, Any] | None = None,
    sweeps: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Cells of all methods and tasks; ``info`` is added to every ``task.json``, ``sweeps`` to one each, as a family."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "suite.yaml").write_text("name: synthetic\ntasks:\n  - <b>ct-30</b>\n", encoding="utf-8")
    (run / "environment.json").write_text(
        json.dumps(
            {
                "started": "2026-01-02 03:04",
                "command": "isocenter run synthetic",
                "versions": {"isocenter": "0.1", "torch": "2.5"},
                "git": {"commit": "0123abc", "dirty": False},
                "cpu": "some CPU",
                "threads": 2,
                "gpu": None,
                "platform": "Linux",
            }
        )
    )
    rows = []
    for t, task in enumerate(tasks):
        ids = [f"phantom-{i:03d}" for i in range(images)]
        owner = [f"patient-{i % patients}" for i in range(images)]
        truth = np.stack([picture(100 * t + i, size) for i in range(images)])[:, None]
        if channels == 2:
            truth = np.concatenate([truth * np.cos(0.7), truth * np.sin(0.7)], 1).astype(np.float32)
        folder = run / "tasks" / task
        folder.mkdir(parents=True)
        description = {
            "title": f"Sparse-view CT, {30 * (t + 1)} views",
            "dataset": "ellipses with texture, 96 × 96",
            "dataset_labels": ["simulated from magnitude images", "inverse crime: same grid"],
            "physics": "Radon, 30 views × 137 detectors, parallel beam",
            "noise": "Gaussian, 5 % of mean |Ax|",
            "data_range": 1.0,
            "units": "1/mm",
            "display": [0.0, 0.9],
            "complex": channels == 2,
            "reference": None,
            "images": ids,
            "warnings": ["the test set has few patients"],
            **(info or {}),
            **({"family": "views", "sweep": sweeps[t]} if sweeps else {}),
        }
        (folder / "task.json").write_text(json.dumps(description))
        with h5py.File(folder / "measurements.h5", "w") as file:
            file["test/truth"] = truth
            file["test/ids"] = ids
        for method in methods:
            label, group, blur, noise, seconds, parameters = METHODS[method]
            for seed in seeds if group == "learned" else seeds[:1]:
                cell = run / "cells" / task / f"{method}-{seed}-abc123"
                cell.mkdir(parents=True)
                spec = {"task": task, "method": method, "label": label, "seed": seed, "kind": method}
                (cell / "spec.json").write_text(json.dumps(spec | {"group": group}))
                if method in failed:
                    status = {"state": "failed", "error": "out of <memory>", "traceback": "Traceback\n  <i>line</i>"}
                    (cell / "status.json").write_text(json.dumps(status))
                    continue
                rng = np.random.default_rng([seed, sum(map(ord, method)), t])
                spread = rng.uniform(0.7, 1.3, (images, 1, 1, 1))
                reconstruction = gaussian_filter(truth, (0, 0, blur, blur))
                reconstruction = reconstruction + noise * spread * rng.standard_normal(truth.shape)
                reconstruction = reconstruction.astype(np.float32)
                scores = metrics(torch.from_numpy(reconstruction), torch.from_numpy(truth), 1.0)
                for i in range(images):
                    numbers = {name: f"{float(score[i]):.6g}" for name, score in scores.items()}
                    key = {"task": task, "method": method, "seed": seed, "image": ids[i], "patient": owner[i]}
                    rows.append(key | numbers | {"seconds": seconds * rng.uniform(0.9, 1.1)})
                with h5py.File(cell / "reconstructions.h5", "w") as file:
                    file["reconstruction"] = reconstruction[:stored]
                    file["reconstruction"].attrs["images"] = ids[:stored]
                status = {
                    "state": "done",
                    "seconds_fit": 0.0 if group == "direct" else 40.0 if group == "classical" else 730.0,
                    "seconds_total": 800.0,
                    "error": None,
                    "warnings": ["stopped before its tolerance on 2 images"] if method == "wavelet" else [],
                    "parameters": parameters,
                    "peak_memory_mb": 250 + 40 * blur,
                }
                (cell / "status.json").write_text(json.dumps(status))
                if group == "classical":
                    with (cell / "trace.csv").open("w", newline="") as file:
                        writer = csv.writer(file)
                        writer.writerow(["iteration", "seconds", "psnr", "gap"])
                        gap = [2.0 * 0.8**k if method != "pnp" else "" for k in range(1, 21)]
                        writer.writerows([5 * k, 0.01 * k, 30 - 9 * 0.8**k, gap[k - 1]] for k in range(1, 21))
                if group != "direct":
                    x = np.geomspace(1e-4, 1e-1, 9) if group == "classical" else np.arange(1, 40) * 100
                    curve = 28 - (np.log10(x) + 2.3) ** 2 if group == "classical" else 30 - 8 * np.exp(-x / 900)
                    points = [{"x": float(a), "validation_psnr": float(b)} for a, b in zip(x, curve, strict=True)]
                    axis = "regularisation λ" if group == "classical" else "training step"
                    fit = {
                        "budget": "9 values",
                        "curve": points,
                        "axis": axis,
                        "chosen": {"weight": 0.0123456},
                        "warnings": [],
                    }
                    (cell / "fit.json").write_text(json.dumps(fit))
    if rows:
        with (run / "results.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(rows)
    return run
