"""The studio makes scenes, views, videos and files, keeps visitors apart, and speaks plainly."""

import json
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tool_runs import make_run

from openrayzer.video.mp4 import Mp4Writer
from openrayzer.web import studio as studio_module
from openrayzer.web.answers import Picture, Refused, Step
from openrayzer.web.examples import FRAMES, example_photos
from openrayzer.web.kept_scene import _turned
from openrayzer.web.loaded_models import ModelShelf
from openrayzer.web.studio import Studio, plain_words

LVSM = json.dumps({
    "type": "lvsm_encoder_decoder", "position_encoding": {"type": "none"}, "fusion": {"type": "pixel"},
    "renderer": {"type": "joint", "depth": 1}, "encoder_depth": 1, "num_latents": 4,
})  # fmt: skip


def last(steps: Iterable[Step]) -> dict[str, Any]:
    """The result of a job."""
    result = [*steps][-1].result
    assert result is not None
    return result


def made(studio: Studio, files: list[Path], model: str = "wall", session: str = "visitor") -> dict[str, Any]:
    """Make a scene and return what the page gets."""
    return last(studio.reconstruct(session, model, files=[str(file) for file in files], num_views=None))


def pixels(picture: Picture) -> np.ndarray:
    """A picture as RGB."""
    image = cv2.imdecode(np.frombuffer(picture.content, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    return image


def test_the_result_is_plain_json_with_cameras_and_paths(studio: Studio, photos: list[Path]):
    result = json.loads(json.dumps(made(studio, photos)))
    assert len(result["names"]) == 3
    assert (result["names"][0], result["names"][-1]) == ("a_1.jpg", "d.jpeg")
    assert [row[3] for row in result["cameras"]] == pytest.approx([0.0, 0.1, 0.2])
    assert result["maps"] == ["colour", "depth"]
    through = result["paths"]["interpolate"]
    step = (len(through) - 1) // 2
    assert [through[step * photo][3] for photo in range(3)] == pytest.approx([0.0, 0.1, 0.2])
    assert {point[2] for point in result["points"]} == {2.0}
    assert result["notes"] == ["3 of 4 images are used; choose more views to use more"]


def test_the_shares_of_a_job_rise_to_one(studio: Studio, photos: list[Path]):
    steps = [*studio.reconstruct("visitor", "wall", files=[str(file) for file in photos], num_views=2)]
    shares = [step.share for step in steps]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert all(step.result is None for step in steps[:-1])


def test_a_view_shows_the_camera_of_its_step(studio: Studio, photos: list[Path]):
    token = made(studio, photos)["token"]
    first, final = studio.view(token, "interpolate", 0), studio.view(token, "interpolate", 10_000)
    assert pixels(first)[0, 0, 0] == 0
    assert pixels(final)[0, 0, 0] == round(0.2 * 255)
    assert final.c2w[3] == pytest.approx(0.2)
    assert pixels(studio.view(token, "interpolate", 0, shown="depth")).std(axis=(0, 1)).max() == 0
    assert pixels(studio.photo(token, 1)).shape == (16, 24, 3)


def test_a_turned_camera_keeps_its_point_and_goes_the_right_way():
    c2w = torch.eye(4, dtype=torch.float64)
    for turn, lift, moved in ((10.0, 0.0, 0), (0.0, 10.0, 1)):
        pose = _turned(c2w, 2.0, turn=turn, lift=lift)
        torch.testing.assert_close(pose[:3, 3] + 2 * pose[:3, 2], torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64))
        assert (pose[0, 3] > 0.1) if moved == 0 else (pose[1, 3] < -0.1)  # to the right; up is -y


def test_files_parse(studio: Studio, photos: list[Path]):
    result = made(studio, photos)
    assert all(not file["why"] for file in result["files"])
    cameras = json.loads(Path(studio.file(result["token"], "cameras.json")).read_text())
    assert [camera["image"] for camera in cameras["cameras"]] == result["names"]
    with zipfile.ZipFile(studio.file(result["token"], "colmap.zip")) as archive:
        assert "colmap/sparse/0/cameras.txt" in archive.namelist()
        assert len(archive.read("colmap/sparse/0/points3D.txt").splitlines()) == 1 + 3 * 16 * 24
    with zipfile.ZipFile(studio.file(result["token"], "nerfstudio.zip")) as archive:
        assert len(json.loads(archive.read("transforms.json"))["frames"]) == 3
    header = Path(studio.file(result["token"], "scene.ply")).read_bytes()[:200]
    assert f"element vertex {3 * 16 * 24}".encode() in header


def test_a_video_of_a_path_is_written_once(studio: Studio, photos: list[Path]):
    result = made(studio, photos)
    with pytest.raises(Refused, match="Make the video first"):
        studio.file(result["token"], "wobble_depth.mp4")
    name = last(studio.film(result["token"], "wobble", "depth"))["file"]
    video = cv2.VideoCapture(studio.file(result["token"], name))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 120
    assert len([*studio.film(result["token"], "wobble", "depth")]) == 1


def test_a_model_without_depth_says_so(studio: Studio, photos: list[Path]):
    result = made(studio, photos, "flat")
    assert result["maps"] == ["colour"]
    assert result["points"] == []
    reasons = {file["file"]: file["why"] for file in result["files"]}
    assert reasons["scene.ply"] == "this model has neither depth nor Gaussians"
    with pytest.raises(Refused, match="neither depth nor Gaussians"):
        studio.file(result["token"], "scene.ply")
    with pytest.raises(Refused, match="no map 'depth'"):
        studio.view(result["token"], "interpolate", 0, shown="depth")


def test_a_video_gives_views_and_a_single_frame_is_refused(studio: Studio, tmp_path: Path):
    for frames, name in ((8, "clip.mp4"), (1, "still.mp4")):
        with Mp4Writer(tmp_path / name, fps=10.0) as video:
            for frame in range(frames):
                video.add(np.full((32, 48, 3), 30 * frame, np.uint8))
    assert len(made(studio, [tmp_path / "clip.mp4"])["cameras"]) == 3
    with pytest.raises(Refused, match="The video has a single frame; a scene needs at least 2 views"):
        made(studio, [tmp_path / "still.mp4"])
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(Refused) as refused:
        made(studio, [tmp_path / "text.mp4"])
    assert str(tmp_path) not in str(refused.value)


def test_a_photo_of_40_megapixels_is_used(studio: Studio, photos: list[Path], tmp_path: Path):
    assert cv2.imwrite(str(tmp_path / "large.jpg"), np.full((5500, 7300, 3), 90, np.uint8))
    result = made(studio, [photos[0], tmp_path / "large.jpg"])
    assert result["names"] == ["a_1.jpg", "large.jpg"]
    large = pixels(studio.photo(result["token"], 1))
    assert large.shape == (16, 24, 3)
    assert abs(int(large.mean()) - 90) <= 1


def test_an_upload_is_deleted_after_the_job_and_a_scene_with_its_visitor(studio: Studio, photos: list[Path]):
    first = made(studio, photos, session="anna")
    other = made(studio, photos, session="bert")
    again = made(studio, photos, session="anna")
    assert {folder.name for folder in (studio.folder / "scenes").iterdir()} == {other["token"], again["token"]}
    assert not [*studio.folder.rglob("upload")]
    with pytest.raises(Refused, match="no longer there"):
        studio.view(first["token"], "interpolate", 0)
    studio.forget("anna")
    studio.view(other["token"], "interpolate", 0)
    assert {folder.name for folder in (studio.folder / "scenes").iterdir()} == {other["token"]}


def test_the_number_of_scenes_is_bounded(studio: Studio, photos: list[Path], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(studio_module, "MOST_SCENES", 2)
    tokens = [made(studio, photos, session=name)["token"] for name in "abc"]
    assert [*studio.scenes] == tokens[1:]
    assert len(os.listdir(studio.folder / "scenes")) == 2


def test_a_job_that_is_closed_leaves_no_files_and_frees_its_place(studio: Studio, photos: list[Path]):
    job = studio.reconstruct("visitor", "wall", files=[str(file) for file in photos], num_views=None)
    while "Finding" not in next(job).text:
        pass
    job.close()
    assert os.listdir(studio.folder / "scenes") == []
    made(studio, photos)


def test_a_visitor_who_leaves_in_mid_run_leaves_no_scene(studio: Studio, photos: list[Path]):
    job = studio.reconstruct("visitor", "wall", files=[str(file) for file in photos], num_views=None)
    while "Finding" not in next(job).text:
        pass
    studio.forget("visitor")
    with pytest.raises(Refused, match="The page was closed"):
        list(job)
    assert studio.scenes == {}
    assert os.listdir(studio.folder / "scenes") == []
    made(studio, photos)


def test_wrong_names_are_refused(studio: Studio, photos: list[Path]):
    token = made(studio, photos)["token"]
    for name in ("../cameras.json", "experiment.json", "interpolate_secret.mp4"):
        with pytest.raises(Refused, match="There is no such file"):
            studio.file(token, name)
    with pytest.raises(Refused, match="no such camera path"):
        studio.view(token, "/etc/passwd", 0)
    with pytest.raises(Refused, match="no such example"):
        last(studio.reconstruct("visitor", "wall", example="../..", num_views=None))


def test_visitors_cannot_open_folders_of_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_run(tmp_path / "secret")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner/name").mkdir(parents=True)
    for hub in (False, True):
        shelf = ModelShelf({}, device="cpu", hub=hub)
        for name in ("secret", str(tmp_path / "secret"), "owner/name", "../secret"):
            with pytest.raises(Refused, match="There is no model"):
                shelf.load(name)


def test_a_model_that_the_hub_does_not_provide_is_refused_without_commands(monkeypatch: pytest.MonkeyPatch):
    def offline(name: str, **more: object) -> str:
        raise OSError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(Refused) as refused:
        ModelShelf({}, device="cpu", hub=True).load("somebody/rayzer")
    assert str(refused.value) == (
        "somebody/rayzer cannot be loaded from the Hugging Face hub: the hub could not be reached, or the download "
        "failed; try again later. Or choose a model of the list."
    )


def test_a_posed_model_is_refused_with_the_reason(tmp_path: Path):
    run = make_run(tmp_path / "lvsm", f"model={LVSM}")
    loaded = ModelShelf({"lvsm": str(run)}, device="cpu", hub=False).load("lvsm")
    assert loaded.facts()["refusal"].startswith("This model (lvsm_encoder_decoder) needs the true camera poses")


def test_messages_have_no_paths_and_bugs_no_details():
    with pytest.raises(Refused, match=r"^a.jpg: it is damaged$"), plain_words():
        raise Refused("/tmp/openrayzer_web_x1/scenes/abc/upload/a.jpg: it is damaged")
    with pytest.raises(Refused, match=r"^Something went wrong in the program, not in your photos"), plain_words():
        raise KeyError("/home/somebody/secret")


def test_an_example_has_photos(tmp_path: Path):
    folder = example_photos("Study", tmp_path)
    assert len([*folder.glob("*.png")]) == FRAMES
    assert os.listdir(tmp_path) == ["Study"]
