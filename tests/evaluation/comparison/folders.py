"""Invented runs and evaluations with known numbers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

VIEWS = {"context": [0, 4], "target": [1, 2]}


def write_run(folder: Path, scenes: Mapping[str, float], *, seconds: float = 2.0, step: int = 40) -> Path:
    """A run of before format 1, with a record every 10 steps and an evaluation every 20 steps.

    Args:
        folder: the run folder.
        scenes: final PSNR of each scene.
        seconds: seconds per step.
        step: last step.
    """
    (folder / "evaluation").mkdir(parents=True)
    lines: list[dict[str, Any]] = []
    for at in range(10, step + 1, 10):
        lines.append({"step": at, "split": "train", "loss": 0.1, "seconds": seconds})
        if at % 20 == 0:
            lines.append({"step": at, "split": "test", "psnr": 10 + at / 10, "psnr_nearest_context": 9.0})
    write_log(folder, lines)
    (folder / "experiment.json").write_text(json.dumps({"data": {"image_size": [32, 48]}}))
    metrics = {
        "step": step,
        "split": "test",
        "target_pixels_used_for_cameras": True,
        "scenes": {
            scene: {"psnr": value, "psnr_nearest_context": 9.0, "psnr_shuffled_cameras": value - 2}
            for scene, value in scenes.items()
        },
    }
    (folder / "evaluation" / "metrics.json").write_text(json.dumps(metrics))
    (folder / "evaluation" / "index.json").write_text(json.dumps(dict.fromkeys(scenes, VIEWS) | {"gone": None}))
    return folder


def write_log(folder: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write metrics.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_evaluation(
    folder: Path,
    scenes: Mapping[str, float | None],
    *,
    run: Path | str = "elsewhere",
    settings: Mapping[str, Any] | None = None,
    views: Mapping[str, Any] = VIEWS,
) -> Path:
    """The keys of an older metrics.json that a comparison reads."""
    folder.mkdir(parents=True)
    usual = {
        "image_size": [32, 48], "crop": "centre", "ssim": "gaussian 11", "index": {"sha256": "a"},
        "lpips": {"vgg": "weights/vgg.pth", "alex": "no weights"}, "precision": "float32",
    }  # fmt: skip
    values = {
        "format": 1,
        "model": {"path": str(run), "step": 40},
        "settings": usual | dict(settings or {}),
        "placements": {"joint": {}, "context_only": {}},
        "per_scene": {
            scene: {
                **views,
                "metrics": {
                    "joint": {"psnr": value, "ssim": 0.5, "lpips_vgg": 0.2},
                    "context_only": {"psnr": None if value is None else value - 1, "ssim": 0.4, "lpips_vgg": 0.3},
                },
            }
            for scene, value in scenes.items()
        },
    }
    (folder / "metrics.json").write_text(json.dumps(values))
    return folder
