"""The report of synthetic run folders: it says what the numbers say, shows what is missing, and escapes all text."""

from __future__ import annotations

import base64
import csv
import json
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from isocenter.benchmarks.charts import _factors
from isocenter.benchmarks.image_grid import Panel
from isocenter.benchmarks.judgement import judge
from isocenter.benchmarks.plots import Look, looks, of_errors
from isocenter.benchmarks.record import Task, method_labels, read_tasks
from isocenter.benchmarks.report import write_report
from isocenter.benchmarks.report_tables import latex, published_table
from isocenter.benchmarks.sweeps import families
from isocenter.benchmarks.units import Scale
from isocenter.benchmarks.viewer import Picture, choose, pack, thin
from matplotlib.figure import Figure


class Page(HTMLParser):
    """Collects the text, the tags and the addresses of a page, and checks that tags close."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.data: dict[str, str] = {}
        self.script: str | None = None
        self.feed(html)
        assert not self.open, f"unclosed tags {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "script":
            self.script = dict(attrs).get("id")
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data
        elif self.script:
            self.data[self.script] = data


def read(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, synthetic: ModuleType) -> tuple[Path, Page]:
    """Eight methods, one failed, two seeds of the learned ones."""
    run = synthetic.build_run(
        tmp_path_factory.mktemp("runs") / "full", seeds=(0, 1), failed=("unet",), images=7, patients=7, size=48
    )
    return run, read(run)


def test_one_file_that_loads_nothing(full: tuple[Path, Page]) -> None:
    _, page = full
    assert page.addresses
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert page.tags.count("script") == 4  # before the page, after it, and two of data


def test_says_who_wins_at_what_cost(full: tuple[Path, Page], synthetic: ModuleType) -> None:
    run, page = full
    with (run / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    means = {m: np.mean([float(r["psnr"]) for r in rows if r["method"] == m]) for m in synthetic.METHODS if m != "unet"}
    best = max(means, key=means.__getitem__)
    assert f"{synthetic.METHODS[best][0]} is clearly best: {means[best]:.2f} dB" in page.text
    for method, mean in means.items():
        assert f"{mean:.2f} ±" in page.text, method
    assert "after 12 min of fitting" in page.text
    assert "Training again moves the mean PSNR" in page.text
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
    drawn = ["differences", *(f"{kind}-ct-30" for kind in ("grid", "box", "pareto", "convergence", "tuning"))]
    assert set(figures) == {f"{name}.{ending}" for name in drawn for ending in ("svg", "png")}
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
    assert re.search(rf"Image {middle}: the median PSNR of Plug-and-play", page.text)
    shown = {image["rank"]: image["id"] for image in images(page)["images"]}
    assert shown == {"best": max(psnr, key=psnr.get), "median": middle, "worst": min(psnr, key=psnr.get)}


def images(page: Page, task: int = 1) -> dict:
    """What a viewer is given."""
    return json.loads(page.data[f"images-{task}"])


def unpack(packed: dict, shape: tuple[int, int]) -> np.ndarray:
    """As the page does it."""
    planes = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), np.uint8)
    high, low = planes.reshape(2, -1).astype(float)
    return (packed["low"] + packed["step"] * (256 * high + low)).reshape(shape)


def test_packed_images_are_those_of_the_files() -> None:
    """Errors keep their precision, however small beside the image; CT is shown in Hounsfield units."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 0.04, (20, 31)).astype(np.float32)
    error = 1e-6 * rng.standard_normal(truth.shape)
    error[3, 4] = 0.0
    panels = [Panel(Look("a", "#000000", "o"), truth + error, "30.00 dB")]
    data = pack([Picture("median", "x", truth, panels)], {"water": 0.02, "display": [0.01, 0.03]}, 1)
    (image,) = data["images"]
    assert (data["unit"], data["low"], data["high"]) == ("HU", pytest.approx(-500), pytest.approx(500))
    np.testing.assert_allclose(unpack(image["truth"], truth.shape), 50_000.0 * truth - 1000, atol=2000 / 4095)
    packed = image["panels"][0]["error"]
    expected = 50_000 * (panels[0].image.astype(float) - truth)
    np.testing.assert_allclose(unpack(packed, truth.shape), expected, atol=0.51 * np.ptp(expected) / 4095)


