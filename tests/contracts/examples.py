"""Files for the built-in components that need some: tiny data sets, tables, and networks with random weights.

Each function in ``EXAMPLES`` writes into a folder and returns constructor arguments. A new component needs no entry:
its class may have a static method ``example(folder)`` instead.
"""

import json
import tarfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import capture_writers
import cv2
import numpy as np
import timm
import torch
from safetensors.torch import save_file
from scipy.io import savemat
from torch import Tensor

from openrayzer.components.objectives.repa import Alignment
from openrayzer.data.chunk_files.format import ChunkScene, cameras_to_rows, write_chunk
from openrayzer.interfaces import CAMERA_HEADS, TOKENIZERS

NUM_FRAMES = 14
SCENES = ("attic", "cellar")
SIZE = (24, 32)
VGG19 = [
    (0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128), (10, 128, 256), (12, 256, 256), (14, 256, 256),
    (16, 256, 256), (19, 256, 512), (21, 512, 512), (23, 512, 512), (25, 512, 512), (28, 512, 512),
    (30, 512, 512),
]  # fmt: skip
"""Layers of torchvision's VGG-19: index in ``features``, input and output channels. conv5_3 is not used."""
VGG16 = [(index, inputs, outputs, 3) for index, inputs, outputs in [
    (0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128), (10, 128, 256), (12, 256, 256), (14, 256, 256),
    (17, 256, 512), (19, 512, 512), (21, 512, 512), (24, 512, 512), (26, 512, 512), (28, 512, 512),
]]  # fmt: skip
"""Layers of torchvision's VGG-16: index in ``features``, input and output channels, side of the kernel."""
ALEXNET = [(0, 3, 64, 11), (3, 64, 192, 5), (6, 192, 384, 3), (8, 384, 256, 3), (10, 256, 256, 3)]
"""Layers of torchvision's AlexNet, as above."""


def poses() -> np.ndarray:
    """Camera to world (f, 4, 4): a walk along x with a slow turn about y."""
    c2w = np.tile(np.eye(4), (NUM_FRAMES, 1, 1))
    angle = 0.05 * np.arange(NUM_FRAMES)
    c2w[:, 0, 0] = c2w[:, 2, 2] = np.cos(angle)
    c2w[:, 0, 2], c2w[:, 2, 0] = np.sin(angle), -np.sin(angle)
    c2w[:, 0, 3] = 0.1 * np.arange(NUM_FRAMES)
    return c2w


