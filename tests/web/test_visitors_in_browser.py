"""Several visitors of the page at once, a tab that closes in mid-run, two clicks, and inputs that do not work.

See ``test_page_in_browser.py`` for what the tests need.
"""

import time
from pathlib import Path
from typing import Any

import pytest
from page_tabs import choose_model, opened, picture, run_example, upload, write_photo
from test_uploads import write_bomb

pytestmark = pytest.mark.slow


def photo_names(tab: Any) -> list[str]:
    """The names below the photos of a tab's scene."""
    tab.wait_for_selector(".orz-photo >> nth=1")
    return [name.strip() for name in tab.locator(".orz-photo span").all_text_contents()]


def scene_of(tab: Any) -> str:
    """The token of a tab's scene."""
    link = tab.get_attribute("#orz-files a", "href")
    return str(link).split("scene/")[1].split("/")[0]


def scenes(served: Any) -> set[str]:
    """The tokens of all scenes on the server."""
    return {folder.name for folder in served.folder.glob("openrayzer_web_*/scenes/*")}


def test_two_visitors_take_turns_and_see_their_own_scenes(browser: Any, served: Any, tmp_path: Path):
    first, second = opened(browser, served.address), opened(browser, served.address)
    choose_model(second, "flat")
    upload(second, write_photo(tmp_path / "one.jpg"), write_photo(tmp_path / "two.png", 200))
    first.get_by_label("Example").check()
    first.wait_for_selector("#orz-example")
    first.click("#orz-run")
    second.click("#orz-run")
    second.locator("#orz-status").get_by_text("queue: 1/1").wait_for(state="visible")
    picture(second, "waiting")
    assert photo_names(first) == ["frame_00.png", "frame_04.png", "frame_09.png"]
    assert photo_names(second) == ["one.jpg", "two.png"]
    assert {scene_of(first), scene_of(second)} <= scenes(served)
    assert scene_of(first) != scene_of(second)
    first.focus("#orz-slider")
    first.keyboard.press("ArrowRight")
    first.wait_for_function("document.querySelector('#orz-image').dataset.step === '1'")
    for tab in (first, second):
        assert tab.faults == []
        tab.close()


def test_a_tab_that_closes_in_mid_run_leaves_its_place_and_no_files(browser: Any, served: Any):
    before = scenes(served)
    leaving, staying = opened(browser, served.address), opened(browser, served.address)
    leaving.get_by_label("Example").check()
    leaving.wait_for_selector("#orz-example")
    leaving.click("#orz-run")
    leaving.get_by_text("Finding the cameras").wait_for()
    leaving.close()
    run_example(staying)
    for _ in range(100):
        if scenes(served) - before == {scene_of(staying)}:
            break
        time.sleep(0.2)
    assert scenes(served) - before == {scene_of(staying)}
    staying.close()


def test_a_model_that_the_hub_does_not_provide_is_named_with_a_remedy(browser: Any, served: Any, tmp_path: Path):
    tab = opened(browser, served.address)
    tab.fill("#orz-model input", "somebody/no-such-model")
    tab.press("#orz-model input", "Enter")
    refusal = "somebody/no-such-model cannot be loaded from the Hugging Face hub"
    tab.locator("#orz-facts").get_by_text(refusal).wait_for()
    upload(tab, write_photo(tmp_path / "one.jpg"), write_photo(tmp_path / "two.png", 200))
    tab.click("#orz-run")
    tab.locator("#orz-status").get_by_text(refusal).wait_for()
    picture(tab, "no_such_model")
    assert tab.faults == []
    tab.close()


def test_a_photo_that_claims_an_enormous_size_is_named_and_the_others_are_used(
    browser: Any, served: Any, tmp_path: Path
):
    tab = opened(browser, served.address)
    choose_model(tab, "flat")
    photos = write_photo(tmp_path / "one.jpg"), write_photo(tmp_path / "two.png", 200)
    upload(tab, *photos, write_bomb(tmp_path / "bomb.png"))
    tab.click("#orz-run")
    tab.get_by_text("bomb.png: it has 60000 x 60000 pixels").wait_for()
    assert photo_names(tab) == ["one.jpg", "two.png"]
    tab.close()


def test_two_clicks_leave_one_scene(browser: Any, served: Any, tmp_path: Path):
    before = scenes(served)
    tab = opened(browser, served.address)
    choose_model(tab, "flat")
    upload(tab, write_photo(tmp_path / "one.jpg"), write_photo(tmp_path / "two.png", 200))
    tab.dblclick("#orz-run")
    assert photo_names(tab) == ["one.jpg", "two.png"]
    tab.wait_for_timeout(4000)  # gradio may start a second job, whose scene replaces the first one
    tab.locator("#orz-status").get_by_text("Done in").wait_for()
    assert scenes(served) - before == {scene_of(tab)}
    assert tab.faults == []
    tab.close()
