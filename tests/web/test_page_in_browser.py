"""The page in headless Chromium: upload, run, look, move, download; narrow and dark; wrong files; two clicks.

    pip install -e '.[web]' playwright && python -m pytest -m slow tests/web

Chromium is the one of the system (``apt-get install chromium``). With ``PAGE_PICTURES=FOLDER``, the tests also write
pictures of the page.
"""

import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tool_runs import make_run

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE = 240_000
"""Milliseconds; a busy machine is slow."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a served page with a geometric model and a model without depth, both with random weights."""
    pytest.importorskip("gradio", reason="needs gradio: pip install -e '.[web]'")
    folder = tmp_path_factory.mktemp("page")
    run = make_run(folder / "geometric", "data.workers=0", experiment=ROOT / "experiments/rayzer_demo.json")
    flat = make_run(folder / "flat")
    command = (sys.executable, "-u", "-m", "openrayzer.cli", "demo", "--port", "7997", "--device", "cpu", "--run")
    with subprocess.Popen([*command, str(run), str(flat)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().split()[-1]
        finally:
            server.terminate()
            assert server.wait(timeout=120) == 143
            assert not [*Path(tempfile.gettempdir()).glob(f"openrayzer_web_{server.pid}_*")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


def opened(browser: Any, address: str, *, width: int = 1280, scheme: str = "light") -> Any:
    """A new tab with the page, which must stay without errors and without requests to other machines."""
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab.set_default_timeout(PATIENCE)
    tab.faults = []
    tab.on("pageerror", lambda error: tab.faults.append(str(error)))
    own = (address, "blob:", "data:")
    tab.on("request", lambda request: None if request.url.startswith(own) else tab.faults.append(request.url))
    tab.goto(address)
    tab.wait_for_selector("#orz-run")
    return tab


def write_photo(file: Path, value: int = 100) -> Path:
    """Write a photo of one grey value and return its path."""
    Image.new("RGB", (48, 32), (value, value, value)).save(file)
    return file


def upload(tab: Any, *files: Path) -> None:
    """Give files to the page and wait until it lists them."""
    tab.set_input_files("#orz-upload input[type=file]", [str(file) for file in files])
    for file in files:
        tab.get_by_text(file.stem, exact=False).first.wait_for()


def run_example(tab: Any) -> None:
    """Choose the examples, press Run and wait for the first view."""
    tab.get_by_label("Example").check()
    tab.wait_for_selector("#orz-example")
    tab.click("#orz-run")
    tab.wait_for_selector(".orz-result:not([hidden])")
    tab.wait_for_function("document.querySelector('#orz-image').dataset.step === '0'")


def picture(tab: Any, name: str) -> None:
    """Keep a picture of the whole page if somebody wants it."""
    if folder := os.environ.get("PAGE_PICTURES"):
        tab.screenshot(path=f"{folder}/{name}.png", full_page=True)


def status(address: str) -> int:
    """The HTTP status of an address."""
    try:
        return int(urllib.request.urlopen(address).status)
    except urllib.error.HTTPError as error:
        return error.code


COLOURS = """() => {
  const canvas = document.querySelector('#orz-canvas'), seen = new Set();
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let accent = 0;
  for (let i = 0; i < data.length; i += 4) {
    if (!data[i + 3]) continue;
    seen.add((data[i] << 16) | (data[i + 1] << 8) | data[i + 2]);
    if (data[i] > 220 && data[i + 1] > 80 && data[i + 1] < 140 && data[i + 2] < 60) accent++;
  }
  return [seen.size, accent];
}"""
"""Number of colours on the canvas, and number of pixels in the orange of the current camera."""


def test_from_an_example_to_files(browser: Any, address: str):
    tab = opened(browser, address)
    picture(tab, "start")
    run_example(tab)
    colours, accent = tab.evaluate(COLOURS)
    assert colours > 50, "the points have colours"
    assert accent > 20, "the current camera is drawn"
    first = tab.get_attribute("#orz-image", "src")
    tab.focus("#orz-slider")
    tab.keyboard.press("Shift+ArrowRight")
    tab.keyboard.press("ArrowUp")
    tab.wait_for_function("document.querySelector('#orz-image').dataset.step === '10'")
    assert tab.get_attribute("#orz-image", "src") != first
    assert "ms to render" in tab.text_content("#orz-latency")
    tab.click(".orz-photo >> nth=1")
    assert tab.get_attribute(".orz-photo >> nth=1", "aria-pressed") == "true"
    tab.select_option("#orz-shown", "depth")
    before = tab.evaluate(COLOURS)
    box = tab.locator("#orz-canvas").bounding_box()
    tab.mouse.move(box["x"] + 50, box["y"] + 50)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 150, box["y"] + 90)
    tab.mouse.up()
    assert tab.evaluate(COLOURS) != before, "a drag turns the drawing"
    picture(tab, "result")
    tab.click("#orz-film")
    tab.wait_for_selector("#orz-saved")
    links = tab.eval_on_selector_all("#orz-files a", "all => all.map((a) => a.href)")
    contents = {link.split("?")[0].rpartition("/")[2]: urllib.request.urlopen(link).read() for link in links}
    assert sorted(contents)[:2] == ["cameras.json", "colmap.zip"]
    assert contents["interpolate_depth.mp4"][4:8] == b"ftyp"
    assert contents["scene.ply"].startswith(b"ply\n")
    assert "colmap/sparse/0/images.txt" in zipfile.ZipFile(io.BytesIO(contents["colmap.zip"])).namelist()
    assert tab.faults == []
    tab.close()
    for _ in range(100):
        if status(links[-1]) == 404:
            break
        time.sleep(0.2)
    assert status(links[-1]) == 404, "the closed tab takes its scene along"


def test_the_page_fits_a_dark_telephone(browser: Any, address: str):
    tab = opened(browser, address, width=400, scheme="dark")
    run_example(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 400
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") not in ("rgb(255, 255, 255)", "")
    assert tab.evaluate(COLOURS)[1] > 20
    picture(tab, "telephone")
    assert tab.faults == []
    tab.close()


def test_photos_run_once_at_two_clicks_and_wrong_files_are_named(browser: Any, address: str, tmp_path: Path):
    tab = opened(browser, address)
    tab.click("#orz-run")
    tab.get_by_text("Add photos or a video first").wait_for()
    (tmp_path / "notes.jpg").write_text("milk, bread, eggs")
    upload(tab, write_photo(tmp_path / "one.jpg"), tmp_path / "notes.jpg")
    tab.click("#orz-run")
    tab.get_by_text("notes.jpg: it is not a photo that can be read").wait_for()
    picture(tab, "refused")
    tab.close()

    tab = opened(browser, address)
    tab.click("#orz-model input")
    tab.get_by_role("option", name="flat").click()
    tab.get_by_text("rayzer, 32 x 24 pixels").wait_for()
    upload(tab, write_photo(tmp_path / "one.jpg"), write_photo(tmp_path / "two.png", 200))
    tab.dblclick("#orz-run")
    tab.wait_for_selector(".orz-photo >> nth=1")
    assert tab.get_by_text("this model has neither depth nor Gaussians").count() == 1
    assert tab.is_disabled("#orz-shown")
    assert tab.faults == []
    tab.close()