def test_the_best_the_median_and_the_worst() -> None:
    nan = np.nan
    assert choose(np.array([3.0, 1, nan, 5, 2, 4]), error=False) == {"best": 3, "median": 0, "worst": 1}
    assert choose(np.array([3.0, 1, nan, 5, 2, 4]), error=True) == {"best": 1, "median": 0, "worst": 3}
    assert choose(np.array([1.0, 2]), error=False) == {"median": 1}
    assert choose(np.array([nan, nan]), error=False) == {}


def test_pages_stay_small() -> None:
    """Too many pixels: first the median image alone, then fewer pixels, and at last nothing."""
    look = Look("a", "#000000", "o")
    image = np.zeros((60, 60), dtype=np.float32)
    group = [Picture(rank, rank, image, [Panel(look, image, "")]) for rank in ("best", "median", "worst")]
    assert thin([group, []], 3 * 7200) == ([group, []], 1)
    assert thin([group], 7200) == ([[group[1]]], 1)
    assert thin([group], 7199) == ([[group[1]]], 2)
    assert thin([group], 10) == ([[]], 1)
    assert pack([group[1]], {}, 4)["images"][0]["width"] == 15


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
def test_missing_pieces(tmp_path: Path, changes: dict, synthetic: ModuleType) -> None:
    page = read(synthetic.build_run(tmp_path / "run", **changes))
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


def test_unfinished_cells_and_an_old_folder_without_extras(tmp_path: Path, synthetic: ModuleType) -> None:
    run = synthetic.build_run(tmp_path / "run", methods=("tv", "lpd"), images=3, patients=3, size=32)
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


def test_what_is_no_run_folder_is_named(tmp_path: Path, synthetic: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"not a run folder: it has no suite\.yaml"):
        write_report(tmp_path)
    run = synthetic.build_run(tmp_path / "run", methods=("tv",), images=2, patients=2, size=32)
    (run / "cells" / "ct-30" / "tv-0-abc123" / "status.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"status\.json: not JSON"):
        write_report(run)


def test_an_error_leads_on_a_logarithmic_axis(tmp_path: Path, synthetic: ModuleType) -> None:
    run = synthetic.build_run(
        tmp_path / "run", methods=("direct", "tv", "lpd"), images=7, patients=7, size=32, info={"metric": "rmse"}
    )
    page = read(run)
    said = re.search(r"is clearly best: RMSE (0\.\d{3}) cm⁻¹, a factor \S+ \[\S+, \S+\] below", page.text)
    assert said is not None
    assert "RMSE ÷ ref." in page.text
    assert "RMSE [cm⁻¹]" in page.text
    assert "Data range10 cm⁻¹" in "".join(page.text.split("\n"))
    with (run / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    rmse = {m: np.array([float(r["rmse"]) for r in rows if r["method"] == m]) for m in ("tv", "lpd")}
    with (run / "tables" / "ct-30.csv").open(newline="", encoding="utf-8") as file:
        row = next(row for row in csv.DictReader(file) if row["method"] == "lpd")
    assert float(row["rmse"]) == pytest.approx(10 * rmse["lpd"].mean())  # 1 / mm is 10 / cm
    assert float(said[1]) == pytest.approx(10 * rmse["lpd"].mean(), rel=5e-3)
    assert row["units"] == "cm⁻¹"
    assert float(row["gain"]) == pytest.approx(np.log(rmse["tv"] / rmse["lpd"]).mean())
    assert (row["reference"], row["gain_in"]) == ("tv", "log rmse")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.5, 5e3, [1, 10, 100, 1000]),
        (0.2, 8, [0.333, 1, 3]),
        (0.6, 1.4, [0.667, 0.833, 1, 1.2]),
        (0.97, 1.06, [1, 1.05]),
    ],
)
def test_axes_of_ratios_have_round_factors(low: float, high: float, expected: list[float]) -> None:
    ticks = _factors(np.log(low), np.log(high))
    assert [float(f"{tick:.3g}") for tick in ticks] == expected


