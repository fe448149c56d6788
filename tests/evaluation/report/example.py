"""An invented evaluation folder as tools/evaluate.py writes it, with names that need escaping."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from openrayzer.evaluation.metrics.image_scores import about_metric

EVIL = "<script>alert('x')</script>\"&"
PLACEMENTS = ("joint", "context_only")
BASELINES = ("nearest_context", "mean_context", "joint_exchanged_cameras", "context_only_exchanged_cameras")
METRICS = ("psnr", "ssim", "lpips_vgg", "lpips_alex")
MISSING = "no file weights/alexnet.pth; get it from torchvision"
LEVEL = {
    "joint": 24.0, "context_only": 22.9, "nearest_context": 19.6, "mean_context": 18.9,
    "joint_exchanged_cameras": 18.4, "context_only_exchanged_cameras": 18.1,
}  # fmt: skip
POSE_LEVEL = {"joint": 0.8, "context_only": 0.7, "constant_pose": 0.3, "straight_line": 0.4, "random_poses": 0.01}


def write_example(
    folder: Path, *, scenes: int = 6, cameras: bool = True, pictures: bool = True, seed: int = 0
) -> dict[str, Any]:
    """Write the folder and return the content of its metrics.json.

    The second scene has a name with markup, the third a metric that is not finite, the fourth no pictures.
    """
    random = np.random.default_rng(seed)
    names = [EVIL if number == 1 else f"scene_{number:03d}" for number in range(scenes)]
    rows: list[dict[str, Any]] = []
    per_scene = {name: _scene(name, number, random, rows, cameras=cameras) for number, name in enumerate(names)}
    for number, name in enumerate(names):
        if pictures and number != 3:
            per_scene[name]["pictures"] = _pictures(folder, number, per_scene[name], random)
    values = _head(names) | {"per_scene": per_scene, "summary": _summary(per_scene)}
    difference = {
        name: {"mean": 1.1, "low": 0.9, "high": 1.3, "scenes": scenes} if name == "psnr" else _small()
        for name in METRICS[:3]
    }
    values["differences"] = {"joint_minus_context_only": difference}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(values), encoding="utf-8")
    with (folder / "per_view.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["scene", "frame", "equals_context", "method", *METRICS])
        writer.writeheader()
        writer.writerows(rows)
    return values


def _small() -> dict[str, float]:
    return {"mean": 0.021, "low": -0.004, "high": 0.05, "scenes": 6}


def _scene(name: str, number: int, random: np.random.Generator, rows: list, *, cameras: bool) -> dict[str, Any]:
    context, target = [0, 8, 16], [4, 8, 12]
    hard = random.normal(0, 2)
    for frame in target:
        for method in LEVEL:
            psnr = LEVEL[method] + hard + random.normal(0, 0.6)
            row = {"psnr": psnr, "ssim": psnr / 32, "lpips_vgg": 0.9 - psnr / 40, "lpips_alex": ""}
            if number == 2 and method == "context_only":
                row["psnr"] = ""
            rows.append({"scene": name, "frame": frame, "equals_context": frame in context, "method": method, **row})
    own = [row for row in rows if row["scene"] == name]
    metrics = {
        method: {metric: _mean([row[metric] for row in own if row["method"] == method]) for metric in METRICS}
        for method in LEVEL
    }
    poses = {method: _pose_metrics(level) for method, level in POSE_LEVEL.items()}
    return {
        "number": number, "context": context, "target": target, "metrics": metrics, "poses": poses,
        "cameras": _cameras(sorted({*context, *target}), random, true=cameras),
    }  # fmt: skip


def _pose_metrics(level: float) -> dict[str, float]:
    names = ("rra@5", "rta@5", "rpa@5", "auc@30")
    return {name: level - 0.05 * place for place, name in enumerate(names)} | {"rotation_error_deg": 9 - 9 * level}


def _mean(values: list) -> float | None:
    return float(np.mean(values)) if all(value != "" for value in values) else None


def _cameras(frames: list[int], random: np.random.Generator, *, true: bool) -> dict[str, Any]:
    poses = np.stack([_pose(frame / 16) for frame in frames])
    lens = [[0.9, 1.2, 0.5, 0.5]] * len(frames)
    groups: dict[str, Any] = {"frames": frames, "true": {"c2w": poses.tolist(), "intrinsics": lens} if true else None}
    for name, noise in (("joint", 0.03), ("context_only", 0.08)):
        moved = poses.copy()
        moved[:, :3, 3] += random.normal(0, noise, (len(frames), 3))
        groups[name] = {"c2w": moved.tolist(), "intrinsics": lens} | ({"aligned": True} if true else {})
    return groups


def _pose(way: float) -> np.ndarray:
    """A camera on an arc around the origin that looks at it."""
    angle = 1.2 * way - 0.6
    pose = np.eye(4)
    pose[:3, :3] = [[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]]
    pose[:3, 3] = [2 * np.sin(angle), 0.2 * np.sin(6 * way), -2 * np.cos(angle)]
    return pose


def _pictures(folder: Path, number: int, scene: dict, random: np.random.Generator) -> dict[str, dict[str, str]]:
    place = folder / "pictures" / str(number)
    place.mkdir(parents=True, exist_ok=True)
    result: dict[str, dict[str, str]] = {}
    groups = {"context": scene["context"]} | dict.fromkeys(
        ["target", "joint", "joint_error", "context_only", "context_only_error", "nearest_context"], scene["target"]
    )
    tint = random.uniform(40, 200, 3)
    for group, frames in groups.items():
        for frame in frames:
            y, x = np.mgrid[0:48, 0:64]
            wave = 127 + 80 * np.sin((x + 4 * frame) / 9) * np.cos(y / 11)
            image = 0.6 * wave[..., None] + 0.4 * tint
            if group.endswith("_error"):
                image = np.abs(random.normal(0, 30, (48, 64, 1))) * np.array([1.0, 0.6, 0.2])
            elif group != "target":
                image = image + random.normal(0, 12, image.shape)
            file = place / f"{group}_{frame}.png"
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(file)
            result.setdefault(group, {})[str(frame)] = file.relative_to(folder).as_posix()
    return result


def _summary(per_scene: dict[str, Any]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for method in LEVEL:
        for metric in METRICS:
            values = [scene["metrics"][method][metric] for scene in per_scene.values()]
            kept = np.array([value for value in values if value is not None])
            if not len(kept):
                entry = {"mean": None, "std": None, "low": None, "high": None, "scenes": 0, "not_finite": 0}
                summary.setdefault(method, {})[metric] = entry | {"mean_without_context_targets": None}
                continue
            error = 1.96 * kept.std() / len(kept) ** 0.5
            summary.setdefault(method, {})[metric] = {
                "mean": float(kept.mean()), "std": float(kept.std()), "low": float(kept.mean() - error),
                "high": float(kept.mean() + error), "scenes": len(kept), "not_finite": len(values) - len(kept),
                "mean_without_context_targets": float(kept.mean() * 0.97),
            }  # fmt: skip
    return summary


def _head(names: list[str]) -> dict[str, Any]:
    return {
        "format": 1,
        "openrayzer": "0.1.0",
        "model": {
            "path": "runs/rayzer_<b>bold</b>", "type": "rayzer", "step": 1000, "weights": 1_234_567, "posed": False,
        },
        "settings": {
            "protocol": "re10k_2v3", "protocol_rules": "2 context views, 3 targets between them",
            "placements": list(PLACEMENTS), "index": {"path": "index.json", "sha256": "ab" * 32, "md5": "cd" * 16},
            "image_size": [48, 64], "crop": "centre", "precision": "float32",
            "world_size": 1, "batch_size": 4, "seed": 0, "sources": ["chunks /data/re10k"],
        },
        "metrics": {
            name: about_metric(name) | {"weights": None, "missing": MISSING if name == "lpips_alex" else None}
            for name in METRICS
        },
        "placements": {
            "joint": {
                "uses_target_pixels": True, "mixes_target_pixels": True,
                "description": "All views go through the estimator together.",
            },
            "context_only": {
                "uses_target_pixels": True, "mixes_target_pixels": False,
                "description": "Each target is located by itself.",
            },
        },
        "scenes": {
            "expected": len(names) + 3, "evaluated": len(names), "problems": ["scene_9: frame 4 is broken"],
            "skipped": {"short_1": "has 2 frames, 5 are needed", "short_2": "has 2 frames, 5 are needed",
                        "<i>gone</i>": "no such scene"},
        },
        "targets": {
            "expected": 3 * len(names), "evaluated": 3 * len(names), "equal_to_a_context": len(names), "not_finite": 3,
        },
        "poses": {
            method: {name: {"mean": value, "scenes": 6} for name, value in _pose_metrics(level).items()}
            for method, level in POSE_LEVEL.items()
        },
        "transfer": {
            "oracle": "the model itself", "pairs": 6,
            "joint": {"driven": {"rotation@10": 0.5, "auc@20": 0.44}, "undriven": {"rotation@10": 0.2, "auc@20": 0.1}},
        },
        "sanity": {
            "joint": {
                "shuffled_order": {
                    "psnr_change": -0.3, "rotation_deg": 1.2, "passed": 0.5, "scenes": 6,
                    "change": "The views <b>go</b> in another order.", "true_poses": "Poses follow their views.",
                },
                "colour_change": {
                    "psnr_change": None, "rotation_deg": 0.1, "passed": 1.0, "scenes": 6, "change": "Paler.",
                },
            },
        },
        "views_sweep": [
            {"num_context": count, "joint": {"psnr": 20 + 3 * np.log2(count), "rotation_error_deg": 9 / count},
             "context_only": {"psnr": 19 + 3 * np.log2(count), "rotation_error_deg": 11 / count},
             "nearest_context": {"psnr": 17 + 1.5 * np.log2(count)}}
            for count in (2, 3, 4, 6)
        ],
        "seconds": {"data": 1.5, "model": 10.2},
    }  # fmt: skip
