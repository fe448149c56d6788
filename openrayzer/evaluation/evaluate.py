"""A whole evaluation: measure the scenes on all processes, gather the results, write the output folder."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from openrayzer.data.loading.held_out_clips import evaluation_views
from openrayzer.evaluation.baselines.baseline import Baseline, baseline_seconds, baseline_table
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
    transfer_table,
    transfers_of,
)
from openrayzer.evaluation.scenes.rendering import RenderingTime
from openrayzer.evaluation.scenes.scene_pictures import Extremes
from openrayzer.evaluation.scenes.views_sweep import counts_that_fit, sweep
from openrayzer.evaluation.trials.transfer import TransferResult
from openrayzer.evaluation.trials.view_changes import single_clip
from openrayzer.interfaces import InputError, UnposedInputError
from openrayzer.machine import FittingBatches
from openrayzer.machine.autocast import autocast_to
from openrayzer.machine.distributed import Process, local_size
from openrayzer.machine.progress import with_progress
from openrayzer.machine.writing import whole_folder
from openrayzer.types import Views

LOG = logging.getLogger(__name__)
MOST_CAMERAS = 20_000
"""Largest number of views with all cameras in metrics.json. With more views, only scenes with pictures have them."""


@dataclass
class Tally:
    """The measurements of one process.

    Attributes:
        results: results of the evaluated scenes.
        skipped: scene name -> reason.
        transfers: results of each pair of clips.
        problems: faults that were worked around, one sentence each.
        seconds: duration of each baseline.
        rendering: time of the rendered views of the model.
    """

    results: list[SceneResult] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    transfers: list[dict[str, list[TransferResult]]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    rendering: RenderingTime = field(default_factory=RenderingTime)


def evaluate(request: EvaluationRequest, process: Process) -> dict[str, Any]:
    """Evaluate on all processes, and write the output folder.

    Returns:
        The content of metrics.json on the first process; an empty dict on the others.

    Raises:
        InputError: the request is wrong; the output folder does not change.
    """
    started = time.monotonic()
    process.by_first(lambda: refuse_output(Path(request.output)))
    opened = process.by_all(lambda: open_evaluation(request, process))
    _log_notes(opened.notes, process)
    tally = process.by_all(lambda: _measure_all(request, opened, process))
    parts = process.gather_to_first(tally)
    written: dict[str, Any] = {}

    def finish() -> None:
        written.update(_finish(request, opened, parts, started))

    process.by_first(finish)  # returns nothing, because its result would be sent to all processes
    return written


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
        rendering=tally.rendering,
    )
    tally.problems += counts.problems
    for views in with_progress(clips, total=len(clips), unit="batches", title="evaluate"):
        tally.problems += views.problems
        views = views.to(process.device)
        try:
            results = measure(views)
        except (InputError, UnposedInputError) as error:
            tally.skipped |= dict.fromkeys(views.scenes, str(error))
            continue
        tally.results += results
        for baseline in opened.baselines:
            tally.problems += baseline.add_to(results, views)
        for row, result in enumerate(results):
            clip = single_clip(views, row)
            tally.problems += _add_sweep(result, clip, measure, opened.baselines, counts.counts)
            tally.problems += _add_sanity(result, clip, measure) if request.sanity else []
        if request.sanity:
            tally.problems += sanity_notes(views, opened.placements)
    tally.skipped |= {skip.scene: skip.reason for skip in clips.skipped}
    if request.transfer:
        _add_transfers(tally, opened, process, measure.autocast)
    tally.seconds = {baseline.name: baseline.seconds for baseline in opened.baselines}
    return tally


def _add_sweep(
    result: SceneResult, clip: Views, measure: Measurer, baselines: Sequence[Baseline], counts: Sequence[int]
) -> list[str]:
    """Add the views sweep of the model and of the baselines to the result of a scene.

    Returns:
        A sentence if the model does not take the changed clips, and one for each number of views that a baseline does
        not take.
    """
    problems = []
    try:
        result.sweep = sweep(measure.means, clip, counts)
    except (InputError, UnposedInputError) as error:
        problems.append(f"no views sweep for {result.scene}: {error}")
    for baseline, count in product([each for each in baselines if each.swept], result.sweep):
        try:
            result.sweep[count] |= sweep(baseline.means, clip, (count,))[count]
        except (InputError, UnposedInputError) as error:
            problems.append(f"views sweep: no {baseline.name} from {count} context views: {error}")
    return problems


def _add_sanity(result: SceneResult, clip: Views, measure: Measurer) -> list[str]:
    """Add the sanity battery to the result of a scene; if the model does not take a changed clip, return the reason."""
    try:
        result.sanity = sanity_of(measure.model, clip, measure.placements, measure.autocast)
    except (InputError, UnposedInputError) as error:
        return [f"no sanity battery for {result.scene}: {error}"]
    return []


def _add_transfers(
    tally: Tally, opened: Opened, process: Process, autocast: Callable[[], AbstractContextManager]
) -> None:
    """Measure the transfer between scenes 1 and 2, 3 and 4, ...; the pairs do not depend on the number of processes."""
    pairs = evaluation_views(
        opened.data,
        replace(opened.evaluation, batch_size=2),
        rank=process.rank,
        world_size=process.world_size,
        dealt="batches",
    )
    for views in with_progress(pairs, total=len(pairs), unit="batches", title="transfer"):
        try:
            if views.target.shape[1] > 1:
                pair, oracle = views.to(process.device), opened.oracle
                tally.transfers.append(transfers_of(opened.model, pair, opened.placements, autocast, oracle=oracle))
        except (InputError, UnposedInputError) as error:
            tally.problems.append(f"no transfer between {' and '.join(views.scenes)}: {error}")


def _autocast(request: EvaluationRequest, process: Process) -> Callable[[], AbstractContextManager]:
    dtype = torch.bfloat16 if request.precision == "bfloat16" else None
    return partial(autocast_to, process.device.type, dtype)


def _finish(request: EvaluationRequest, opened: Opened, parts: Sequence[Tally], started: float) -> dict[str, Any]:
    """Merge the results of all processes and write them."""
    results = sorted((result for part in parts for result in part.results), key=lambda result: result.number)
    skipped = {scene: reason for part in parts for scene, reason in part.skipped.items()}
    if not results:
        reasons = "; ".join(dict.fromkeys(skipped.values()))
        raise InputError(f"none of {opened.clips.expected} scenes could be evaluated: {reasons}")
    _drop_pictures(results, request.pictures)
    _drop_cameras(results)
    transfers = [table for part in parts for table in part.transfers]
    seconds = {name: sum(part.seconds[name] for part in parts) for name in parts[0].seconds}
    metrics = metrics_of(
        results,
        model=opened.about_model,
        settings=opened.settings,
        placements=opened.placements,
        scores=opened.scores,
        clips=opened.clips,
        skipped=skipped,
        problems=[*opened.notes, *sorted({problem for part in parts for problem in part.problems})],
        seconds={"total": round(time.monotonic() - started, 3), "rendering": _rendering(parts)}
        | baseline_seconds(opened.baselines, results, seconds),
        transfer=transfer_table(transfers, oracle=str(request.transfer_oracle)),
        baselines=baseline_table(opened.baselines, results),
        bootstrap_seed=request.seed or 0,
    )
    with whole_folder(Path(request.output), replace=True) as folder:
        write_evaluation(folder, metrics, results, columns=opened.scores.names)
        write_report(folder)
    return metrics


def _rendering(parts: Sequence[Tally]) -> dict[str, float]:
    """Seconds of all renderings of the model, and views per second of one process."""
    seconds, views = (sum(getattr(part.rendering, name) for part in parts) for name in ("seconds", "views"))
    return {"total": round(seconds, 3), "views_per_second": round(views / seconds, 2) if seconds else 0.0}


def _drop_pictures(results: Sequence[SceneResult], first: int) -> None:
    """Of the scenes that the processes have drawn, keep the pictures of the first ones, the worst and the best."""
    extremes = Extremes(first=first)
    for result in results:
        if result.files:
            extremes.add(result)


def _drop_cameras(results: Sequence[SceneResult]) -> None:
    """If some scenes have no cameras, drop the cameras of all scenes without pictures."""
    if not all(result.cameras for result in results):
        for result in results:
            result.cameras = result.cameras if result.pictures else {}


def _log_notes(notes: Iterable[str], process: Process) -> None:
    for note in notes if process.is_first else ():
        LOG.warning("%s", note)