def picture(scene: int, frame: int) -> np.ndarray:
    """An image (h, w, 3) in OpenCV's channel order, different in each frame."""
    image = np.zeros((*SIZE, 3), np.uint8)
    image[:, :, 0], image[:, :, 2] = 40 * scene, 15 * frame
    image[: SIZE[0] // 2] += 30
    return image


def _write_pictures(folder: Path, scene: int) -> list[str]:
    folder.mkdir(parents=True)
    files = [f"{frame:03d}.png" for frame in range(NUM_FRAMES)]
    for frame, file in enumerate(files):
        cv2.imwrite(str(folder / file), picture(scene, frame))
    return files


def _capture(form: str, root: Path) -> Mapping[str, Any]:
    """Scenes in the form of another data set or of an app, see ``capture_writers``."""
    if not (root / form).exists():
        for scene, name in enumerate(SCENES):
            pictures = np.stack([picture(scene, frame) for frame in range(NUM_FRAMES)])
            getattr(capture_writers, form)(root / form / name, poses(), pictures)
    return {"root": root / form}


def _webdataset(root: Path) -> None:
    _video(root)
    with tarfile.open(root / "000000.tar", "w") as archive:
        for name in SCENES:
            archive.add(root / f"{name}.avi", f"{name}.avi")


def _images(root: Path) -> None:
    for scene, name in enumerate(SCENES):
        _write_pictures(root / name, scene)


def _dl3dv(root: Path) -> None:
    for scene, name in enumerate(SCENES):
        files = _write_pictures(root / name / "images_4", scene)
        frames = [
            {"file_path": f"images/{file}", "transform_matrix": c2w.tolist()}
            for file, c2w in zip(files, poses(), strict=True)
        ]
        table = {"w": 128, "h": 96, "fl_x": 100, "fl_y": 100, "cx": 64, "cy": 48, "frames": frames}
        (root / name / "transforms.json").write_text(json.dumps(table))


def _opencv_cameras(root: Path) -> None:
    camera = {"w": SIZE[1], "h": SIZE[0], "fx": 25, "fy": 25, "cx": 16, "cy": 12}
    for scene, name in enumerate(SCENES):
        files = _write_pictures(root / name / "images", scene)
        frames = [
            {"file_path": f"images/{file}", "w2c": np.linalg.inv(c2w).tolist()} | camera
            for file, c2w in zip(files, poses(), strict=True)
        ]
        (root / name / "opencv_cameras.json").write_text(json.dumps({"frames": frames}))


def _processed(root: Path) -> None:
    (root / "metadata").mkdir(parents=True)
    for scene, name in enumerate(SCENES):
        files = _write_pictures(root / "images" / name, scene)
        frames = [
            {"image_path": f"images/{name}/{file}", "w2c": np.linalg.inv(c2w).tolist(), "fxfycxcy": [25, 25, 16, 12]}
            for file, c2w in zip(files, poses(), strict=True)
        ]
        (root / "metadata" / f"{name}.json").write_text(json.dumps({"frames": frames}))
    (root / "full_list.txt").write_text("".join(f"metadata/{name}.json\n" for name in SCENES))


def _colmap(root: Path) -> None:
    for scene, name in enumerate(SCENES):
        files = _write_pictures(root / name / "images", scene)
        model = root / name / "sparse" / "0"
        model.mkdir(parents=True)
        (model / "cameras.txt").write_text(f"1 PINHOLE {SIZE[1]} {SIZE[0]} 25 25 16 12\n")
        lines = [f"{frame + 1} 1 0 0 0 {0.1 * frame} 0 0 1 {file}\n\n" for frame, file in enumerate(files)]
        (model / "images.txt").write_text("".join(lines))


def _chunks(root: Path) -> None:
    rows = cameras_to_rows(poses(), np.tile([0.8, 1.1, 0.5, 0.5], (NUM_FRAMES, 1)))
    for split in ("train", "test"):
        scenes = []
        for scene, name in enumerate(SCENES):
            encoded = [cv2.imencode(".png", picture(scene, frame))[1].tobytes() for frame in range(NUM_FRAMES)]
            scenes.append(ChunkScene(name, rows, encoded, np.arange(NUM_FRAMES) * 1000))
        write_chunk(root / split / "000000.torch", scenes)


def _video(root: Path) -> None:
    root.mkdir()
    for scene, name in enumerate(SCENES):
        writer = cv2.VideoWriter(str(root / f"{name}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 30, SIZE[::-1])
        for frame in range(NUM_FRAMES):
            writer.write(picture(scene, frame))
        writer.release()


def _dataset(write: Callable[[Path], None], folder: Path) -> Mapping[str, Any]:
    root = folder / write.__name__.strip("_")
    if not root.exists():
        write(root)
    return {"root": root}


def _rooms(folder: Path) -> Mapping[str, Any]:
    return {
        "root": folder / "rooms", "num_train": 1, "num_test": 1, "num_frames": 3, "image_size": (8, 8),
    }  # fmt: skip


def _index(folder: Path) -> Mapping[str, Any]:
    path = folder / "index.json"
    path.write_text(json.dumps({name: {"context": [1, 9], "target": [2, 5]} for name in SCENES}))
    return {"path": path}


def _overlaps(folder: Path) -> Mapping[str, Any]:
    path = folder / "overlap.json"
    path.write_text(json.dumps({name: {1: 0.96, 5: 0.8, 9: 0.6, 12: 0.5} for name in SCENES}))
    return {"table": path}


def vgg19_weights() -> dict[str, Tensor]:
    """Random weights of VGG-19 under torchvision's names."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for index, inputs, outputs in VGG19:
        weight = torch.randn(outputs, inputs, 3, 3, generator=generator)
        state[f"features.{index}.weight"] = weight / (9 * inputs) ** 0.5
        state[f"features.{index}.bias"] = torch.randn(outputs, generator=generator)
    return state


def mat_layers(entries: Mapping[int, Mapping]) -> np.ndarray:
    """A MATLAB cell array (1, 43) of structs, as MatConvNet saves a network."""
    layers = np.empty((1, 43), dtype=object)
    for index in range(43):
        layers[0, index] = entries.get(index, {"name": f"other{index}", "type": "relu"})
    return layers


def vgg19_mat(folder: Path) -> Path:
    """A file with the weights of ``vgg19_weights`` in MatConvNet's format."""
    path = folder / "imagenet-vgg-verydeep-19.mat"
    if not path.exists():
        state, entries = vgg19_weights(), {}
        for index, _, _ in VGG19:
            cell = np.empty((1, 2), dtype=object)
            cell[0, 0] = state[f"features.{index}.weight"].permute(2, 3, 1, 0).numpy()
            cell[0, 1] = state[f"features.{index}.bias"].numpy()[None]
            entries[index] = {"name": f"conv{index}", "type": "conv", "weights": cell, "pad": [1, 1, 1, 1]}
        savemat(path, {"layers": mat_layers(entries)})
    return path


def _dinov3(folder: Path) -> Mapping[str, Any]:
    variant, path = "vit_tiny_patch16_dinov3_qkvb", folder / "dinov3.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        state = timm.create_model(variant, pretrained=False).state_dict()
        save_file({name: torch.randn_like(value) * 0.05 for name, value in state.items()}, path)
    return {"variant": variant, "checkpoint": path}


def _backbone(folder: Path, file: str, layers: list[tuple[int, int, int, int]]) -> Path:
    path = folder / file
    if not path.exists():
        generator = torch.Generator().manual_seed(1)
        state = {"classifier.1.weight": torch.zeros(2, 2)}
        for index, inputs, outputs, side in layers:
            weight = torch.randn(outputs, inputs, side, side, generator=generator)
            state[f"features.{index}.weight"] = weight * (inputs * side * side) ** -0.5
            state[f"features.{index}.bias"] = torch.randn(outputs, generator=generator) * 0.1
        torch.save(state, path)
    return path


def alexnet(folder: Path) -> Path:
    """A file with random weights of AlexNet under torchvision's names."""
    return _backbone(folder, "alexnet.pth", ALEXNET)


def vgg16(folder: Path) -> Path:
    """A file with random weights of VGG-16 under torchvision's names."""
    return _backbone(folder, "vgg16.pth", VGG16)


def _repa(_: Path) -> Mapping[str, Any]:
    sizes = {"backbone_width": 16, "depth": 2, "num_heads": 2, "variant": "vit_base_patch14_dinov2"}
    teacher = TOKENIZERS["dinov2"](width=16, pretrained=False, **sizes)
    alignments = tuple(Alignment(stream=stream, layer=2, teacher_block=1) for stream in ("input", "target"))
    return {"teacher": teacher, "alignments": alignments, "teacher_size": 42, "projector_width": 8}


EXAMPLES: dict[tuple[str, str], Callable[[Path], Mapping[str, Any]]] = {
    ("dataset", "chunks"): partial(_dataset, _chunks),
    ("dataset", "co3d"): partial(_capture, "co3d"),
    ("dataset", "colmap"): partial(_dataset, _colmap),
    ("dataset", "dl3dv"): partial(_dataset, _dl3dv),
    ("dataset", "images"): partial(_dataset, _images),
    ("dataset", "llff"): partial(_capture, "llff"),
    ("dataset", "mapfree"): partial(_capture, "mapfree"),
    ("dataset", "opencv_cameras"): partial(_dataset, _opencv_cameras),
    ("dataset", "polycam"): partial(_capture, "polycam"),
    ("dataset", "processed"): partial(_dataset, _processed),
    ("dataset", "record3d"): partial(_capture, "record3d"),
    ("dataset", "scannetpp"): partial(_capture, "scannetpp"),
    ("dataset", "synthetic"): _rooms,
    ("dataset", "transforms"): partial(_capture, "nerfstudio"),
    ("dataset", "video"): partial(_dataset, _video),
    ("dataset", "webdataset"): partial(_dataset, _webdataset),
    ("loss", "lpips"): lambda folder: {"backbone": alexnet(folder), "net": "alex"},
    ("loss", "perceptual"): lambda folder: {"weights": vgg19_mat(folder)},
    ("metric", "lpips_alex"): lambda folder: {"weights": alexnet(folder)},
    ("metric", "lpips_vgg"): lambda folder: {"weights": vgg16(folder)},
    ("model", "uplvsm"): lambda _: {"camera_head": CAMERA_HEADS["absolute_quaternion"](width=32)},
    ("objective", "repa"): _repa,
    ("tokenizer", "dinov3"): _dinov3,
    ("view_sampler", "evaluation_index"): _index,
    ("view_sampler", "overlap_curriculum"): _overlaps,
    ("view_sampler", "published_windows"): lambda _: {"schedule": "xfactor_co3d"},
}
"""Functions by kind and registered name."""
