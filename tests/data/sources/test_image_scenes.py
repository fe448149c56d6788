"""Properties of all datasets of files: reads are pure in any process, and thousands of scenes cost little."""

import json
import pickle
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from openrayzer.data.loading.numbered_batches import load_batches
from openrayzer.interfaces import DATASETS, Dataset, Frames

SUFFIX = ".png"
FRAMES = 6


def write_pictures(folder: Path, scene: int) -> None:
    folder.mkdir(parents=True)
    for frame in range(FRAMES):
        picture = np.full((24, 32, 3), (scene, 0, frame), np.uint8)
        cv2.imwrite(str(folder / f"{frame}{SUFFIX}"), picture)


def images(root: Path, scene: int) -> None:
    write_pictures(root / f"s{scene}", scene)


def dl3dv(root: Path, scene: int) -> None:
    write_pictures(root / f"s{scene}" / "images_4", scene)
    frames = [
        {"file_path": f"images/{frame}{SUFFIX}", "transform_matrix": np.eye(4).tolist()} for frame in range(FRAMES)
    ]
    table = {"w": 128, "h": 96, "fl_x": 100, "fl_y": 100, "cx": 64, "cy": 48, "k1": 0.02, "frames": frames}
    (root / f"s{scene}" / "transforms.json").write_text(json.dumps(table))


def opencv_cameras(root: Path, scene: int) -> None:
    write_pictures(root / f"s{scene}" / "images", scene)
    camera = {"w2c": np.eye(4).tolist(), "w": 32, "h": 24, "fx": 25, "fy": 25, "cx": 16, "cy": 12}
    frames = [{"file_path": f"images/{frame}{SUFFIX}"} | camera for frame in range(FRAMES)]
    (root / f"s{scene}" / "opencv_cameras.json").write_text(json.dumps({"frames": frames}))


def processed(root: Path, scene: int) -> None:
    write_pictures(root / "images" / f"s{scene}", scene)
    (root / "metadata").mkdir(exist_ok=True)
    camera = {"w2c": np.eye(4).tolist(), "fxfycxcy": [25, 25, 16, 12]}
    frames = [{"image_path": f"/gone/images/s{scene}/{frame}{SUFFIX}"} | camera for frame in range(FRAMES)]
    (root / "metadata" / f"s{scene}.json").write_text(json.dumps({"frames": frames}))
    with open(root / "full_list.txt", "a", encoding="utf-8") as file:
        file.write(f"/gone/metadata/s{scene}.json\n")


def colmap(root: Path, scene: int) -> None:
    write_pictures(root / f"s{scene}" / "images", scene)
    model = root / f"s{scene}" / "sparse" / "0"
    model.mkdir(parents=True)
    (model / "cameras.txt").write_text("1 SIMPLE_RADIAL 32 24 25 16 12 0.01\n")
    lines = [f"{frame + 1} 1 0 0 0 0 0 0 1 {frame}{SUFFIX}\n\n" for frame in range(FRAMES)]
    (model / "images.txt").write_text("".join(lines))


KINDS = [images, dl3dv, opencv_cameras, processed, colmap]
every_kind = pytest.mark.parametrize("write", KINDS, ids=lambda write: write.__name__)


def opened(write: Callable[[Path, int], None], root: Path, **settings) -> Dataset:
    dataset = DATASETS[write.__name__](root=root, **settings)
    dataset.open()
    return dataset


def _read(dataset: Dataset, scene: int) -> Frames:
    return dataset.read(scene, [4, 1])


def all_equal(left: Frames, right: Frames) -> bool:
    arrays = zip([*left.images, left.c2w, left.intrinsics], [*right.images, right.c2w, right.intrinsics], strict=True)
    return all(np.array_equal(mine, other) for mine, other in arrays)


@every_kind
def test_reads_are_the_same_in_any_order_and_process(tmp_path, write):
    for scene in range(20):  # more scenes than the cache holds
        write(tmp_path, scene)
    dataset = opened(write, tmp_path)
    assert [dataset.key(scene) for scene in range(20)] == [f"s{scene}" for scene in range(20)]
    assert (dataset.problems, {dataset.num_frames(scene) for scene in range(20)}) == ((), {FRAMES})
    first = [dataset.read(scene, [4, 1]) for scene in range(20)]
    assert [(int(frames.images[0][0, 0, 2]), int(frames.images[1][0, 0, 0])) for frames in first] == [
        (scene, 1) for scene in range(20)
    ]
    for scene in np.random.default_rng(0).permutation(20).tolist():
        assert all_equal(dataset.read(scene, [4, 1]), first[scene])
    assert all_equal(opened(write, tmp_path, scan_limit=0).read(7, [4, 1]), first[7])
    assert all_equal(pickle.loads(pickle.dumps(dataset)).read(7, [4, 1]), first[7])
    load = partial(_read, dataset)
    for scene, frames in enumerate(load_batches(load, numbers=range(20), workers=2, prefetch=1)):
        assert all_equal(frames, first[scene])


@every_kind
def test_repeated_frames_come_repeatedly_and_none_is_none(tmp_path, write):
    write(tmp_path, 0)
    dataset = opened(write, tmp_path)
    frames = dataset.read(0, [2, 2, 0])
    assert [int(image[0, 0, 0]) for image in frames.images] == [2, 2, 0]
    if dataset.posed:
        assert frames.c2w.shape == (3, 4, 4)
        assert frames.intrinsics.shape == (3, 4)
    assert dataset.read(0, []).images == []


@every_kind
def test_a_thousand_scenes_are_opened_fast_and_hold_only_names(tmp_path, write, monkeypatch):
    write(tmp_path, 0)
    monkeypatch.setattr("openrayzer.data.sources.image_scenes.decode_image", None)
    monkeypatch.setattr(f"{__name__}.write_pictures", lambda folder, scene: _one_empty_picture(folder))
    for scene in range(1, 1000):
        write(tmp_path, scene)
    began = time.perf_counter()
    dataset = opened(write, tmp_path, scan_limit=100)
    assert time.perf_counter() - began < 10  # seconds; on an idle machine 0.2
    assert len(dataset) == 1000
    tracemalloc.start()
    dataset.open()
    for scene in range(0, 1000, 25):
        assert dataset.num_frames(scene) in (1, FRAMES)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 1_500_000  # bytes
    assert len(pickle.dumps(dataset)) < 200_000


def _one_empty_picture(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / f"0{SUFFIX}").touch()
