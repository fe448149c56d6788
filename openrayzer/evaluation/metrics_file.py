"""The content of metrics.json."""

from collections.abc import Sequence
from typing import Any

import openrayzer
from openrayzer.evaluation.metrics.image_scores import SSIM_WINDOW
from openrayzer.evaluation.opening import Opened
from openrayzer.evaluation.placements import PLACEMENTS
from openrayzer.evaluation.request import EvaluationRequest
from openrayzer.evaluation.results.output_folder import FORMAT
from openrayzer.evaluation.results.scene_result import SceneResult
from openrayzer.evaluation.results.summary import (
    counted_targets,
    differences,
    pose_summary,
    scene_entry,
    summary,
    sweep_table,
)
from openrayzer.evaluation.scenes.pose_trials import sanity_table, transfer_table
from openrayzer.evaluation.scenes.scene_pictures import ERROR_MAPS
from openrayzer.evaluation.trials.transfer import TransferResult

CROP = "resized to cover the size (areas where it shrinks, bicubic where it grows), then cropped at the centre"


def metrics_of(
    request: EvaluationRequest,
    opened: Opened,
    results: Sequence[SceneResult],
    *,
    skipped: dict[str, str],
    problems: list[str],
    transfers: Sequence[dict[str, list[TransferResult]]],
    world_size: int,
    seconds: float,
) -> dict[str, Any]:
    """Everything that was measured, and everything it depends on; docs/evaluation.md explains each key.

    Args:
        request: what was asked.
        opened: what was worked with.
        results: of the scenes, in their order.
        skipped: scene to reason.
        problems: what was broken on the way.
        transfers: of each pair of clips.
        world_size: number of processes.
        seconds: that it all took.
    """
    expected = sum(len(choice.target) for choice in opened.clips.choices.values())
    targets = counted_targets(results, opened.placements, expected)
    notes = [*opened.notes, *problems]
    if targets["not_finite"]:
        notes.append(f"{targets['not_finite']} rendered targets are not finite; their scenes are in no mean")
    swept = sweep_table(results)
    notes += [
        f"views sweep: {entry['not_finite']} scenes are not finite with {entry['num_context']} contexts and in no mean"
        for entry in swept or ()
        if entry["not_finite"]
    ]
    seed = request.seed or 0
    return {
        "format": FORMAT,
        "openrayzer": openrayzer.__version__,
        "model": opened.about_model,
        "settings": _settings(request, opened, world_size),
        "placements": _placements(opened),
        "scenes": {
            "expected": opened.clips.expected,
            "evaluated": len(results),
            "skipped": skipped,
            "problems": notes,
        },
        "targets": targets,
        "summary": summary(results, seed=seed),
        "differences": differences(results, seed=seed),
        "poses": pose_summary(results),
        "transfer": transfer_table(transfers, oracle=request.transfer_oracle),
        "sanity": sanity_table(results),
        "views_sweep": swept,
        "seconds": {"total": round(seconds, 3)},
        "per_scene": {result.scene: scene_entry(result) for result in results},
    }


def _settings(request: EvaluationRequest, opened: Opened, world_size: int) -> dict[str, Any]:
    return {
        **opened.views,
        "placements": list(opened.placements),
        "crop": CROP,
        "ssim": opened.scores.missing.get("ssim", SSIM_WINDOW),
        "lpips": opened.scores.lpips,
        "error_maps": ERROR_MAPS,
        "precision": request.precision,
        "world_size": world_size,
        "batch_size": request.batch_size,
        "seed": opened.evaluation.seed,
        "bootstrap_seed": request.seed or 0,
        "max_scenes": request.max_scenes,
    }


def _placements(opened: Opened) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "uses_target_pixels": PLACEMENTS[name].uses_target_pixels,
            "mixes_target_pixels": PLACEMENTS[name].mixes_target_pixels,
            "description": PLACEMENTS[name].description,
        }
        for name in opened.placements
    }
