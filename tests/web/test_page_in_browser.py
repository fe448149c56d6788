"""The page in headless Chromium: upload, run, look, move, download; narrow and dark; wrong files.

    pip install -e '.[web]' playwright && python -m pytest -m slow tests/web

Chromium is the one of the system (``apt-get install chromium``). With ``PAGE_PICTURES=FOLDER``, the tests also write
pictures of the page.
"""

import io
import time
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import pytest
from page_tabs import COLOURS, choose_model, opened, picture, run_example, status, upload, write_photo

pytestmark = pytest.mark.slow


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


def test_photos_run_and_wrong_files_are_named(browser: Any, address: str, tmp_path: Path):
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
    choose_model(tab, "flat")
    upload(tab, write_photo(tmp_path / "one.jpg"), write_photo(tmp_path / "two.png", 200))
    tab.click("#orz-run")
    tab.wait_for_selector(".orz-photo >> nth=1")
    assert tab.get_by_text("this model has neither depth nor Gaussians").count() == 1
    assert tab.is_disabled("#orz-shown")
    assert tab.faults == []
    tab.close()
