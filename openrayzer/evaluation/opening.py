"""Opening of an evaluation: the model, the clips and the metrics that a request names. Wrong requests fail here."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Any

from openrayzer.composer.build import Plan, construct
from openrayzer.composer.experiment import ExperimentPlan
from openrayzer.data.loading.held_out_clips import EvaluationClips, evaluation_views
from openrayzer.data.sampling.evaluation_index import EvaluationIndex
from openrayzer.evaluation.baselines.baseline import Baseline
from openrayzer.evaluation.baselines.choice import open_baselines
from openrayzer.evaluation.metrics.image_scores import ImageScores
from openrayzer.evaluation.metrics_file import about_model, own_views, source_names
from openrayzer.evaluation.placements import placements_for
from openrayzer.evaluation.protocols import find_protocol
from openrayzer.evaluation.request import EvaluationRequest
from openrayzer.evaluation.scenes.scene_pictures import ERROR_MAPS, MODEL_MAPS
from openrayzer.evaluation.trained_views import trained_views_notes
from openrayzer.interfaces import DATASETS, PLUGIN_GROUP, InputError, Model, ViewSampler, concerning, registered_name
from openrayzer.machine import FittingBatches
from openrayzer.machine.distributed import Process, local_size
from openrayzer.settings import DataSettings, EvaluationSettings
from openrayzer.weights.finding import holds_average, record_beside, step_of_weights
from openrayzer.weights.loading import SavedModel, load_model, open_model
from registry import PluginError, load_plugin


@dataclass(frozen=True)
class Opened:
    """Everything that an evaluation needs.

    Attributes:
        model: the evaluated model, on the device of the process, in evaluation mode.
        oracle: the model that judges the transfer, on the same device, in evaluation mode; None for the evaluated
            model.
        about_model: section ``model`` of metrics.json.
        data: test sources and settings of their images.
        evaluation: view sampler and number of scenes.
        clips: the scenes of this process.
        placements: names of the placements.
        scores: the image metrics.
        baselines: baselines that look at the images.
        settings: section ``settings`` of metrics.json.
        notes: remarks on the request, one sentence each.
    """

    model: Model
    oracle: Model | None
    about_model: Mapping[str, Any]
    data: DataSettings
    evaluation: EvaluationSettings
    clips: EvaluationClips
    placements: tuple[str, ...]
    scores: ImageScores
    baselines: tuple[Baseline, ...]
    settings: Mapping[str, Any]
    notes: list[str]


@dataclass(frozen=True)
class _ViewChoice:
    """The view sampler, its description for metrics.json, and the image size of the protocol."""

    sampler: ViewSampler
    about: dict[str, Any]
    image_size: tuple[int, int] | None
    notes: list[str]


def open_evaluation(request: EvaluationRequest, process: Process) -> Opened:
    """Open the model, clips and metrics of one process.

    Raises:
        InputError: the request is wrong; the message gives a remedy.
        UnknownNameError: no metric has the requested name.
    """
    _load_plugins(request)
    overrides = [*_data_override(request), *request.overrides]
    saved = open_model(request.run, checkpoint=request.checkpoint, weights=request.weights, overrides=overrides)
    choice = _choose_views(request, saved.plan)
    data, evaluation = _sections(request, saved.plan, choice.sampler)
    trained, size = data.image_size, request.image_size or choice.image_size or data.image_size
    data = replace(data, image_size=size)
    weights = {metric: Path(file) for metric, file in request.metric_weights.items()}
    scores = ImageScores(size, metrics=request.metrics or None, weights=weights, device=process.device)
    oracle = load_model(request.transfer_oracle) if request.transfer_oracle else None
    with concerning("--image_size"):
        for model in (saved.model, oracle):
            if model is not None:
                model.check_size(size)
    placements = _placements(request, saved.model, data)
    baselines, misfits = open_baselines(
        request.baselines,
        image_size=size,
        placements=placements,
        scores=scores,
        device=process.device,
        batches=FittingBatches(request.views_at_once, device=process.device, processes=local_size()),
    )
    has_maps = type(saved.model).render_maps is not Model.render_maps  # otherwise it cannot have depth maps
    clips = evaluation_views(
        data,
        evaluation,
        rank=process.rank,
        world_size=process.world_size,
        dealt="batches",
        with_depth=has_maps or any(baseline.has_depth for baseline in baselines),
    )
    sampler = saved.plan.resolved["data"]["view_sampler"]
    views = trained_views_notes(saved.model, clips.choices.values(), sampler)
    settings = choice.about | {
        "image_size": list(size),
        "sources": source_names(saved.plan.resolved),
        "error_maps": ERROR_MAPS,
        "model_maps": MODEL_MAPS,
        "precision": request.precision,
        "world_size": process.world_size,
        "batch_size": request.batch_size,
        "seed": evaluation.seed,
        "max_scenes": request.max_scenes,
    }
    return Opened(
        model=saved.model.to(process.device),
        oracle=oracle and oracle.to(process.device),
        about_model=_about(request, saved),
        data=data,
        evaluation=evaluation,
        clips=clips,
        placements=placements,
        scores=scores,
        baselines=baselines,
        settings=settings,
        notes=[*choice.notes, *misfits, *_size_notes(size, choice.image_size, trained), *views, *clips.problems],
    )


def _load_plugins(request: EvaluationRequest) -> None:
    for plugin in request.plugins:
        try:
            load_plugin(plugin, group=PLUGIN_GROUP)
        except PluginError as error:
            raise InputError(f"--plugin: {error}") from error


def _data_override(request: EvaluationRequest) -> list[str]:
    """An override that replaces the run's test sources by the given folders."""
    if not request.data:
        return []
    has_split = request.dataset in DATASETS and "split" in signature(DATASETS[request.dataset]).parameters
    split = {"split": "test"} if has_split else {}  # of the other datasets, all scenes are evaluated
    sources = [{"dataset": {"type": request.dataset, "root": str(root)} | split} for root in request.data]
    return [f"data.test={json.dumps(sources)}"]


