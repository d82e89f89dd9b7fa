"""The report of synthetic run folders: it says what the numbers say, shows what is missing, and escapes all text."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from isocenter.benchmarks.metrics import metrics
from isocenter.benchmarks.report import write_report
from scipy.ndimage import gaussian_filter

FIELDS = ("task", "method", "seed", "image", "patient", "psnr", "ssim", "nrmse", "haarpsi", "seconds")
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
) -> Path:
    """A run folder as the runner leaves it, with reconstructions that are blurred and noisy truths."""
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
        info = {
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
        }
        (folder / "task.json").write_text(json.dumps(info))
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


class Page(HTMLParser):
    """Collects the text, the tags and the addresses of a page, and checks that tags close."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(html)
        assert not self.open, f"unclosed tags {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data


def read(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Page]:
    """Eight methods, one failed, two seeds of the learned ones."""
    run = build_run(
        tmp_path_factory.mktemp("runs") / "full", seeds=(0, 1), failed=("unet",), images=7, patients=7, size=48
    )
    return run, read(run)


def test_one_file_that_loads_nothing(full: tuple[Path, Page]) -> None:
    _, page = full
    assert page.addresses
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert page.tags.count("script") == 1


def test_says_who_wins_at_what_cost(full: tuple[Path, Page]) -> None:
    run, page = full
    with (run / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    means = {m: np.mean([float(r["psnr"]) for r in rows if r["method"] == m]) for m in METHODS if m != "unet"}
    best = max(means, key=means.__getitem__)
    assert f"{METHODS[best][0]} is clearly best: {means[best]:.2f} dB" in page.text
    for method, mean in means.items():
        assert f"{mean:.2f} ±" in page.text, method
    assert "after 12 min of fitting" in page.text
    assert "Plug-and-play DRUNet with a rather long name (the best classical method)" in page.text


def test_text_stays_text(full: tuple[Path, Page]) -> None:
    _, page = full
    assert "<script>alert('$x$')</script>" in page.text
    assert "  - <b>ct-30</b>" in page.text
    assert not {"b", "i", "memory"} & set(page.tags)


def test_trouble_is_in_plain_sight(full: tuple[Path, Page]) -> None:
    _, page = full
    assert "2 failed" in page.text
    assert "U-Net post-processing, seed 1, failed: out of <memory>" in " ".join(page.text.split())
    assert "Traceback\n  <i>line</i>" in page.text
    for words in ("simulated from magnitude images", "inverse crime: same grid", "the test set has few patients"):
        assert words in page.text
    assert "Wavelet ℓ1 (FISTA): stopped before its tolerance on 2 images" in page.text


def test_provenance_and_budgets(full: tuple[Path, Page]) -> None:
    _, page = full
    for words in ("isocenter run synthetic", "torch 2.5", "commit 0123abc", "σ = 1.5", "Holm"):
        assert words in page.text
    assert "Total variation, primal–dual: 9 values → weight = 0.01235" in page.text


def test_figures_lie_beside_the_page_and_repeat_exactly(full: tuple[Path, Page]) -> None:
    run, _ = full
    figures = {path.name: path.read_bytes() for path in (run / "figures").iterdir()}
    assert set(figures) == {f"{kind}-ct-30.svg" for kind in ("grid", "box", "pareto", "tuning")} | {"grid-ct-30.png"}
    write_report(run)
    for name, content in figures.items():
        assert (run / "figures" / name).read_bytes() == content, name
    assert (run / "report.html").stat().st_size < 2_000_000


def test_the_image_shown_is_the_middle_one_of_the_reference(full: tuple[Path, Page]) -> None:
    run, page = full
    with (run / "results.csv").open(newline="") as file:
        psnr = {r["image"]: float(r["psnr"]) for r in csv.DictReader(file) if r["method"] == "pnp"}
    median = np.median(list(psnr.values()))
    middle = min(psnr, key=lambda image: abs(psnr[image] - median))
    assert re.search(rf"Image {middle}: .* closest to the median PSNR", page.text)


@pytest.mark.parametrize(
    "changes",
    [
        {"methods": ("tv",)},
        {"methods": ("tv", "unet"), "failed": ("tv", "unet")},
        {"methods": ("direct", "lpd"), "images": 1, "patients": 1},
        {"methods": ("tv", "lpd"), "images": 4, "patients": 2, "stored": 2, "channels": 2, "size": 20},
        {"methods": ()},
        {"tasks": ()},
    ],
    ids=["one method", "only failures", "one image", "few stored, complex, small", "no cells", "no tasks"],
)
def test_missing_pieces(tmp_path: Path, changes: dict) -> None:
    page = read(build_run(tmp_path / "run", **changes))
    expected = {
        1: "Only Total variation, primal–dual has finished",
        2: "No reconstruction has finished",
        3: "a single test patient, hence no interval",
        4: "2 test patients make this an indication, no more",
        5: "No reconstruction has finished",
        6: "Nothing has finished yet",
    }
    number = [("tv",), ("tv", "unet"), ("direct", "lpd"), ("tv", "lpd"), ()].index(changes.get("methods", ()))
    assert expected[6 if "tasks" in changes else number + 1] in page.text


def test_unfinished_cells_and_an_old_folder_without_extras(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", methods=("tv", "lpd"), images=3, patients=3, size=32)
    (run / "environment.json").unlink()
    for cell in (run / "cells" / "ct-30").iterdir():
        (cell / "fit.json").unlink()
        if cell.name.startswith("tv"):
            (cell / "status.json").unlink()
            (cell / "spec.json").unlink()
            (cell / "reconstructions.h5").unlink()
    page = read(run)
    assert "1 unfinished" in page.text
    assert "Not finished: tv (seed ?)" in " ".join(page.text.split())


def test_what_is_no_run_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not a run folder: it has no suite\.yaml"):
        write_report(tmp_path)
    run = build_run(tmp_path / "run", methods=("tv",), images=2, patients=2, size=32)
    (run / "cells" / "ct-30" / "tv-0-abc123" / "status.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"status\.json: not JSON"):
        write_report(run)
