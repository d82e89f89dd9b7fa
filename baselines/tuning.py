"""Choosing a parameter on validation images, within a stated budget."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scipy.optimize import minimize_scalar
from torch import Tensor
from tqdm import tqdm

from ..data.metrics import psnr
from .method import Fit

EDGE = 0.03  # of the search range in log space: an optimum this close to an end may lie beyond it
FILE = "chosen.json"


def tune(
    name: str,
    reconstruct: Callable[[float], Tensor],
    truths: Tensor,
    data_range: float,
    low: float,
    high: float,
    budget: int,
) -> Fit:
    """Maximise the mean PSNR over a parameter in log space by Brent's bounded search.

    Args:
        name: of the parameter.
        reconstruct: parameter → images like ``truths``.
        truths: validation images ``[B, C, H, W]``.
        data_range: of the PSNR.
        low, high: ends of the search range, positive.
        budget: number of values to try.
    """
    began = time.perf_counter()
    curve: list[dict[str, float]] = []
    with tqdm(total=budget, desc=f"tuning {name}", leave=False, unit="value", disable=None) as bar:

        def loss(log: float) -> float:
            value = float(psnr(reconstruct(math.exp(log)), truths, data_range).mean())
            curve.append({"x": math.exp(log), "validation_psnr": value})
            bar.update()
            bar.set_postfix_str(f"{name} {math.exp(log):.2e}: {value:.2f} dB")
            return math.inf if math.isnan(value) else -value

        minimize_scalar(
            loss, bounds=(math.log(low), math.log(high)), method="bounded", options={"maxiter": budget, "xatol": 0.02}
        )
    best = max(curve, key=lambda row: -math.inf if math.isnan(row["validation_psnr"]) else row["validation_psnr"])
    place = (math.log(best["x"]) - math.log(low)) / (math.log(high) - math.log(low))
    warnings = []
    if not EDGE < place < 1 - EDGE:
        end = low if place < 0.5 else high
        warnings.append(
            f"{name} {best['x']:.2e} is at the end {end:.0e} of its search range; the optimum may lie beyond"
        )
    return Fit(
        budget=f"{len(curve)} values of {name} on {len(truths)} validation images",
        chosen={name: best["x"]},
        curve=sorted(curve, key=lambda row: row["x"]),
        axis=name,
        seconds=time.perf_counter() - began,
        warnings=warnings,
    )


def save_chosen(folder: Path, chosen: dict[str, Any]) -> None:
    """Write tuned parameters."""
    (folder / FILE).write_text(json.dumps(chosen), encoding="utf-8")


def load_chosen(folder: Path, name: str) -> float:
    """Read one tuned parameter back; a ValueError where there is none."""
    try:
        return float(json.loads((folder / FILE).read_text(encoding="utf-8"))[name])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder.name}/{FILE} holds no {name} ({error}); fit again") from error