def test_published_numbers_stand_apart(tmp_path: Path, synthetic: ModuleType) -> None:
    published = [
        {"label": "LPD <2018>", "method": "lpd", "psnr": 99.25, "parameters": 253220, "source": "A & B", "note": "one"},
        {"label": "Theirs", "method": None, "psnr": 12.5, "ssim": 0.5, "source": "A & B"},
    ]
    run = synthetic.build_run(
        tmp_path / "run", methods=("tv", "lpd"), images=7, patients=7, size=32, info={"published": published}
    )
    page = read(run)
    assert "is clearly best" in page.text
    assert "99.25" in page.text
    (shown,) = re.findall(r"LPD <2018>.*?A & B", "".join(page.text.splitlines()))
    own = re.search(r"best: (\d+\.\d\d) dB", page.text)
    assert own is not None
    cells = ["LPD <2018>", "99.25", "–", "253 k", "Learned primal–dual with tied weights", own[1], "–", "A & B"]
    assert "".join(shown.split()) == "".join("".join(cells).split())
    for table in (run / "tables").iterdir():
        assert "99.25" not in table.read_text(encoding="utf-8"), table


def test_families_have_curves(tmp_path: Path, synthetic: ModuleType) -> None:
    sweeps = [{"physics.geometry.views": views} for views in (20, 60)]
    names = ("a", "b")
    run = synthetic.build_run(
        tmp_path / "run", methods=("tv", "lpd"), tasks=names, images=3, patients=3, size=24, sweeps=sweeps
    )
    page = read(run)
    assert "views against views" in page.text
    assert (run / "figures" / "sweep-views.svg").is_file()
    assert not (run / "figures" / "differences.svg").exists()


def test_a_sweep_of_two_values_has_a_panel_for_each_of_the_shorter() -> None:
    swept = [
        {"noise.sigma": s, "physics.geometry.views": v, "blind": b}
        for s in (0.1, 0.2)
        for v in (60, 20, 30)
        for b in (True, False)
    ]
    rows = [{"method": m, "seed": "0", "image": f"{i}", "psnr": str(20 + i)} for m in ("tv", "lpd") for i in range(3)]
    tasks = [Task(str(i), {"family": "f", "sweep": sweep}, (), tuple(rows)) for i, sweep in enumerate(swept)]
    (family,) = families(tasks, [judge(task, ["tv", "lpd"]) for task in tasks])
    assert family.across == "physics.geometry.views"
    assert family.values("physics.geometry.views") == [20, 30, 60]
    figure, _ = family.draw(looks({"tv": "TV", "lpd": "LPD"}))
    titles = {ax.get_title() for ax in figure.axes if ax.get_visible()}
    assert titles == {f"sigma {s}, blind {b}" for s in (0.1, 0.2) for b in (True, False)}
    curve = figure.axes[0].get_lines()[0]
    assert curve.get_xdata().tolist() == [20, 30, 60]
    assert curve.get_ydata().tolist() == [21, 21, 21]


def test_latex_writes_out_what_is_special_to_it() -> None:
    assert latex("a_b & 5 % $x$ {1}") == r"a\_b \& 5 \% \$x\$ \{1\}"
    assert latex("6.37·10⁻⁶ ± −1") == r"6.37$\cdot$10$^{-6}$ $\pm$ $-$1"
    assert latex("\\input{x}") == r"\textbackslash{}input\{x\}"


