"""What the tests do in a tab of the page, in headless Chromium."""

import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image

PATIENCE = 240_000
"""Milliseconds; a busy machine is slow."""


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


def choose_model(tab: Any, name: str) -> None:
    """Choose a model of the list and wait until the page describes it."""
    tab.click("#orz-model input")
    tab.get_by_role("option", name=name).click()
    tab.get_by_text("rayzer, 32 x 24 pixels").wait_for()


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
