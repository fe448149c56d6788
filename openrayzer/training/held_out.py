"""Evaluation while training: the evaluation of ``openrayzer evaluate`` with one placement and one metric, PSNR.

The model is measured beside the baselines: the nearest context view, the mean of the context views, and the model
itself with exchanged target cameras. A model that ignores its cameras is no better than the last.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from openrayzer.data.loading.held_out_clips import EvaluationClips
from openrayzer.evaluation.metrics.image_scores import ImageScores
from openrayzer.evaluation.metrics_file import about_model, metrics_of, own_views, source_names
from openrayzer.evaluation.placements import PLACEMENTS, placements_for
from openrayzer.evaluation.results.output_folder import METRICS, PER_VIEW, as_json
from openrayzer.evaluation.results.record_names import methods_of
from openrayzer.evaluation.results.scene_result import SceneResult
from openrayzer.evaluation.results.summary import per_view_lines
from openrayzer.evaluation.scenes.measuring import scene_result
from openrayzer.evaluation.scenes.rendering import render_and_judge
from openrayzer.interfaces import Model
from openrayzer.machine.writing import write_or_warn
from openrayzer.settings import Experiment
from openrayzer.training.engine import Engine
from openrayzer.types import Views
from openrayzer.weights.run_layout import AVERAGED, EVALUATED

METRIC = "psnr"
INDEX = "index.json"


@dataclass
class HeldOutResults:
    """The measurements of one process.

    Attributes:
        scenes: one result per scene.
        means: scene -> name in metrics.jsonl -> mean over its target views, in float32.
        problems: faults of the clips, one sentence each.
    """

    scenes: list[SceneResult] = field(default_factory=list)
    means: dict[str, dict[str, float]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def evaluate(
    engine: Engine,
    clips: EvaluationClips,
    *,
    run_folder: Path,
    experiment: Experiment,
    record: Mapping[str, Any],
    averaged: bool = False,
) -> dict[str, Any]:
    """Measure every scene once; rank 0 writes metrics.json, per_view.csv and index.json into ``evaluation/``.

    Args:
        engine: the model in training.
        clips: this process's share of the held-out clips.
        run_folder: the run folder.
        experiment: of the run.
        record: content of experiment.json.
        averaged: whether the model has the averaged weights; then the files go to ``evaluation/ema/``.

    Returns:
        The record for metrics.jsonl: means over scenes of the mean over target views, in dB.
    """
    started, process = time.monotonic(), engine.process
    numbers = {scene: number for number, scene in enumerate(clips.choices)}
    scores = ImageScores(experiment.data.image_size, metrics=(METRIC,), device=process.device)
    placement, own = placements_for(engine.model, True)[0], HeldOutResults()
    with engine.evaluating() as model:
        precision = "bfloat16" if torch.is_autocast_enabled(process.device.type) else "float32"
        for views in clips:
            measure(model, views.to(process.device), scores, own, numbers=numbers)
    parts = process.gather((own, clips.skipped))
    everything = merged([part for part, _ in parts])
    means = everything.means
    skipped = {skip.scene: skip.reason for _, skips in parts for skip in skips}
    line = {"step": engine.steps, "split": f"test_{AVERAGED}" if averaged else "test"} | _means(means)
    line |= {"expected": clips.expected, "evaluated": len(means), "skipped_scenes": len(skipped)}
    line["target_pixels_used_for_cameras"] = not engine.model.posed
    if process.is_first:
        results = sorted(everything.scenes, key=lambda result: result.number)
        metrics = metrics_of(
            results,
            model=about_model(
                engine.model,
                path=str(run_folder),
                weights_file=None,
                averaged=averaged,
                step=engine.steps,
                num_weights=engine.num_weights,
            ),
            settings=_settings(experiment, record) | {"precision": precision, "world_size": process.world_size},
            placements=(placement,),
            scores=scores,
            clips=clips,
            skipped=skipped,
            problems=everything.problems,
            seconds={"total": round(time.monotonic() - started, 3)},
        )
        folder = per_view_file(run_folder, str(line["split"])).parent
        _write(folder / METRICS, lambda: as_json(metrics))
        _write(folder / PER_VIEW, lambda: per_view_lines(results, scores.names))
        _write(folder / INDEX, lambda: json.dumps({**clips.index(), **dict.fromkeys(skipped)}, indent=1))
    return line


def per_view_file(run_folder: Path, split: str) -> Path:
    """The table of the target views, for the ``split`` of a line of metrics.jsonl: ``test`` or ``test_ema``."""
    return run_folder / EVALUATED / (AVERAGED if split == f"test_{AVERAGED}" else "") / PER_VIEW


def merged(parts: Sequence[HeldOutResults]) -> HeldOutResults:
    """The measurements of all processes. A scene counts once: under ZeRO stage 3 every process measures every scene."""
    scenes = {result.scene: result for part in parts for result in part.scenes}
    means = {scene: values for part in parts for scene, values in part.means.items()}
    problems = dict.fromkeys(problem for part in parts for problem in part.problems)
    return HeldOutResults(list(scenes.values()), means, list(problems))


def measure(
    model: Model, views: Views, scores: ImageScores, results: HeldOutResults, *, numbers: Mapping[str, int]
) -> None:
    """Add the scenes of one batch to ``results``.

    Args:
        model: in evaluation mode.
        views: the batch.
        scores: PSNR.
        results: of this process.
        numbers: position of each scene in the evaluation.
    """
    placement = placements_for(model, True)[0]
    placed = PLACEMENTS[placement](model, views)
    scene = placed.scene_of(model, views)
    rendered = render_and_judge(model, views, {placement: placed}, scores, scenes={placement: scene})
    means = {
        name: rendered.scores[method][METRIC].mean(dim=1).tolist()
        for name, method in methods_of(METRIC, placement).items()
        if method in rendered.scores
    }
    for row, key in enumerate(views.scenes):
        results.scenes.append(scene_result(views, rendered, row, number=numbers[key]))
        results.means[key] = {name: values[row] for name, values in means.items()}
    results.problems += views.problems


def _means(scenes: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The mean of each number over the scenes that have it. Scenes are sorted by name, so the sum never varies."""
    names = dict.fromkeys(name for values in scenes.values() for name in values)
    columns = {name: [scenes[key][name] for key in sorted(scenes) if name in scenes[key]] for name in names}
    return {name: sum(column) / len(column) for name, column in columns.items()}


def _settings(experiment: Experiment, record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "protocol": None,
        "index": None,
        "protocol_rules": own_views(record),
        "image_size": list(experiment.data.image_size),
        "sources": source_names(record),
        "batch_size": experiment.evaluation.batch_size,
        "seed": experiment.evaluation.seed,
        "max_scenes": experiment.evaluation.max_scenes,
    }


def _write(file: Path, content: Callable[[], str]) -> None:
    write_or_warn(file, lambda temporary: temporary.write_text(content(), encoding="utf-8"))
