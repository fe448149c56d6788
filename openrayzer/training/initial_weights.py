"""The weights with which a new run begins, and the record of their origin."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openrayzer.interfaces import concerning
from openrayzer.machine.distributed import Process
from openrayzer.settings import Experiment
from openrayzer.weights.finding import STARTED_FROM, find_weights, load_weights, record_beside
from openrayzer.weights.run_record import RUN, differences
from openrayzer.weights.weight_folder import IMPORTED, WEIGHTS, fill, origin_of

LOG = logging.getLogger(__name__)


def take_initial_weights(experiment: Experiment, *, run_folder: Path, process: Process) -> Path | None:
    """Load initial weights into the model of a new run, equally on all processes. Nothing is written.

    Args:
        experiment: names the weights in ``train.initial_weights``. Without that setting, a model.safetensors in the
            run folder is used, which an import writes there. Without either, the model keeps its random weights.
        run_folder: the run folder; it holds no checkpoint.
        process: this process.

    Returns:
        The checkpoint or file of the weights; None for random weights.

    Raises:
        InputError: the weights do not exist or do not fit the model.
    """
    model, wanted = experiment.model, experiment.train.initial_weights
    if wanted is None and not process.by_first((run_folder / WEIGHTS).is_file):
        return None
    with concerning("train.initial_weights" if wanted else f"--output {run_folder}"):
        place = process.by_first(lambda: find_weights(wanted or run_folder))
        process.by_all(lambda: fill(model, load_weights(place), source=place))
    return place


def with_origin(record: Mapping[str, Any], *, start: Path | None, weights: Path | None) -> dict[str, Any]:
    """The record of a run with the origin of its first weights.

    Resumed runs keep the origin, and so do runs that begin with the weights of this one.

    Args:
        record: of the run.
        start: the checkpoint from which the run goes on; None for a new run.
        weights: the initial weights of a new run; None for random weights.
    """
    place = start or weights
    if place is None:
        return dict(record)
    before = record_beside(place)
    imported = origin_of(before)
    first = before.get(RUN, {}).get(STARTED_FROM) if start else str(weights)
    known = ({IMPORTED: imported} if imported else {}) | ({STARTED_FROM: first} if first else {})
    return {**record, RUN: record[RUN] | known}


def warn_of_other_model(place: Path, record: Mapping[str, Any]) -> None:
    """Log a warning if weights that fit were trained in a model with other settings."""
    before = record_beside(place)
    if "model" in before:
        changed = differences({"model": before["model"]}, {"model": record.get("model")})
        if changed:
            lines = "\n  ".join(changed)
            LOG.warning("the weights fit, but they were trained in a model with other settings:\n  %s", lines)
