"""The speed of rasterisers is measured beside their difference from "torch"; one that cannot run gives its reason."""

import sys
import time
from pathlib import Path
from runpy import run_path

import pytest

from openrayzer.benchmarks.rasteriser_speed import CONTEXTS, measure_rasterisers
from openrayzer.interfaces import RASTERISERS, InputError

TOOL = Path(__file__).parents[2] / "tools" / "benchmark_rendering.py"


def test_every_rasteriser_is_measured_or_gives_its_reason():
    found = measure_rasterisers([4, 9], size=8, targets=1, batch=2, rounds=1, clock=time.process_time)
    names = [entry.name for entry in RASTERISERS if entry.name != "auto"]
    assert [(line.gaussians, line.name) for line in found] == [
        (CONTEXTS * gaussians, name) for gaussians in (4, 9) for name in names
    ]
    for line in found:
        if line.refusal:
            assert line.step is None
        else:
            assert line.step.median > 0
            assert line.difference < 1e-4
            assert line.gradient < 1e-3


@pytest.mark.parametrize(("gaussians", "says"), [(5, "must be a square"), (0, "must be 1 or more")])
def test_impossible_numbers_of_gaussians_are_refused(gaussians, says):
    with pytest.raises(InputError, match=says):
        measure_rasterisers([gaussians], clock=time.process_time)


def test_the_tool_prints_one_row_for_each_rasteriser(monkeypatch, capsys):
    options = ["--rasterisers", "4", "--image_size", "8", "--batch", "1", "--targets", "1", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["benchmark_rendering.py", *options])
    assert run_path(str(TOOL))["main"]() == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == ["rasteriser", "gsplat", "torch"]
    assert rows[2].split()[1] == "12"
