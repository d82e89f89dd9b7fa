"""The report in a real browser: it loads nothing, sorts, zooms all images at once, and shows all text as text."""

from __future__ import annotations

import base64
import json
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from isocenter.benchmarks.report import write_report

api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (extra `browser`)")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; on Debian: apt-get install chromium")

EVIL = "<script>alert('$x$')</script>"
PUBLISHED = [{"label": "<i>theirs</i>", "method": "tv", "psnr": 30.0, "source": "</table><script>alert(2)</script>"}]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, synthetic: ModuleType) -> Path:
    """CT with 8 test images of 24 × 24, one method with a label that is a script, and one that failed."""
    return synthetic.build_run(
        tmp_path_factory.mktemp("runs") / "<b>run",
        methods=("direct", "tv", "unet", "evil"),
        failed=("unet",),
        images=8,
        patients=8,
        size=24,
        info={"title": "<img src=x onerror=alert(1)>", "water": 0.5, "display": [0.25, 0.75], "published": PUBLISHED},
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def page(run: Path, browser: Any) -> Iterator[Any]:
    """The report, opened from the disk; every request, message and dialog is kept in ``page.seen``."""
    opened = browser.new_page(viewport={"width": 800, "height": 900})
    opened.seen = []
    opened.on("request", lambda request: opened.seen.append(request.url.split(",")[0]))
    opened.on("console", lambda message: opened.seen.append(message.text))
    opened.on("pageerror", lambda error: opened.seen.append(str(error)))
    opened.on("dialog", lambda dialog: (opened.seen.append(dialog.message), dialog.dismiss()))
    opened.goto(write_report(run).as_uri())
    opened.locator(".viewer").scroll_into_view_if_needed()
    opened.wait_for_selector(".viewer[data-zoom]")
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def _whole_image(page: Any) -> None:
    """Every test begins as the page does."""
    page.get_by_role("button", name="Whole image").click()
    page.get_by_role("button", name="reset").click()
    page.mouse.move(1, 1)  # not on an image, where it leaves a cross
    settled(page)


def settled(page: Any) -> None:
    """Two frames later, when what was asked for is drawn."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def state(page: Any) -> dict[str, str]:
    settled(page)
    return page.locator(".viewer").evaluate("viewer => ({...viewer.dataset})")


def drawn(page: Any, what: str = "shown") -> np.ndarray:
    """Red of every pixel on the canvases, ``[panels, H, W]``."""
    settled(page)
    rows = page.locator(f".panels figure canvas.{what}").evaluate_all(
        """canvases => canvases.filter(c => c.height > 1).map(c => {
          const data = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
          return [c.height, c.width, Array.from(data).filter((_, i) => i % 4 === 0)];
        })"""
    )
    return np.array([np.reshape(values, (height, width)) for height, width, values in rows])


def test_nothing_is_loaded_and_nothing_complains(page: Any, run: Path) -> None:
    assert [entry for entry in page.seen if not entry.startswith("data:")] == [(run / "report.html").as_uri()]


def test_all_text_is_text(page: Any) -> None:
    """Labels, titles, errors, tracebacks and published rows hold tags; none of them became one."""
    assert page.locator("tbody th", has_text=EVIL).count() >= 2
    assert page.locator(".panels strong", has_text=EVIL).count() == 1
    assert page.locator("h2", has_text="<img src=x onerror=alert(1)>").count() == 1
    assert page.locator(".published", has_text="</table><script>alert(2)</script>").count() == 1
    page.locator(".failed summary").click()
    assert page.locator(".failed pre").inner_text() == "Traceback\n  <i>line</i>"
    assert page.locator("main img[onerror], main i, main b").count() == 0


def test_tables_sort_by_numbers_and_by_names(page: Any) -> None:
    table = page.locator("section.task table.sorts").first
    column = table.locator("thead th", has_text="PSNR [dB]")

    def psnr() -> list[float]:
        return [float(text.split(" ")[0]) for text in table.locator("tbody tr td:nth-child(2)").all_inner_texts()]

    column.locator("button").click()
    assert psnr() == sorted(psnr(), reverse=True)
    assert column.get_attribute("aria-sort") == "descending"
    column.locator("button").focus()
    page.keyboard.press("Enter")
    assert psnr() == sorted(psnr())
    table.locator("thead th button").first.click()
    names = table.locator("tbody th").all_inner_texts()
    assert names == sorted(names, key=str.lower)
    assert column.get_attribute("aria-sort") is None


def values(page: Any) -> list[np.ndarray]:
    """Truth and reconstructions of the image that is shown, in HU, as the page has unpacked them."""
    source = page.locator(".viewer").get_attribute("data-source")
    data = json.loads(page.locator(f"#{source}").text_content())
    image = next(i for i in data["images"] if i["id"] == state(page)["image"])

    def unpacked(packed: dict[str, Any]) -> np.ndarray:
        planes = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), np.uint8).reshape(2, -1).astype(float)
        levels = packed["low"] + packed["step"] * (256 * planes[0] + planes[1])
        return levels.reshape(image["height"], image["width"])

    truth = unpacked(image["truth"])
    return [truth, *(truth + unpacked(panel["error"]) for panel in image["panels"])]


def expected(image: np.ndarray, now: dict[str, str], shape: tuple[int, ...]) -> np.ndarray:
    """Grey values of a canvas of this shape, from the state that the viewer says it is in.

    NaN where a pixel of the canvas lies on the edge of two of the image, and may be drawn as either.
    """
    zoom, x, y, level, width = (float(now[name]) for name in ("zoom", "x", "y", "level", "width"))
    scale = shape[1] / image.shape[1] * zoom
    rows, columns = (centre + (np.arange(n) + 0.5 - n / 2) / scale for centre, n in ((y, shape[0]), (x, shape[1])))
    found = image[np.ix_(*(np.clip(np.floor(at).astype(int), 0, 23) for at in (rows, columns)))]
    on_edge = [np.abs(at - np.round(at)) * scale < 1 for at in (rows, columns)]
    grey = np.clip(np.round(255 * (found - level + width / 2) / width), 0, 255)
    return np.where(on_edge[0][:, None] | on_edge[1], np.nan, grey)


def assert_drawn(page: Any) -> None:
    """Every canvas shows what the state says."""
    canvases, now = drawn(page), state(page)
    images = values(page)
    assert len(canvases) == len(images) == 4  # truth, direct, tv, evil
    for canvas, image in zip(canvases, images, strict=True):
        difference = np.abs(canvas - expected(image, now, canvas.shape))
        assert np.isnan(difference).mean() < 0.5
        assert np.nanmax(difference) <= 1


def test_one_zoom_for_all_images(page: Any) -> None:
    """Zoomed by buttons, moved by the mouse and by keys: every canvas shows the same part of its image."""
    assert_drawn(page)
    errors = drawn(page, "error")
    page.get_by_role("button", name="Zoom in").click(click_count=3, delay=20)
    assert float(state(page)["zoom"]) == pytest.approx(1.5**3)
    box = page.locator(".panels canvas.shown").nth(2).bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 70, box["y"] + 120, steps=3)
    page.mouse.up()
    scale = box["width"] / 24 * 1.5**3
    assert float(state(page)["x"]) == pytest.approx(12 + 30 / scale, abs=0.05)
    assert float(state(page)["y"]) == pytest.approx(12 - 20 / scale, abs=0.05)
    assert page.locator(".panels .value").nth(2).inner_text().count("HU") == 1
    page.mouse.move(1, 1)  # takes the cross away
    assert_drawn(page)
    assert not np.array_equal(drawn(page, "error"), errors)
    page.locator(".panels").focus()
    page.keyboard.press("ArrowRight")
    assert float(state(page)["x"]) > 12 + 30 / scale
    page.keyboard.press("0")
    assert (state(page)["zoom"], state(page)["x"]) == ("1", "12")
    assert_drawn(page)
    assert np.array_equal(drawn(page, "error"), errors)


def test_the_wheel_scrolls_the_page_and_zooms_with_ctrl_only(page: Any) -> None:
    page.locator(".panels canvas.shown").nth(1).hover()
    page.mouse.wheel(0, -100)
    assert state(page)["zoom"] == "1"
    page.locator(".panels canvas.shown").nth(1).hover()
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    assert float(state(page)["zoom"]) == pytest.approx(2)


def test_window_and_level_in_hounsfield_units(page: Any) -> None:
    """At first the dataset's window, 0.25 to 0.75 of 1/mm, that is −500 to 500 HU with μ = 0.5/mm for water."""
    assert (state(page)["level"], state(page)["width"]) == ("0", "1000")
    page.get_by_role("button", name="lung").click()
    assert (state(page)["level"], state(page)["width"]) == ("-600", "1500")
    assert_drawn(page)
    page.locator("input[name=width]").focus()
    page.keyboard.press("Home")
    narrow = float(state(page)["width"])
    assert 0 < narrow < 1
    canvas = drawn(page)[0]
    assert set(np.unique(canvas)) <= {0, *range(256)}
    assert np.isin(canvas, (0, 255)).mean() > 0.9  # next to no grey is left
    assert page.locator("input[name=width]").get_attribute("aria-valuetext").endswith("HU")


def test_other_images_modes_and_the_truth_in_their_place(page: Any) -> None:
    first = state(page)["image"]
    page.get_by_text("worst", exact=True).click()
    page.wait_for_selector(f".viewer:not([data-image='{first}'])")
    assert_drawn(page)
    page.get_by_text("Errors", exact=True).click()
    settled(page)
    assert page.locator("canvas.shown:visible").count() == 1  # the truth stays
    page.locator(".viewer").get_by_text("Images and errors").click()
    page.locator(".panels").focus()
    page.keyboard.down("t")
    truth, *others = drawn(page)
    assert all(np.array_equal(other, truth) for other in others)
    page.keyboard.up("t")
    assert_drawn(page)
    page.get_by_text("median", exact=True).click()


def test_it_fits_a_phone_and_follows_the_dark(run: Path, browser: Any) -> None:
    phone = browser.new_page(viewport={"width": 360, "height": 800}, color_scheme="dark")
    phone.goto((run / "report.html").as_uri())
    assert phone.evaluate("document.documentElement.scrollWidth") == 360
    red = phone.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, red[4:-1].split(","))) < 60
    phone.close()


def test_print_shows_the_still_figure(page: Any) -> None:
    grid = page.locator("figure.print-only")
    assert not grid.is_visible()
    page.emulate_media(media="print")
    assert grid.is_visible()
    assert not page.locator(".viewer").is_visible()
    page.emulate_media(media="screen")


def test_without_scripts_there_is_still_everything_to_read(run: Path, browser: Any) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((run / "report.html").as_uri())
    assert page.locator("figure.print-only").is_visible()
    context.close()
