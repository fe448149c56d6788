"""Real clips: every command runs on every available type of dataset, and each one trains for 50 steps."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from openrayzer.data.sources.chunks import Chunks

ROOT = Path(__file__).parents[3]
SCENE = "castle_p30"
FRAMES = 16


@pytest.fixture
def sources(shared_data):
    """Options that name each available dataset."""
    return {
        "posed": {"type": "chunks", "root": str(shared_data / "re10k_style"), "split": "test"},
        "distorted": {"type": "dl3dv", "root": str(shared_data / "dl3dv_style")},
        "unposed": {"type": "images", "root": str(shared_data / "unposed")},
        "video": {"type": "video", "root": str(shared_data / "unposed" / "ramen_1fps.mp4")},
    }


def run(prepare, command: str, source: dict, *arguments) -> str:
    if source["type"] == "video":
        pytest.importorskip("av")
    done = prepare(command, "--source", json.dumps(source), *arguments, "--processes", 1)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["posed", "distorted", "unposed", "video"])
def test_conversion_keeps_what_there_is(prepare, sources, tmp_path, kind):
    run(prepare, "convert", sources[kind], "--output", tmp_path, "--short_side", 64)
    split = sources[kind].get("split", "train")
    posed = kind in ("posed", "distorted")
    made = Chunks(root=tmp_path, split=split, posed=posed)
    made.open()
    manifest = json.loads((tmp_path / split / "manifest.json").read_text())
    assert manifest["num_missing_frames"] == 0
    assert manifest["num_scenes"] == len(made) == {"posed": 5, "distorted": 2, "unposed": 6, "video": 1}[kind]
    frames = made.read(0, [0, 3])
    assert [min(image.shape[:2]) for image in frames.images] == [64, 64]
    assert (frames.c2w is not None) == posed
    (stored, *_) = torch.load(tmp_path / split / "000000.torch", weights_only=True)
    if kind == "video":  # 1 frame a second
        assert np.diff(stored["timestamps"].numpy()) == pytest.approx(1e6, rel=0.05)


@pytest.mark.parametrize("kind", ["posed", "unposed", "video"])
def test_statistics_have_their_pictures(prepare, sources, tmp_path, kind):
    pytest.importorskip("matplotlib")
    run(prepare, "stats", sources[kind], "--output", tmp_path, "--sample", 3)
    for name in ("contact_sheet.png", "histograms.png"):
        picture = cv2.imread(str(tmp_path / name))
        assert picture.std() > 20
    assert json.loads((tmp_path / "statistics.json").read_text())["scenes"]


@pytest.mark.parametrize("kind", ["posed", "unposed", "video"])
def test_pairs_are_at_the_distance_asked_for(prepare, sources, tmp_path, kind):
    said = run(prepare, "pairs", sources[kind], "--output", tmp_path / "index.json", "--gap", 4, 10)
    index = json.loads((tmp_path / "index.json").read_text())
    chosen = [choice for choice in index.values() if choice is not None]
    assert chosen
    assert f"{len(chosen)} scenes" in said
    for choice in chosen:
        first, last = choice["context"]
        assert 4 <= last - first <= 10
        assert all(first <= frame <= last for frame in choice["target"])


def test_published_call_writes_an_index(prepare, shared_data, tmp_path):
    done = prepare(
        "process", "--base_path", shared_data / "re10k_style", "--output_dir", tmp_path, "--mode", "train",
        "--num_processes", 1,
    )  # fmt: skip
    assert done.returncode == 0
    dataset = Chunks(root=shared_data / "re10k_style", frame_index=tmp_path / "train" / "frame_index.bin")
    dataset.open()
    assert len(dataset) == 8
    assert dataset.read(dataset._keys.index("tea_box"), [59]).images[0].shape == (256, 455, 3)


@pytest.fixture
def scene(shared_data):
    """Name, encoded images and cameras of a real scene."""
    dataset = Chunks(root=shared_data / "re10k_style")
    dataset.open()
    number = dataset._keys.index(SCENE)
    frames = dataset.read(number, range(FRAMES))
    images = [cv2.imencode(".jpg", image[..., ::-1])[1].tobytes() for image in frames.images]
    height, width = frames.images[0].shape[:2]
    pixels = frames.intrinsics.astype(np.float64) * [width, height, width, height]
    return images, np.linalg.inv(frames.c2w.astype(np.float64)), pixels, (height, width)


def write_processed(root: Path, scene) -> dict:
    images, w2c, pixels, _ = scene
    (root / "metadata").mkdir(parents=True)
    (root / "images" / SCENE).mkdir(parents=True)
    frames = []
    for number, (image, pose, camera) in enumerate(zip(images, w2c, pixels, strict=True)):
        file = root / "images" / SCENE / f"{number:05}.jpg"
        file.write_bytes(image)
        frames.append({"image_path": str(file), "fxfycxcy": camera.tolist(), "w2c": pose.tolist()})
    (root / "metadata" / f"{SCENE}.json").write_text(json.dumps({"scene_name": SCENE, "frames": frames}))
    (root / "full_list.txt").write_text(f"{root}/metadata/{SCENE}.json\n")
    return {"type": "processed", "root": str(root)}


def write_opencv(root: Path, scene) -> dict:
    images, w2c, pixels, (height, width) = scene
    (root / SCENE / "images").mkdir(parents=True)
    frames = []
    for number, (image, pose, camera) in enumerate(zip(images, w2c, pixels, strict=True)):
        (root / SCENE / "images" / f"{number:05}.jpg").write_bytes(image)
        frames.append(
            dict(zip(("fx", "fy", "cx", "cy"), camera.tolist(), strict=True))
            | {"file_path": f"images/{number:05}.jpg", "w2c": pose.tolist(), "h": height, "w": width}
        )
    (root / SCENE / "opencv_cameras.json").write_text(json.dumps({"scene_name": SCENE, "frames": frames}))
    return {"type": "opencv_cameras", "root": str(root)}


def write_colmap(root: Path, scene) -> dict:
    images, w2c, pixels, (height, width) = scene
    (root / SCENE / "images").mkdir(parents=True)
    (root / SCENE / "sparse" / "0").mkdir(parents=True)
    cameras, poses = [], []
    for number, (image, pose, camera) in enumerate(zip(images, w2c, pixels, strict=True), 1):
        (root / SCENE / "images" / f"{number:05}.jpg").write_bytes(image)
        cameras.append(f"{number} PINHOLE {width} {height} {' '.join(map(str, camera.tolist()))}")
        turn = Rotation.from_matrix(pose[:3, :3]).as_quat(scalar_first=True)
        numbers = " ".join(map(str, [*turn, *pose[:3, 3]]))
        poses += [f"{number} {numbers} {number} {number:05}.jpg", ""]
    (root / SCENE / "sparse" / "0" / "cameras.txt").write_text("\n".join(cameras) + "\n")
    (root / SCENE / "sparse" / "0" / "images.txt").write_text("\n".join(poses) + "\n")
    return {"type": "colmap", "root": str(root)}


@pytest.mark.parametrize("write", [write_processed, write_opencv, write_colmap])
def test_other_forms_of_a_real_scene_say_the_same(prepare, scene, tmp_path, write):
    run(prepare, "convert", write(tmp_path / "source", scene), "--output", tmp_path / "out")
    made = Chunks(root=tmp_path / "out")
    made.open()
    frames = made.read(0, range(FRAMES))
    height, width = scene[3]
    np.testing.assert_allclose(np.linalg.inv(frames.c2w), scene[1], atol=2e-4)
    np.testing.assert_allclose(frames.intrinsics * [width, height, width, height], scene[2], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["posed", "distorted", "unposed", "video", write_processed, write_opencv, write_colmap]
)
def test_fifty_steps_are_trained_from_every_kind_of_source(sources, scene, tmp_path, kind):
    source = sources[kind] if isinstance(kind, str) else kind(tmp_path / "source", scene)
    changes = (
        f"data.train={json.dumps([{'dataset': source}])}", "data.test=[]", "data.image_size=[32, 32]",
        "train.batch_size=2", "train.steps=50", "train.log_every=1", "train.sample_every=0", "train.evaluate_every=0",
        "train.checkpoint_every=0", "data.view_sampler.min_frame_distance=5", "data.view_sampler.max_frame_distance=9",
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "tools/train.py", "--exp", "experiments/rayzer_latent_demo.json",
         "--output", str(tmp_path / "run"),
         "--set", *changes],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records if record["split"] == "train"]
    assert len(losses) == 50
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:5])
