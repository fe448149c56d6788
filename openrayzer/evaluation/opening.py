"""From what a user asks to a model, clips and metrics; everything that can be refused is refused here."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrayzer.composer.build import Plan, construct
from openrayzer.composer.experiment import ExperimentPlan, load_experiment
from openrayzer.data.loading.held_out_clips import EvaluationClips, evaluation_views
from openrayzer.data.sampling.evaluation_index import EvaluationIndex
from openrayzer.evaluation.metrics.image_scores import ImageScores
from openrayzer.evaluation.placements import placements_for
from openrayzer.evaluation.protocols import find_protocol
from openrayzer.evaluation.request import EvaluationRequest
from openrayzer.interfaces import InputError, Model, ViewSampler, concerning, registered_name
from openrayzer.machine.distributed import Process
from openrayzer.settings import DataSettings, EvaluationSettings
from openrayzer.weights.finding import holds_average, record_beside, step_of_weights
from openrayzer.weights.loading import ModelPlace, find_model, load_model

_WITH_SPLIT = ("chunks", "synthetic")
"""Datasets whose folder holds held-out scenes apart; of others, all scenes are evaluated."""


@dataclass(frozen=True)
class Opened:
    """Everything an evaluation works with.

    Attributes:
        model: on the process's device, in evaluation mode.
        oracle: likewise, of the model that judges transfer; None for the evaluated one.
        about_model: what metrics.json says of it.
        data: test sources and how their clips are cut.
        evaluation: how views are chosen, and how many scenes.
        clips: this process's share of the scenes.
        placements: names of the ways to place targets.
        scores: the image metrics.
        views: what metrics.json says of protocol, index and sizes.
        notes: what is odd and allowed, one sentence each.
    """

    model: Model
    oracle: Model | None
    about_model: dict[str, Any]
    data: DataSettings
    evaluation: EvaluationSettings
    clips: EvaluationClips
    placements: tuple[str, ...]
    scores: ImageScores
    views: dict[str, Any]
    notes: list[str]


@dataclass(frozen=True)
class _Choice:
    """How views are chosen, and what is said of it."""

    sampler: ViewSampler
    about: dict[str, Any]
    image_size: tuple[int, int] | None
    notes: list[str]


def open_evaluation(request: EvaluationRequest, process: Process) -> Opened:
    """Model, clips and metrics of one process.

    Raises:
        InputError: something of the request cannot work; the message says what would.
    """
    place = find_model(request.run, checkpoint=request.checkpoint)
    planned = load_experiment(place.experiment, overrides=[*_data_override(request), *request.overrides])
    choice = _choose_views(request, planned)
    trained = tuple(planned.plan.arguments["data"].arguments["image_size"])
    size = request.image_size or choice.image_size or trained
    notes = [*choice.notes, *_size_notes(size, choice.image_size, trained)]
    scores = ImageScores(size, lpips={"vgg": request.lpips_vgg, "alex": request.lpips_alex}, device=process.device)
    model = load_model(request.run, checkpoint=request.checkpoint, weights=request.weights)
    with concerning("--image_size"):
        model.check_size(size)
    oracle = load_model(request.transfer_oracle) if request.transfer_oracle else None
    if oracle is not None:
        with concerning("--image_size"):
            oracle.check_size(size)
    data = _data_settings(planned.plan.arguments["data"], size, choice.sampler)
    placements = _placements(request, model, data)
    evaluation = EvaluationSettings(
        view_sampler=choice.sampler,
        max_scenes=request.max_scenes,
        batch_size=request.batch_size,
        seed=_seed(request, planned),
    )
    clips = evaluation_views(data, evaluation, rank=process.rank, world_size=process.world_size, dealt="batches")
    return Opened(
        model=model.to(process.device),
        oracle=oracle and oracle.to(process.device),
        about_model=_about(request, model, place),
        data=data,
        evaluation=evaluation,
        clips=clips,
        placements=placements,
        scores=scores,
        views=choice.about | {"image_size": list(size), "sources": _sources(planned)},
        notes=[*notes, *clips.problems],
    )


def _data_override(request: EvaluationRequest) -> list[str]:
    """The folders that were given, in place of the run's own test sources."""
    if not request.data:
        return []
    split = {"split": "test"} if request.dataset in _WITH_SPLIT else {}
    sources = [{"dataset": {"type": request.dataset, "root": str(root)} | split} for root in request.data]
    return [f"data.test={json.dumps(sources)}"]


