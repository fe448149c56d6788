"""The weights that a run begins with, and the record of them."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openrayzer.interfaces import InputError
from openrayzer.machine.distributed import Process
from openrayzer.settings import Experiment
from openrayzer.weights.finding import STARTED_FROM, find_weights, load_weights, record_beside
from openrayzer.weights.run_record import RUN, differences
from openrayzer.weights.weight_folder import IMPORTED, WEIGHTS, fill, origin_of

LOG = logging.getLogger(__name__)


def take_initial_weights(experiment: Experiment, *, run_folder: Path, process: Process) -> Path | None:
    """Fill the model of a run that starts from nothing; on all processes alike, and before anything is written.

    Args:
        experiment: its model is filled with ``train.initial_weights``. Where it names none, the model.safetensors of
            the run folder is taken, which an import left there; without one the model stays as it is.
        run_folder: where the run is going to be written; it holds no checkpoint.
        process: this process.

    Returns:
        The checkpoint or file; None if there is none.

    Raises:
        InputError: there are no such weights, or they are of another model.
    """
    model, wanted = experiment.model, experiment.train.initial_weights
    if wanted is None and not process.by_first((run_folder / WEIGHTS).is_file):
        return None
    with _named("train.initial_weights" if wanted else f"--output {run_folder}"):
        place = process.by_first(lambda: find_weights(wanted or run_folder))
        process.by_all(lambda: fill(model, load_weights(place), source=place))
    return place


def with_origin(record: Mapping[str, Any], *, start: Path | None, weights: Path | None) -> dict[str, Any]:
    """The record of a run with what is known of the weights it began with: kept in every resume and every descendant.

    Args:
        record: of the run.
        start: the checkpoint it goes on from, if any.
        weights: what it starts with otherwise, if not with random weights.
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
    """Log how the model that the weights were trained in differs from that of a run, although they fit."""
    before = record_beside(place)
    if "model" in before:
        changed = differences({"model": before["model"]}, {"model": record.get("model")})
        if changed:
            lines = "\n  ".join(changed)
            LOG.warning("these weights fit, but were trained in a model that differs:\n  %s", lines)


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Begin the message of an InputError with what the user gave."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{what}: {error}") from error
