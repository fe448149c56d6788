"""What an optimizer step of a run costs."""

from pathlib import Path

import torch

from openrayzer.composer import load_experiment
from openrayzer.interfaces import InputError
from openrayzer.planning.flops import count_flops


def step_flops(run: Path) -> float:
    """Floating point operations of one optimizer step of the run in a folder, counted without computing anything.

    Raises:
        InputError: its experiment cannot be built here, or does not say what a clip looks like without its data.
    """
    try:
        planned = load_experiment(run / "experiment.json")
        with torch.device("meta"):
            return float(count_flops(planned.build()).step)
    except InputError:
        raise
    except Exception as error:  # models and samplers may be foreign code, and a comparison can do without
        first_line = str(error).partition("\n")[0]
        raise InputError(f"{type(error).__name__}: {first_line}") from error
