"""A whole evaluation: open, measure on all ranks, gather, write."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from tqdm import tqdm

from openrayzer.data.loading.held_out_clips import EvaluationClips, evaluation_views
from openrayzer.evaluation.metrics_file import metrics_of
from openrayzer.evaluation.opening import Opened, open_evaluation
from openrayzer.evaluation.report import write_report
from openrayzer.evaluation.request import EvaluationRequest
from openrayzer.evaluation.results.output_folder import refuse_output, write_evaluation
from openrayzer.evaluation.results.scene_result import SceneResult
from openrayzer.evaluation.scenes.measuring import Measurer
from openrayzer.evaluation.scenes.pose_trials import (
    refuse_transfer,
    sanity_notes,
    sanity_of,
    transfers_of,
)
from openrayzer.evaluation.scenes.scene_pictures import Extremes
from openrayzer.evaluation.scenes.views_sweep import counts_that_fit, sweep
from openrayzer.evaluation.trials.transfer import TransferResult
from openrayzer.evaluation.trials.view_changes import single_clip
from openrayzer.interfaces import InputError, UnposedInputError
from openrayzer.machine import FittingBatches
from openrayzer.machine.autocast import autocast_to
from openrayzer.machine.distributed import Process, local_size
from openrayzer.machine.writing import whole_folder
from openrayzer.types import Views

LOG = logging.getLogger(__name__)
MOST_CAMERAS = 20_000
"""Views up to which all cameras are written; beyond, only those of scenes with pictures."""


@dataclass
class Tally:
    """What one process found out.

    Attributes:
        results: of the scenes that could be evaluated.
        skipped: scene to reason.
        transfers: of each pair of clips.
        problems: what was broken on the way and worked around.
    """

    results: list[SceneResult] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    transfers: list[dict[str, list[TransferResult]]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def evaluate(request: EvaluationRequest, process: Process) -> dict[str, Any]:
    """Evaluate, on all processes, and write the output folder.

    Returns:
        The content of metrics.json, on the first process; nothing on others.

    Raises:
        InputError: something the user gave cannot work; the output folder is as it was.
    """
    started = time.monotonic()
    process.by_first(lambda: refuse_output(request.output))
    box: list[Opened] = []
    process.by_all(lambda: box.append(open_evaluation(request, process)))
    opened = box[0]
    _say(opened.notes, process)
    tallies: list[Tally] = []
    process.by_all(lambda: tallies.append(_measure_all(request, opened, process)))
    parts = process.gather_to_first(tallies[0])
    written: list[dict[str, Any]] = []
    process.by_first(lambda: written.append(_finish(request, opened, parts, process, started)))
    return written[0] if written else {}


def _measure_all(request: EvaluationRequest, opened: Opened, process: Process) -> Tally:
    clips, tally = opened.clips, Tally()
    counts = counts_that_fit(request.sweep, clips.choices)
    if request.transfer:
        refuse_transfer(opened.model, clips.choices.values(), oracle=opened.oracle)
    measure = Measurer(
        model=opened.model,
        placements=opened.placements,
        scores=opened.scores,
        autocast=_autocast(request, process),
        batches=FittingBatches(request.views_at_once, device=process.device, processes=local_size()),
        numbers={scene: number for number, scene in enumerate(clips.choices)},
        extremes=Extremes(first=request.pictures),
        with_cameras=sum(len(choice.frames) for choice in clips.choices.values()) <= MOST_CAMERAS,
    )
    tally.problems += counts.problems
    for views in _with_progress(clips, process):
        tally.problems += views.problems
        views = views.to(process.device)
        try:
            results = measure(views)
        except (InputError, UnposedInputError) as error:
            tally.skipped |= dict.fromkeys(views.scenes, str(error))
            continue
        tally.results += results
        for row, result in enumerate(results):
            clip = single_clip(views, row)
            tally.problems += _add_trials(result, clip, measure, counts.counts, sanity=request.sanity)
        if request.sanity:
            tally.problems += sanity_notes(views, opened.placements)
    tally.skipped |= {skip.scene: skip.reason for skip in clips.skipped}
    if request.transfer:
        _add_transfers(tally, opened, process, measure.autocast)
    return tally


def _add_trials(
    result: SceneResult, clip: Views, measure: Measurer, counts: Sequence[int], *, sanity: bool
) -> list[str]:
    """Views sweep and sanity battery of a scene; why it has none where the model does not take the changed clip."""
    problems = []
    try:
        result.sweep = sweep(measure, clip, counts)
    except (InputError, UnposedInputError) as error:
        problems.append(f"no views sweep of {result.scene}: {error}")
    try:
        result.sanity = sanity_of(measure.model, clip, measure.placements, measure.autocast) if sanity else {}
    except (InputError, UnposedInputError) as error:
        problems.append(f"no sanity battery of {result.scene}: {error}")
    return problems


def _add_transfers(
    tally: Tally, opened: Opened, process: Process, autocast: Callable[[], AbstractContextManager]
) -> None:
    """Scenes in pairs, in their order; who is paired does not depend on the number of processes."""
    pairs = evaluation_views(
        opened.data,
        replace(opened.evaluation, batch_size=2),
        rank=process.rank,
        world_size=process.world_size,
        dealt="batches",
    )
    for views in _with_progress(pairs, process):
        try:
            if views.target.shape[1] > 1:
                pair, oracle = views.to(process.device), opened.oracle
                tally.transfers.append(transfers_of(opened.model, pair, opened.placements, autocast, oracle=oracle))
        except (InputError, UnposedInputError) as error:
            tally.problems.append(f"no transfer between {' and '.join(views.scenes)}: {error}")


def _autocast(request: EvaluationRequest, process: Process) -> Callable[[], AbstractContextManager]:
    dtype = torch.bfloat16 if request.precision == "bfloat16" else None
    return partial(autocast_to, process.device.type, dtype)


def _with_progress(clips: EvaluationClips, process: Process) -> Iterable[Views]:
    silent = None if process.is_first else True  # None: only where somebody watches
    return tqdm(clips, total=len(clips), unit="batch", disable=silent, dynamic_ncols=True)


def _finish(
    request: EvaluationRequest, opened: Opened, parts: list[Tally], process: Process, started: float
) -> dict[str, Any]:
    """Put the parts together and write them."""
    results = sorted((result for part in parts for result in part.results), key=lambda result: result.number)
    skipped = {scene: reason for part in parts for scene, reason in part.skipped.items()}
    if not results:
        reasons = "; ".join(dict.fromkeys(skipped.values()))
        raise InputError(f"none of {opened.clips.expected} scenes could be evaluated: {reasons}")
    _keep_pictures(results, request.pictures, opened.placements[0])
    _keep_cameras(results)
    metrics = metrics_of(
        request,
        opened,
        results,
        skipped=dict(sorted(skipped.items())),
        problems=sorted({problem for part in parts for problem in part.problems}),
        transfers=[table for part in parts for table in part.transfers],
        world_size=process.world_size,
        seconds=time.monotonic() - started,
    )
    with whole_folder(request.output, replace=True) as folder:
        write_evaluation(folder, metrics, results)
        write_report(folder)
    return metrics


def _keep_pictures(results: list[SceneResult], first: int, placement: str) -> None:
    """Of the scenes that processes drew, the first ones and the worst and best of all."""
    extremes = Extremes(first=first)
    for result in results:
        quality = result.mean(placement, "psnr")
        if result.files:
            extremes.add(result, math.nan if quality is None else quality)


def _keep_cameras(results: list[SceneResult]) -> None:
    """Leave out the cameras of scenes without pictures where there would be too many."""
    if not all(result.cameras for result in results):
        for result in results:
            result.cameras = result.cameras if result.pictures else {}


def _say(notes: Iterable[str], process: Process) -> None:
    for note in notes if process.is_first else ():
        LOG.warning("%s", note)
