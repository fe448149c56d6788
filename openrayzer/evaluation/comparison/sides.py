"""One side of a comparison: a run folder, or a folder that `openrayzer evaluate` has written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openrayzer.evaluation.comparison.run_log import RunLog, read_run_log
from openrayzer.evaluation.report import read_metrics
from openrayzer.evaluation.results.against_baselines import verdicts
from openrayzer.evaluation.results.output_folder import METRICS
from openrayzer.evaluation.results.record_names import methods_of
from openrayzer.interfaces import InputError
from openrayzer.settings import current_names
from openrayzer.weights.run_layout import EVALUATED, EXPERIMENT
from openrayzer.weights.run_layout import METRICS as LOG

INDEX = "index.json"
VAGUE_CROP = "resized to cover the size (areas where it shrinks, bicubic where it grows), then cropped at the centre"
"""Text of older evaluations, both with and without bilinear interpolation; it does not say how images were resized."""

Scenes = Mapping[str, Mapping[str, Mapping[str, float | None]]]
"""Scene -> method -> metric -> value."""


@dataclass(frozen=True)
class Definition:
    """The definition of a metric and the name of its file of weights, on which it depends besides the images."""

    text: str = ""
    weights: str = ""


@dataclass(frozen=True)
class Side:
    """The numbers of one run or evaluation.

    Attributes:
        folder: the folder that the user named.
        placements: names of the placements; the first is the method of the model by default.
        step: optimizer step of the weights; None if unknown, as for imported weights.
        scenes: metrics by scene; empty without an evaluation.
        views: context and target frames by scene.
        settings: of the evaluation: image_size, crop, index, precision, ...
        definitions: definition of each metric, as far as the folder has them.
        labels: description of each metric, from the section ``metrics`` of metrics.json.
        run: folder of the run that the weights come from; None if it does not exist here.
        log: the log of that run up to ``step``; None if there is none.
        notes: remarks on missing parts and on baselines, one sentence each.
    """

    folder: Path
    placements: tuple[str, ...]
    step: int | None
    scenes: Scenes = field(repr=False)
    views: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(repr=False)
    settings: Mapping[str, Any]
    run: Path | None
    log: RunLog | None = field(repr=False)
    notes: tuple[str, ...] = ()
    definitions: Mapping[str, Definition] = field(default_factory=dict)
    labels: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def methods(self) -> list[str]:
        """All methods of the scenes, in order of appearance."""
        return list(dict.fromkeys(method for scene in self.scenes.values() for method in scene))

    def method(self, wanted: str) -> str:
        """The method ``wanted``; if that is empty, the first placement."""
        return wanted or (self.placements[0] if self.placements else "joint")

    def values(self, method: str, metric: str) -> dict[str, float | None]:
        """Scene -> value of a metric, for the scenes that have it; None for a value that is not finite."""
        return {
            scene: methods[method][metric]
            for scene, methods in self.scenes.items()
            if metric in methods.get(method, {})
        }


def read_side(folder: Path) -> Side:
    """The numbers in ``folder``.

    Raises:
        InputError: the folder is neither a run nor an evaluation, or one of its files is broken.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    if (folder / LOG).is_file():
        return _of_run(folder)
    if (folder / METRICS).is_file():
        return _of_evaluation(folder, read_metrics(folder / METRICS), run=None)
    raise InputError(f"{folder} is neither a run ({LOG}) nor an evaluation ({METRICS} of `openrayzer evaluate`)")


def _of_run(folder: Path) -> Side:
    log, file = read_run_log(folder / LOG), folder / EVALUATED / METRICS
    if not file.is_file():
        last = log.train[-1]["step"] if log.train else None
        note = f"{folder}: has no {EVALUATED}/{METRICS}, so there are no numbers of single scenes"
        return Side(folder, (), last, {}, {}, _run_settings(folder), folder, log, (note,))
    values = read_metrics(file)
    return _of_evaluation(folder, values, run=folder) if "format" in values else _of_old_run(folder, values, log, file)


def _of_old_run(folder: Path, values: Mapping[str, Any], log: RunLog, file: Path) -> Side:
    """A run folder whose evaluation/metrics.json has the names of metrics.jsonl, from before format 1."""
    placement = "joint" if values.get("target_pixels_used_for_cameras", True) else "given_poses"
    scenes = values.get("scenes")
    if not isinstance(scenes, dict) or not isinstance(step := values.get("step"), int):
        raise InputError(f"{file}: has no scenes or no step")
    methods = methods_of("psnr", placement)
    index = read_metrics(file.with_name(INDEX)) if file.with_name(INDEX).is_file() else {}
    return Side(
        folder,
        (placement,),
        step,
        {
            scene: {methods[name]: {"psnr": value} for name, value in current_names(metrics).items() if name in methods}
            for scene, metrics in scenes.items()
        },
        {scene: _views(choice) for scene, choice in index.items() if choice},
        _run_settings(folder),
        folder,
        log.until(step),
    )


def _run_settings(folder: Path) -> dict[str, Any]:
    file = folder / EXPERIMENT
    data = read_metrics(file).get("data", {}) if file.is_file() else {}
    return {"image_size": data["image_size"]} if "image_size" in data else {}


def _of_evaluation(folder: Path, values: Mapping[str, Any], *, run: Path | None) -> Side:
    try:
        scenes, model, settings = values["per_scene"], values["model"], dict(values["settings"])
        placements = tuple(values["placements"])
        views = {scene: _views(entry) for scene, entry in scenes.items()}
        metrics = {scene: entry["metrics"] for scene, entry in scenes.items()}
        step, path = model["step"], Path(model["path"])
        labels = values.get("metrics") or {}
        definitions = _definitions(labels, settings)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{folder}: {METRICS} is no evaluation as `openrayzer evaluate` writes it: {error}") from error
    if settings.get("crop") == VAGUE_CROP:
        del settings["crop"]
    run = run or (path if (path / LOG).is_file() else None)
    notes = () if run else (f"{folder}: the run {path} is not here, so its steps, seconds and FLOPs are not known",)
    remarks = tuple(f"{folder}: {line}" for line in verdicts(values.get("against_baselines") or {}))
    log = read_run_log(run / LOG) if run and step is not None else None
    log = log.until(step) if log else None
    return Side(folder, placements, step, metrics, views, settings, run, log, (*notes, *remarks), definitions, labels)


def _definitions(metrics: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Definition]:
    """From the section ``metrics``; of an older evaluation, from its settings ``ssim`` and ``lpips``."""
    found = {
        name: Definition(about.get("definition") or "", Path(about.get("weights") or "").name)
        for name, about in metrics.items()
    }
    if not metrics and "ssim" in settings:
        found["ssim"] = Definition(settings["ssim"])
    if not metrics:
        lpips = settings.get("lpips") or {}
        found |= {f"lpips_{net}": Definition("", Path(weights).name) for net, weights in lpips.items()}
    return found


def _views(choice: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(choice["context"]), tuple(choice["target"])