def test_a_cell_that_is_only_trained_does_not_take_its_methods_label(tmp_path: Path, synthetic: ModuleType) -> None:
    run = synthetic.build_run(tmp_path, methods=("direct", "lpd"), tasks=("ct-30", "ct-60"), images=2, size=32)
    (cell,) = (run / "cells" / "ct-60").glob("lpd-*")
    for name in ("spec.json", "status.json", "metrics.csv"):
        (cell / name).unlink(missing_ok=True)
    labels = method_labels(read_tasks(run))
    assert labels == {"direct": "Filtered back-projection", "lpd": "Learned primal–dual with tied weights"}


def test_the_means_of_the_summary_are_a_table_of_numbers(full: tuple[Path, Page]) -> None:
    run, _ = full
    with (run / "tables" / "overview.csv").open(newline="", encoding="utf-8") as file:
        overview = {row["method"]: row for row in csv.DictReader(file)}
    with (run / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    (title,) = set(overview["tv"]) - {"method", "label"}
    values = [float(row["psnr"]) for row in rows if row["method"] == "tv"]
    assert float(overview["tv"][title]) == pytest.approx(np.mean(values))
    assert overview["tv"]["label"] == "Total variation, primal–dual"


def test_axes_of_errors_are_logarithmic_over_more_than_a_decade() -> None:
    for values, scale, labels in (
        ([2e-5, 8e-5], "linear", ["2·10⁻⁵", "4·10⁻⁵", "6·10⁻⁵", "8·10⁻⁵"]),
        ([2e-9, 3e-2], "log", ["10⁻⁸", "0.01"]),
    ):
        axes = Figure().subplots()
        axes.set_xlim(min(values) * 0.99, max(values) * 1.01)
        of_errors(axes.xaxis, values)
        axes.figure.draw_without_rendering()
        assert axes.get_xscale() == scale
        assert set(labels) <= {label.get_text() for label in axes.get_xticklabels()}


def test_images_are_shown_as_they_are_judged(tmp_path: Path, synthetic: ModuleType) -> None:
    """Clipped where the task clips, and the page says so, in the unit of the images; other attenuations are in cm⁻¹."""
    info = {"clip": [0.25, 0.5], "water": 0.5}
    run = synthetic.build_run(tmp_path / "run", methods=("direct", "tv"), images=3, patients=3, size=24, info=info)
    page = read(run)
    assert "Reconstructions are clipped to -500 … 0 HU, as they are judged." in page.text
    image = images(page)["images"][0]
    shape = image["height"], image["width"]
    for panel in image["panels"]:
        shown = unpack(image["truth"], shape) + unpack(panel["error"], shape)
        assert -505 < shown.min() < -490
        assert -10 < shown.max() < 5
    assert Scale.of_images({"units": "1/mm"}) == Scale(10.0, 0.0, "cm⁻¹")
    assert Scale.of_values({"units": "1/mm", "water": 0.02}) == Scale(10.0, 0.0, "cm⁻¹")
    assert Scale.of_values({"units": "mm"}) == Scale(1.0, 0.0, "mm")


def test_published_errors_are_in_the_unit_of_ours(tmp_path: Path, synthetic: ModuleType) -> None:
    published = [{"label": "Theirs", "method": "tv", "rmse": 6.8e-5, "source": "A"}]
    info = {"metric": "rmse", "published": published}
    run = synthetic.build_run(tmp_path / "run", methods=("tv", "lpd"), images=3, patients=3, size=24, info=info)
    tasks = read_tasks(run)
    result = judge(tasks[0], ["tv", "lpd"])
    (row,) = published_table(tasks[0], result, method_labels(tasks))
    ours = np.mean([float(r["rmse"]) for r in tasks[0].rows if r["method"] == "tv"])
    assert (row["rmse"], row["own_rmse"]) == ("6.80·10⁻⁴", result.measure.text(10 * ours))