def _choose_views(request: EvaluationRequest, planned: ExperimentPlan) -> _Choice:
    index = EvaluationIndex(path=request.index) if request.index else None
    about: dict[str, Any] = {"protocol": request.protocol or None, "index": _about_index(request.index)}
    if request.protocol:
        protocol = find_protocol(request.protocol)
        sampler, notes = protocol.view_sampler(index)
        return _Choice(sampler, about | {"protocol_rules": protocol.rules}, protocol.image_size, notes)
    if index is not None:
        return _Choice(index, about | {"protocol_rules": f"the views listed in {index.path}"}, None, [])
    section: Plan = planned.plan.arguments["evaluation"]
    rules = f"the run's own view sampler, {json.dumps(planned.resolved['evaluation']['view_sampler'], default=str)}"
    sampler = construct(section.arguments["view_sampler"])
    listed = sampler.path if isinstance(sampler, EvaluationIndex) else None
    return _Choice(sampler, about | {"index": _about_index(listed), "protocol_rules": rules}, None, [])


def _about_index(path: Path | None) -> dict[str, str] | None:
    if path is None:
        return None
    content = path.read_bytes()
    digests = {name: hashlib.new(name, content, usedforsecurity=False).hexdigest() for name in ("sha256", "md5")}
    return {"path": str(path)} | digests


def _size_notes(size: tuple[int, int], wanted: tuple[int, int] | None, trained: tuple[int, int]) -> list[str]:
    notes = []
    if wanted not in (None, size):
        notes.append(f"images of {_pixels(size)}; the protocol's are {_pixels(wanted)}")
    if size != trained:
        notes.append(f"images of {_pixels(size)}; the model was trained on {_pixels(trained)}")
    return notes


def _pixels(size: tuple[int, ...] | None) -> str:
    return " x ".join(map(str, size or ()))


def _data_settings(section: Plan, size: tuple[int, int], sampler: ViewSampler) -> DataSettings:
    """The run's data settings with the test sources only: its training data may be on another machine."""
    values = section.arguments
    test = construct(values["test"])
    if not test:
        raise InputError("the run names no test data; give --data FOLDER")
    kept = {name: values[name] for name in ("normalise_poses", "scene_scale", "workers", "prefetch")}
    return DataSettings(train=tuple(test), test=tuple(test), view_sampler=sampler, image_size=size, **kept)


def _seed(request: EvaluationRequest, planned: ExperimentPlan) -> int:
    if request.seed is not None:
        return request.seed
    return planned.plan.arguments["evaluation"].arguments["seed"]


def _placements(request: EvaluationRequest, model: Model, data: DataSettings) -> tuple[str, ...]:
    """Those asked for, or all that work."""
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


def _about(request: EvaluationRequest, model: Model, place: ModelPlace) -> dict[str, Any]:
    steps = step_of_weights(place.weights, record_beside(place.weights))
    return {
        "path": request.run,
        "weights_file": str(place.weights),
        "averaged": holds_average(place.weights, request.weights),
        "type": registered_name(model),
        "step": steps or None,
        "weights": sum(weight.numel() for weight in model.parameters()),
        "posed": model.posed,
    }


def _sources(planned: ExperimentPlan) -> list[str]:
    return [json.dumps(source["dataset"], default=str) for source in planned.resolved["data"]["test"]]
