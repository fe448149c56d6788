"""The page as text: its content, escaped data, and no need for other files."""

import base64
import json
import re
from configparser import ConfigParser
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest
from example import EVIL, write_example

from openrayzer.evaluation.report import write_report
from openrayzer.interfaces import InputError

ROOT = Path(__file__).parents[3]


class Page(HTMLParser):
    """Elements with their attributes, and the text outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.scripts, self._inside = "", [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = tag
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._inside = "" if tag == self._inside else self._inside

    def handle_data(self, data):
        if self._inside:
            self.scripts[-1] += data
        else:
            self.text += data

    def attribute(self, name):
        return [attributes[name] for _, attributes in self.elements if attributes.get(name)]

    @property
    def data(self):
        """The data of the scripts."""
        return json.loads(next(text for text in self.scripts if text.startswith('{"scenes"')))


def report(folder: Path, **options) -> Page:
    return Page(write_report(folder, **options).read_text(encoding="utf-8"))


@pytest.fixture
def folder(tmp_path):
    write_example(tmp_path / "evaluation")
    return tmp_path / "evaluation"


def change(folder: Path, edit) -> None:
    values = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    edit(values)
    (folder / "metrics.json").write_text(json.dumps(values), encoding="utf-8")


def test_texts_from_data_are_escaped(folder):
    page = report(folder)
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == 3  # data, cameras, page
    assert "b" in tags
    assert "i" not in tags  # <i>gone</i> is the name of a skipped scene
    assert EVIL in page.text
    assert "runs/rayzer_<b>bold</b>" in page.text
    assert page.data["scenes"][1]["name"] == EVIL
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]


def test_the_page_loads_nothing_from_outside(folder):
    page = report(folder)
    for name in ("src", "href"):
        assert all(value.startswith(("data:", "#")) for value in page.attribute(name))
    scripts = "".join(page.scripts)
    assert not re.search(r"https?://|@import|fetch\(|import\(|XMLHttpRequest", scripts)
    assert "url(" not in scripts


def test_pictures_are_embedded_unchanged(folder):
    scene = report(folder).data["scenes"][0]
    kind, _, content = scene["pictures"]["joint"]["8"].partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content) == (folder / "pictures/0/joint_8.png").read_bytes()


def test_metrics_of_single_views_are_in_the_page_for_views_with_pictures(folder):
    before = report(folder).data["scenes"][0]["views"]
    with_pictures = {frame for frames in report(folder).data["scenes"][0]["pictures"].values() for frame in frames}
    assert before.keys() == set(map(str, report(folder).data["scenes"][0]["target"]))
    assert before.keys() <= with_pictures
    frame = min(before)
    change(
        folder,
        lambda values: [group.pop(frame, None) for group in values["per_scene"]["scene_000"]["pictures"].values()],
    )
    assert report(folder).data["scenes"][0]["views"].keys() == before.keys() - {frame}
    change(folder, lambda values: values["per_scene"]["scene_000"].pop("pictures"))
    assert report(folder).data["scenes"][0]["views"] == {}


def test_means_intervals_and_counts_are_in_the_text(folder):
    values = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    text = " ".join(report(folder).text.split())
    for method in ("joint", "context_only", "nearest_context"):
        entry = values["summary"][method]["psnr"]
        assert f"{entry['mean']:.2f}{entry['low']:.2f} to {entry['high']:.2f}" in text
    assert "6 of 9 scenes" in text
    assert "3 scenes were skipped:" in text
    assert "has 2 frames, 5 are needed 2 scenesshort_1, short_2" in text
    assert "Joint minus Context only" in text
    assert "+1.10+0.90 to +1.30" in text
    assert "Target pixels used for all poses." in text
    assert "Target pixels used for their own pose only." in text
    assert "ab" * 32 in text
    assert "Straight line" in text
    assert "3 of 6 scenes" in text
    assert "The views <b>go</b> in another order." in text
    assert "\N{MINUS SIGN}0.090" in text


def test_a_missing_number_is_a_dash_with_a_reason(folder):
    page = report(folder)
    assert "\N{EN DASH} in LPIPS (AlexNet): no file weights/alexnet.pth; get it from torchvision" in page.text
    assert "no file weights/alexnet.pth; get it from torchvision" in page.attribute("title")
    assert "1 not finite, left out" in page.text
    assert page.data["scenes"][2]["metrics"]["context_only"]["psnr"] is None


def test_nan_in_the_file_is_a_dash(folder):
    text = (folder / "metrics.json").read_text(encoding="utf-8")
    mean = json.loads(text)["summary"]["joint"]["psnr"]["mean"]
    (folder / "metrics.json").write_text(text.replace(f'"mean": {mean}', '"mean": NaN', 1), encoding="utf-8")
    page = report(folder)
    assert "nan" not in page.text.lower()
    assert "\N{EN DASH} in" in page.text


def test_pictures_that_do_not_fit_are_counted_and_linked(folder):
    sizes = [(folder / f"pictures/0/context_{frame}.png").stat().st_size for frame in (0, 8)]
    page = report(folder, picture_bytes=sum(sizes))
    pictures = page.data["scenes"][0]["pictures"]["context"]
    assert [source[:5] for source in pictures.values()] == ["data:", "data:", "pictu"]
    assert "This page contains 2 pictures." in " ".join(page.text.split())
    assert re.search(r"\d+ more \(\d+\.\d MB\) are in pictures/:", page.text)


@pytest.mark.parametrize("path", ["../secret.png", "/etc/hostname.png", "metrics.json", "pictures/none.png"])
def test_only_pictures_inside_the_folder_are_read(folder, path):
    (folder.parent / "secret.png").write_bytes(b"secret")
    change(folder, lambda values: values["per_scene"]["scene_000"]["pictures"]["joint"].update({"8": path}))
    page = report(folder)
    assert page.data["scenes"][0]["pictures"]["joint"]["8"] is None
    assert "1 could not be read." in page.text


def test_sections_that_were_not_measured_are_left_out(folder):
    change(folder, lambda values: values.update(transfer=None, sanity=None, views_sweep=None, poses={}, differences={}))
    ids = report(folder).attribute("id")
    assert {"summary", "spread", "scenes", "settings"} <= set(ids)
    assert not {"transfer", "sanity", "views", "poses"} & set(ids)


def test_an_evaluation_without_scenes_is_a_page(folder):
    def empty(values):
        values.update(per_scene={}, summary={}, differences={}, poses={}, views_sweep=None)
        values["scenes"].update(evaluated=0)

    change(folder, empty)
    page = report(folder)
    assert "0 of 9 scenes" in " ".join(page.text.split())
    assert page.data["scenes"] == []


def test_cameras_keep_their_meaning_in_few_digits(folder):
    values = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["per_scene"]["scene_000"]["cameras"]
    groups = report(folder).data["scenes"][0]["cameras"]["groups"]
    assert list(groups) == ["true", "joint", "context_only"]
    for name, group in groups.items():
        for written, given in zip(group["c2w"], values[name]["c2w"], strict=True):
            for row, full in zip(written, given[:3], strict=True):
                assert row == pytest.approx(full, rel=1e-4)
        assert group["aligned"] == (name != "true")


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "metrics.json").unlink(), "metrics.json: cannot be read"),
        (lambda folder: (folder / "metrics.json").write_text("[1]"), "holds no JSON object"),
        (lambda folder: change(folder, lambda values: values.update(format=2)), "format 2 is not known"),
        (lambda folder: change(folder, lambda values: values.pop("summary")), "no object summary"),
        (lambda folder: (folder / "per_view.csv").unlink(), "per_view.csv: cannot be read"),
        (lambda folder: (folder / "per_view.csv").write_text("a,b\n"), "no column scene, frame"),
        (
            lambda folder: (folder / "per_view.csv").write_text(
                "scene,frame,equals_context,method,psnr\na,x,0,joint,1\n"
            ),
            "line 2 cannot be read",
        ),
    ],
)
def test_the_message_names_a_broken_file(folder, break_it, message):
    break_it(folder)
    with pytest.raises(InputError, match=re.escape(message)):
        write_report(folder)


def test_an_installed_package_has_the_templates():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    pattern = setup["options.package_data"]["openrayzer.evaluation.report"].strip()
    package = ROOT / "openrayzer/evaluation/report"
    others = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert others == set(package.glob(pattern)) != set()
    assert files("openrayzer.evaluation.report").joinpath("templates", "report.css").is_file()
