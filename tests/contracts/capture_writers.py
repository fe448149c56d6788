"""Scenes in the forms of other data sets and apps, written from cameras in OpenCV's axes.

Each writer takes the folder of a scene, poses (f, 4, 4) camera to world, and images (f, h, w, 3) in OpenCV's channel
order. Each form can state the intrinsics ``FREE`` in pixels, or only ``PLAIN``: square pixels, and the middle.
"""

import gzip
import json
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

FREE = (25.0, 26.0, 15.0, 13.0)
PLAIN_FOCAL = 25.0
GL = np.diag([1.0, -1.0, -1.0, 1.0])
"""Between OpenCV's and OpenGL's camera axes."""


def write_images(folder: Path, names: list[str], images: np.ndarray) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in zip(names, images, strict=True):
        cv2.imwrite(str(folder / name), image)
    return names


def numbered(images: np.ndarray, pattern: str) -> list[str]:
    return [pattern.format(frame) for frame in range(len(images))]


def nerfstudio(folder: Path, c2w: np.ndarray, images: np.ndarray) -> None:
    """nerfstudio's form: intrinsics in pixels."""
    names = write_images(folder / "images", numbered(images, "frame_{:05}.png"), images)
    height, width = images.shape[1:3]
    fx, fy, cx, cy = FREE
    frames = [
        {"file_path": f"images/{name}", "transform_matrix": (pose @ GL).tolist()}
        for name, pose in zip(names, c2w, strict=True)
    ]
    table = {"w": width, "h": height, "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(table))


def instant_ngp(folder: Path, c2w: np.ndarray, images: np.ndarray) -> None:
    """instant-ngp's form: the field of view, no size, no endings."""
    names = write_images(folder / "images", numbered(images, "{:04}.png"), images)
    frames = [
        {"file_path": f"./images/{Path(name).stem}", "transform_matrix": (pose @ GL).tolist()}
        for name, pose in zip(names, c2w, strict=True)
    ]
    angle = 2 * np.arctan(images.shape[2] / 2 / PLAIN_FOCAL)
    (folder / "transforms.json").write_text(json.dumps({"camera_angle_x": angle, "frames": frames[::-1]}))


def arkit(folder: Path, c2w: np.ndarray, images: np.ndarray) -> None:
    """The form of phone apps: intrinsics and a time in seconds in each frame, no endings."""
    names = write_images(folder / "images", numbered(images, "{}.png"), images)
    height, width = images.shape[1:3]
    fx, fy, cx, cy = FREE
    own = {"w": width, "h": height, "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy}
    frames = [
        {"file_path": f"images/{Path(name).stem}", "transform_matrix": (pose @ GL).tolist(), "timestamp": 7 + frame / 4}
        | own
        for frame, (name, pose) in enumerate(zip(names, c2w, strict=True))
    ]
    (folder / "transforms.json").write_text(json.dumps({"frames": frames}))


def blender(folder: Path, c2w: np.ndarray, images: np.ndarray) -> None:
    """Blender's form: a table for each split, no endings, images with transparency."""
    angle = 2 * np.arctan(images.shape[2] / 2 / PLAIN_FOCAL)
    opaque = np.concatenate([images, np.full_like(images[..., :1], 255)], axis=-1)
    bounds = {"test": (0, 2), "train": (2, len(images) - 1), "val": (len(images) - 1, len(images))}
    for split, (first, end) in bounds.items():
        names = write_images(folder / split, numbered(images[first:end], "r_{}.png"), opaque[first:end])
        frames = [
            {"file_path": f"./{split}/{Path(name).stem}", "rotation": 0.01, "transform_matrix": (pose @ GL).tolist()}
            for name, pose in zip(names, c2w[first:end], strict=True)
        ]
        (folder / f"transforms_{split}.json").write_text(json.dumps({"camera_angle_x": angle, "frames": frames}))


def scannetpp(folder: Path, c2w: np.ndarray, images: np.ndarray) -> None:
    names = write_images(folder / "dslr" / "resized_images", numbered(images, "DSC{:05}.JPG"), images)
    (folder / "dslr" / "nerfstudio").mkdir()
    height, width = images.shape[1:3]
    fx, fy, cx, cy = FREE
    frames = [
        {"file_path": name, "transform_matrix": (pose @ GL).tolist(), "is_bad": False}
        for name, pose in zip(names, c2w, strict=True)
    ]
    table = {
        "w": width, "h": height, "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "camera_model": "OPENCV_FISHEYE",
        "k1": 0.0, "k2": 0.0, "k3": 0.0, "k4": 0.0, "frames": frames[:-1], "test_frames": frames[-1:],
    }  # fmt: skip
    (folder / "dslr" / "nerfstudio" / "transforms.json").write_text(json.dumps(table))


def llff(folder: Path, c2w: np.ndarray, images: np.ndarray) -> None:
    """The table states twice the size of the images."""
    write_images(folder / "images_2", numbered(images, "IMG_{:03}.png"), images)
    height, width = images.shape[1:3]
    right, down, forward = (c2w[:, :3, axis] for axis in range(3))
    sides = np.tile([2.0 * height, 2.0 * width, 2.0 * PLAIN_FOCAL], (len(images), 1))
    matrices = np.stack([down, right, -forward, c2w[:, :3, 3], sides], axis=-1)  # (f, 3, 5)
    depths = np.tile([1.0, 9.0], (len(images), 1))
    np.save(folder / "poses_bounds.npy", np.hstack([matrices.reshape(-1, 15), depths]))


def mapfree(folder: Path, c2w: np.ndarray, images: np.ndarray) -> None:
    height, width = images.shape[1:3]
    half = len(images) // 2
    names = []
    for scan, part in (("seq0", images[:half]), ("seq1", images[half:])):
        names += [f"{scan}/{name}" for name in write_images(folder / scan, numbered(part, "frame_{:05}.png"), part)]
    intrinsics, poses = ["# frame_path fx fy cx cy frame_width frame_height"], []
    for name, w2c in zip(names, np.linalg.inv(c2w), strict=True):
        intrinsics.append(f"{name} {' '.join(map(repr, FREE))} {width} {height}")
        quaternion = Rotation.from_matrix(w2c[:3, :3]).as_quat()[[3, 0, 1, 2]]
        poses.append(f"{name} {' '.join(repr(float(value)) for value in (*quaternion, *w2c[:3, 3]))}")
    (folder / "intrinsics.txt").write_text("\n".join(intrinsics))
    (folder / "poses.txt").write_text("\n".join(poses[::-1]))


def polycam(folder: Path, c2w: np.ndarray, images: np.ndarray) -> None:
    height, width = images.shape[1:3]
    (folder / "keyframes" / "cameras").mkdir(parents=True)
    (folder / "mesh_info.json").write_text("{}")
    names = write_images(folder / "keyframes" / "images", numbered(images, "{}.png"), images)
    for name, pose in zip(names, c2w @ GL, strict=True):
        camera = dict(zip(("fx", "fy", "cx", "cy"), FREE, strict=True)) | {"width": width, "height": height}
        camera |= {f"t_{row}{column}": pose[row, column] for row in range(3) for column in range(4)}
        (folder / "keyframes" / "cameras" / f"{Path(name).stem}.json").write_text(json.dumps(camera))


def record3d(folder: Path, c2w: np.ndarray, images: np.ndarray) -> None:
    height, width = images.shape[1:3]
    write_images(folder / "rgb", numbered(images, "{}.png"), images)
    fx, fy, cx, cy = FREE
    poses = [[*Rotation.from_matrix(pose[:3, :3]).as_quat().tolist(), *pose[:3, 3].tolist()] for pose in c2w @ GL]
    times = [frame / 8 for frame in range(len(images))]
    table = {"w": width, "h": height, "K": [fx, 0, 0, 0, fy, 0, cx, cy, 1], "poses": poses, "frameTimestamps": times}
    (folder / "metadata.json").write_text(json.dumps(table))


def co3d(folder: Path, c2w: np.ndarray, images: np.ndarray) -> None:
    """A sequence; its category has one file for all sequences, so each call adds to it."""
    height, width = images.shape[1:3]
    half = min(height, width) / 2
    names = write_images(folder / "images", numbered(images, "frame{:06}.png"), images)
    table = folder.parent / "frame_annotations.jgz"
    frames = json.loads(gzip.decompress(table.read_bytes())) if table.exists() else []
    fx, fy, cx, cy = FREE
    for frame, (name, w2c) in enumerate(zip(names, np.diag([-1.0, -1, 1, 1]) @ np.linalg.inv(c2w), strict=True)):
        viewpoint = {
            "R": w2c[:3, :3].T.tolist(), "T": w2c[:3, 3].tolist(), "focal_length": [fx / half, fy / half],
            "principal_point": [(width / 2 - cx) / half, (height / 2 - cy) / half],
            "intrinsics_format": "ndc_isotropic",
        }  # fmt: skip
        image = {"path": f"{folder.parent.name}/{folder.name}/images/{name}", "size": [height, width]}
        frames.append(
            {"sequence_name": folder.name, "frame_number": frame, "frame_timestamp": frame / 2, "image": image}
            | {"viewpoint": viewpoint}
        )
    table.write_bytes(gzip.compress(json.dumps(frames).encode()))
