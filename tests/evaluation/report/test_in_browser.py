"""The page in headless Chromium, opened as a file."""

import json
import re
import subprocess
from html import unescape
from pathlib import Path

from example import EVIL, write_example

from openrayzer.evaluation.report import write_report


def visit(chromium: str, page: Path, address: str = "") -> tuple[str, list[str]]:
    """The document after its scripts have run, and their lines on the console."""
    done = subprocess.run(
        [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
            f"--user-data-dir={page.parent / 'profile'}", "--window-size=1280,2000", "--virtual-time-budget=2000",
            "--dump-dom", page.as_uri() + address,
        ],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_a_deep_link_sorts_the_table_and_opens_a_scene(tmp_path, chromium):
    values = write_example(tmp_path)
    document, console = visit(chromium, write_report(tmp_path), "#sort=psnr&dir=desc&scene=1")
    assert console == []
    scenes = values["per_scene"]
    names = sorted(scenes, key=lambda name: -scenes[name]["metrics"]["joint"]["psnr"])
    places = [int(place) for place in re.findall(r'<tr data-place="(\d+)"', document)]
    assert places == [scenes[name]["number"] for name in names]
    assert re.search(r'data-key="psnr"[^>]*aria-sort="descending"', document)
    assert re.search(r'<tr data-place="1"[^>]*aria-current="true"', document)
    panel = document[document.index('<article id="scene"') : document.index("</article>")]
    shown = EVIL.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert f"<h3>{shown}</h3>" in panel
    for label in ("Context 8", "Target", "Joint", "Joint: error", "Context only"):
        assert f"<b>{label}</b>" in panel
    assert panel.count("<img") == 3 + 3 * 6
    assert "which is also a context view" in panel
    assert "Mean distance from the true centres: Joint" in panel
    assert re.search(r'<canvas[^>]*width="\d+"', panel)


def test_a_missing_number_is_last_whichever_way_the_table_is_sorted(tmp_path, chromium):
    write_example(tmp_path, cameras=False)
    page = write_report(tmp_path)
    document, console = visit(chromium, page, "#sort=context_only.psnr&dir=asc&scene=3")
    assert console == []
    assert re.findall(r'<tr data-place="(\d+)"', document)[-1] == "2"
    assert "This scene has no pictures." in document
    assert "Each placement has its own frame" in document


def test_an_error_in_a_script_would_be_seen(tmp_path, chromium):
    write_example(tmp_path, scenes=1, pictures=False)
    page = write_report(tmp_path)
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("</body>", "<script>throw new Error('planted')</script></body>"), encoding="utf-8")
    _, console = visit(chromium, page)
    assert any("planted" in line for line in console)


CLICKS = """
const find = (words) => document.querySelector(words), seen = [];
find('th[data-key="ssim"] button').click(); seen.push(location.hash);
find('th[data-key="ssim"] button').click(); seen.push(location.hash);
find('tr[data-place="4"] button').click(); seen.push(location.hash, find('#scene h3').textContent);
find('tr[data-place="0"] button').click();
find('#scene .strip img').click(); seen.push(find('#large').open, find('#large img').alt);
find('#large').dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'})); seen.push(find('#large img').alt);
const canvas = find('canvas'), before = canvas.toDataURL();
canvas.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft'})); seen.push(canvas.toDataURL() !== before);
find('#find').value = 'SCENE_'; find('#find').dispatchEvent(new Event('input')); seen.push(find('#count').textContent);
document.body.dataset.seen = JSON.stringify(seen);
"""


def test_clicks_and_keys_sort_open_enlarge_turn_and_find(tmp_path, chromium):
    write_example(tmp_path)
    page = write_report(tmp_path)
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("</body>", f"<script>{CLICKS}</script></body>"), encoding="utf-8")
    document, console = visit(chromium, page)
    assert console == []
    seen = re.search(r'data-seen="([^"]*)"', document)
    assert json.loads(unescape(seen[1])) == [
        "#sort=ssim&dir=desc", "#sort=ssim&dir=asc",
        "#sort=ssim&dir=asc&scene=4", "scene_004",
        True, "Context 0, frame 0 of scene_000", "Context 8, frame 8 of scene_000",
        True,
        "5 of 6 scenes",
    ]  # fmt: skip
