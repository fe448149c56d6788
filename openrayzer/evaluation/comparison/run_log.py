"""metrics.jsonl of a run: its records and the time of training."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openrayzer.interfaces import InputError
from openrayzer.settings import current_names


@dataclass(frozen=True)
class RunLog:
    """The records of the steps that led to the weights of a run. Of steps repeated after a resume, it has the last.

    Attributes:
        train: records of the training, by rising step.
        test: records of the evaluations, by rising step.
    """

    train: Sequence[Mapping[str, Any]]
    test: Sequence[Mapping[str, Any]]

    def seconds_until(self, step: int) -> float | None:
        """Seconds of training up to ``step``; None if the log ends before.

        The time of evaluations, pictures, checkpoints, and steps lost to an interruption does not count.
        """
        if step == 0:
            return 0.0
        steps = [line["step"] for line in self.train]
        each = [line.get("seconds") for line in self.train]
        if not steps or steps[-1] < step or not all(isinstance(value, int | float) for value in each):
            return None
        total = np.cumsum(np.diff([0, *steps]) * np.array(each, np.float64))
        return float(np.interp(step, [0, *steps], [0.0, *total]))

    def until(self, step: int) -> "RunLog":
        """The records up to ``step``."""
        return RunLog(
            [line for line in self.train if line["step"] <= step], [line for line in self.test if line["step"] <= step]
        )


def read_run_log(file: Path) -> RunLog:
    """The log of a run, with current names. NaN and infinite values become None; an incomplete last line is left out.

    Raises:
        InputError: the file cannot be read, or another line is broken.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read: {error}") from error
    kept: dict[tuple[int, str], Mapping[str, Any]] = {}
    last = 0
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line, parse_constant=lambda _: None)
            step, split = int(record["step"]), str(record["split"])
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break
            raise InputError(f"{file}: line {number} is not the record of a step: {error}") from error
        if step < last:  # resumed from a checkpoint: the records after it do not belong to the weights
            kept = {key: value for key, value in kept.items() if key[0] < step}
        kept[step, split] = current_names(record)
        last = step
    ordered = [kept[key] for key in sorted(kept)]
    return RunLog(
        [record for record in ordered if record["split"] == "train"],
        [record for record in ordered if record["split"] == "test"],
    )