def _choose_views(request: EvaluationRequest, planned: ExperimentPlan) -> _ViewChoice:
    index = EvaluationIndex(path=request.index) if request.index else None
    about: dict[str, Any] = {"protocol": request.protocol or None, "index": _about_index(request.index)}
    if request.protocol:
        protocol = find_protocol(request.protocol)
        sampler, notes = protocol.view_sampler(index)
        return _ViewChoice(sampler, about | {"protocol_rules": protocol.rules}, protocol.image_size, notes)
    if index is not None:
        return _ViewChoice(index, about | {"protocol_rules": f"the views listed in {index.path}"}, None, [])
    section: Plan = planned.plan.arguments["evaluation"]
    sampler = construct(section.arguments["view_sampler"])
    listed = sampler.path if isinstance(sampler, EvaluationIndex) else None
    return _ViewChoice(
        sampler, about | {"index": _about_index(listed), "protocol_rules": own_views(planned.resolved)}, None, []
    )


def _about_index(path: str | Path | None) -> dict[str, str] | None:
    if path is None:
        return None
    content = Path(path).read_bytes()
    digests = {name: hashlib.new(name, content, usedforsecurity=False).hexdigest() for name in ("sha256", "md5")}
    return {"path": str(path)} | digests


def _sections(
    request: EvaluationRequest, planned: ExperimentPlan, sampler: ViewSampler
) -> tuple[DataSettings, EvaluationSettings]:
    """The sections ``data`` and ``evaluation`` of the run, without the parts that only training needs.

    Training sources, the view sampler and augmentations are not built, because their files may be on another machine.
    """
    data: Plan = planned.plan.arguments["data"]
    test = data.arguments["test"]
    if not test:
        raise InputError("the run names no test data; give --data FOLDER")
    changes = {"train": test, "view_sampler": sampler, "augmentations": (), "cache": None, "scaled_decoding": False}
    evaluation: Plan = planned.plan.arguments["evaluation"]
    limits: dict[str, Any] = {"max_scenes": request.max_scenes, "batch_size": request.batch_size}
    limits |= {} if request.seed is None else {"seed": request.seed}
    return (
        construct(replace(data, arguments=data.arguments | changes)),
        construct(replace(evaluation, arguments=evaluation.arguments | limits | {"view_sampler": sampler})),
    )


def _size_notes(size: tuple[int, int], wanted: tuple[int, int] | None, trained: tuple[int, int]) -> list[str]:
    notes = []
    if wanted not in (None, size):
        notes.append(f"images of {_pixels(size)}; the size of the protocol is {_pixels(wanted)}")
    if size != trained:
        notes.append(f"images of {_pixels(size)}; the model was trained on {_pixels(trained)}")
    return notes


def _pixels(size: tuple[int, ...] | None) -> str:
    return " x ".join(map(str, size or ()))


def _placements(request: EvaluationRequest, model: Model, data: DataSettings) -> tuple[str, ...]:
    """The placements of the request, or all that fit the model."""
    name = registered_name(model)
    for source in data.test:
        if not placements_for(model, source.dataset.posed):
            what = "camera poses" if model.posed else "intrinsics"
            raise InputError(f"the model {name!r} needs {what}, and {registered_name(source.dataset)!r} has no cameras")
    possible = placements_for(model, True)
    wrong = [placement for placement in request.placements if placement not in possible]
    if wrong:
        kind = "is given camera poses" if model.posed else "estimates camera poses"
        raise InputError(
            f"placement {', '.join(wrong)} does not fit the model {name!r}, which {kind}; take {', '.join(possible)}"
        )
    return request.placements or possible


def _about(request: EvaluationRequest, saved: SavedModel) -> dict[str, Any]:
    return about_model(
        saved.model,
        path=str(request.run),
        weights_file=str(saved.place),
        averaged=holds_average(saved.place, request.weights),
        step=step_of_weights(saved.place, record_beside(saved.place)) or None,
        num_weights=sum(weight.numel() for weight in saved.model.parameters()),
    )
