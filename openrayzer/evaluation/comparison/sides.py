"""One thing to compare: a run folder, or a folder that tools/evaluate.py wrote."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openrayzer.evaluation.comparison.run_log import RunLog, read_run_log
from openrayzer.evaluation.report import read_metrics
from openrayzer.evaluation.results.output_folder import METRICS
from openrayzer.interfaces import InputError
from openrayzer.weights.run_layout import EVALUATED, EXPERIMENT
from openrayzer.weights.run_layout import METRICS as LOG

INDEX = "index.json"
OF_TRAINING = {
    "nearest_context": "{metric}_nearest_context",
    "mean_context": "{metric}_mean_context",
    "{placement}_exchanged_cameras": "{metric}_shuffled_cameras",
    "{placement}": "{metric}",
}
"""How the evaluation while training calls a metric of each method."""

Scenes = Mapping[str, Mapping[str, Mapping[str, float | None]]]
"""Scene to method to metric to value."""


@dataclass(frozen=True)
class Side:
    """What is known of one of the things compared.

    Attributes:
        folder: as it was given.
        placements: ways in which targets were placed; the first stands for the model.
        step: of the weights; None where it is not known, as of imported weights.
        scenes: metrics by scene; empty where there is no evaluation.
        views: context and target frames by scene.
        settings: what else a number depends on: image_size, crop, ssim, lpips_vgg, lpips_alex, index, precision, ...
        run: folder of the run that the weights come from; None where it is not there.
        log: that run's log up to ``step``; None where there is none.
        notes: what is missing, one sentence each.
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

    @property
    def methods(self) -> list[str]:
        """All methods that some scene has, in order of appearance."""
        return list(dict.fromkeys(method for scene in self.scenes.values() for method in scene))

    def method(self, wanted: str) -> str:
        """The method called ``wanted``; empty means the first placement."""
        return wanted or (self.placements[0] if self.placements else "joint")

    def values(self, method: str, metric: str) -> dict[str, float | None]:
        """A metric of each scene that was judged by it; None where it is not finite."""
        return {
            scene: methods[method][metric]
            for scene, methods in self.scenes.items()
            if metric in methods.get(method, {})
        }

    def test_name(self, method: str, metric: str) -> str:
        """How metrics.jsonl calls a metric of a method; empty where it has no word for it."""
        for name, key in OF_TRAINING.items():
            if any(name.format(placement=placement) == method for placement in ("joint", "given_poses")):
                return key.format(metric=metric)
        return ""


def read_side(folder: Path) -> Side:
    """What ``folder`` says.

    Raises:
        InputError: it is neither a run nor an evaluation, or one of its files is broken.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    if (folder / LOG).is_file():
        return _of_run(folder)
    if (folder / METRICS).is_file():
        return _of_evaluation(folder, read_metrics(folder / METRICS), run=None)
    raise InputError(f"{folder} is neither a run ({LOG}) nor an evaluation ({METRICS}, as tools/evaluate.py writes it)")


def _of_run(folder: Path) -> Side:
    log, file = read_run_log(folder / LOG), folder / EVALUATED / METRICS
    if not file.is_file():
        last = log.train[-1]["step"] if log.train else None
        note = f"{folder}: has no {EVALUATED}/{METRICS}, so nothing is known of single scenes"
        return Side(folder, (), last, {}, {}, _run_settings(folder), folder, log, (note,))
    values = read_metrics(file)
    if "format" in values:
        return _of_evaluation(folder, values, run=folder)
    placement = "joint" if values.get("target_pixels_used_for_cameras", True) else "given_poses"
    flat = values.get("scenes")
    if not isinstance(flat, dict) or not isinstance(step := values.get("step"), int):
        raise InputError(f"{file}: has no scenes or no step")
    index = read_metrics(file.with_name(INDEX)) if file.with_name(INDEX).is_file() else {}
    return Side(
        folder,
        (placement,),
        step,
        {scene: _by_method(metrics, placement) for scene, metrics in flat.items()},
        {scene: _views(choice) for scene, choice in index.items() if choice},
        _run_settings(folder),
        folder,
        log.until(step),
    )


def _by_method(metrics: Mapping[str, float | None], placement: str) -> dict[str, dict[str, float | None]]:
    """``psnr_nearest_context`` and its like as method and metric."""
    methods: dict[str, dict[str, float | None]] = {}
    for name, value in metrics.items():
        for method, key in OF_TRAINING.items():
            ending = key.removeprefix("{metric}")
            if name.endswith(ending):
                methods.setdefault(method.format(placement=placement), {})[name.removesuffix(ending)] = value
                break
    return methods


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
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{folder}: {METRICS} is no evaluation as tools/evaluate.py writes it: {error}") from error
    settings |= {f"lpips_{net}": weights for net, weights in (settings.pop("lpips", None) or {}).items()}
    run = run or (path if (path / LOG).is_file() else None)
    notes = () if run else (f"{folder}: the run {path} is not here, so its steps, seconds and FLOPs are not known",)
    log = read_run_log(run / LOG) if run and step is not None else None
    return Side(folder, placements, step, metrics, views, settings, run, log.until(step) if log else None, notes)


def _views(choice: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(choice["context"]), tuple(choice["target"])
