"""The content of metrics.json."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import openrayzer
from openrayzer.data.loading.held_out_clips import EvaluationClips
from openrayzer.evaluation.metrics.image_scores import ImageScores
from openrayzer.evaluation.placements import placement_of
from openrayzer.evaluation.results.against_baselines import against_baselines
from openrayzer.evaluation.results.output_folder import FORMAT
from openrayzer.evaluation.results.scene_result import SceneResult
from openrayzer.evaluation.results.summary import (
    counted_targets,
    depth_summary,
    differences,
    gaussian_summary,
    pose_summary,
    scene_entry,
    summary,
    sweep_table,
)
from openrayzer.evaluation.scenes.pose_trials import sanity_table
from openrayzer.interfaces import Model, registered_name

CROP = (
    "resized to cover the size (bilinear down to 0.71 of the size, by areas below, bicubic to enlarge), cropped at "
    "the centre"
)


def metrics_of(
    results: Sequence[SceneResult],
    *,
    model: Mapping[str, Any],
    settings: Mapping[str, Any],
    placements: Sequence[str],
    scores: ImageScores,
    clips: EvaluationClips,
    skipped: Mapping[str, str],
    problems: Sequence[str],
    seconds: Mapping[str, Any],
    transfer: Mapping[str, Any] | None = None,
    baselines: Mapping[str, Any] | None = None,
    bootstrap_seed: int = 0,
) -> dict[str, Any]:
    """All measurements of an evaluation and everything that they depend on; docs/evaluation.md explains each key.

    Args:
        results: of all scenes, in order.
        model: the evaluated model: path, type, step, ...
        settings: of the evaluation: image size, precision, batch size, ...
        placements: names of the placements.
        scores: the image metrics.
        clips: the held-out clips.
        skipped: scene name -> reason.
        problems: remarks on the data and on the evaluation, one sentence each.
        seconds: durations: ``total``, and those of the baselines.
        transfer: content of the section of this name; see ``transfer_table``.
        baselines: content of the section of this name; see ``baseline_table``.
        bootstrap_seed: of the bootstrap intervals.
    """
    names = scores.names
    targets = counted_targets(results, placements, sum(len(choice.target) for choice in clips.choices.values()))
    notes = list(problems)
    if targets["not_finite"]:
        notes.append(f"{targets['not_finite']} rendered targets are not finite; their scenes are in no mean")
    swept = sweep_table(results, names)
    notes += [
        f"views sweep: {entry['not_finite']} scenes are not finite with {entry['num_context']} contexts and in no mean"
        for entry in swept or ()
        if entry["not_finite"]
    ]
    return {
        "format": FORMAT,
        "openrayzer": openrayzer.__version__,
        "model": dict(model),
        "settings": {**settings, "placements": list(placements), "crop": CROP, "bootstrap_seed": bootstrap_seed},
        "metrics": scores.about(),
        "placements": {
            name: _about_placement(name, located=bool(model.get("locates_in_scene"))) for name in placements
        },
        "scenes": {
            "expected": clips.expected,
            "evaluated": len(results),
            "skipped": dict(sorted(skipped.items())),
            "problems": notes,
        },
        "targets": targets,
        "summary": summary(results, names, seed=bootstrap_seed),
        "differences": differences(results, names, seed=bootstrap_seed),
        "poses": pose_summary(results),
        "depth": depth_summary(results),
        "gaussians": gaussian_summary(results),
        "against_baselines": against_baselines(results, placements, names, seed=bootstrap_seed),
        "baselines": baselines,
        "transfer": transfer,
        "sanity": sanity_table(results),
        "views_sweep": swept,
        "seconds": dict(seconds),
        "per_scene": {result.scene: scene_entry(result, names) for result in results},
    }


def about_model(
    model: Model, *, path: str, weights_file: str | None, averaged: bool, step: int | None, num_weights: int
) -> dict[str, Any]:
    """Section ``model`` of metrics.json.

    Args:
        model: the evaluated model.
        path: run folder, or another path that ``load_model`` takes.
        weights_file: the file or checkpoint; None for a model in training.
        averaged: whether the weights are the exponential moving average.
        step: optimizer step of the weights; None if unknown.
        num_weights: number of weights.
    """
    return {
        "path": path,
        "weights_file": weights_file,
        "averaged": averaged,
        "type": registered_name(model),
        "step": step,
        "weights": num_weights,
        "posed": model.posed,
        "locates_in_scene": model.locates_in_scene,
    }


def own_views(resolved: Mapping[str, Any]) -> str:
    """The view choice of an experiment in words, for metrics.json."""
    sampler = resolved.get("evaluation", {}).get("view_sampler")
    return f"the run's own view sampler, {json.dumps(sampler, default=str)}"


def source_names(resolved: Mapping[str, Any]) -> list[str]:
    """The test sources of an experiment, for metrics.json."""
    return [json.dumps(source["dataset"], default=str) for source in resolved.get("data", {}).get("test", ())]


def _about_placement(name: str, *, located: bool) -> dict[str, Any]:
    placement = placement_of(name, locates_in_scene=located)
    return {
        "uses_target_pixels": placement.uses_target_pixels,
        "mixes_target_pixels": placement.mixes_target_pixels,
        "description": placement.description,
    }
