"""The curve of a training, as a table and as a picture that are written while it runs."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from ..data.whole_file import whole_file

TABLE = "training.csv"
PICTURE = "training.png"
COLUMNS = ("step", "loss", "validation_psnr", "learning_rate", "seconds")

Row = dict[str, float]


def write_table(folder: Path, curve: Sequence[Row]) -> None:
    """``training.csv``, a row for each validation; whole or as it was."""
    with whole_file(folder / TABLE) as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows((int(row["x"]), *(f"{row[name]:.6g}" for name in COLUMNS[1:])) for row in curve)


def write_picture(folder: Path, curve: Sequence[Row]) -> None:
    """``training.png``: loss and validation PSNR over the steps; whole or as it was."""
    from matplotlib.figure import Figure  # takes a second, which a short training has better use for

    steps = [row["x"] for row in curve]
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(steps, [row["loss"] for row in curve], color="C0")
    left.set_yscale("log")
    left.set_ylabel("training loss")
    right.plot(steps, [row["validation_psnr"] for row in curve], color="C1")
    best = max(curve, key=lambda row: row["validation_psnr"])
    right.plot(best["x"], best["validation_psnr"], "o", color="C1")
    right.set_title(f"best {best['validation_psnr']:.2f} dB after {best['x']:,.0f} steps", fontsize="medium")
    right.set_ylabel("validation PSNR, dB")
    for axes in (left, right):
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    with whole_file(folder / PICTURE) as partial:
        figure.savefig(partial, dpi=110, format="png")
