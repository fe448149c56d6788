"""tools/measure_gpu.sh with doubles for the tools: its parts, failures, time limits and tables."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from openrayzer.benchmarks.gpu_tables import BEGIN, END, EXPERIMENTS, UNKNOWN, replaced, tables
from openrayzer.cli import COMMANDS
from openrayzer.interfaces import InputError

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tools/measure_gpu.sh"
TIMING = {"median": 0.5, "minimum": 0.4}
STEP = {
    "name": "x", "batch": 16, "step": TIMING, "views_per_second": 320.0, "flops": 2e14, "own_shapes": 8e14,
    "square": 6e14, "peak_bytes": 100 * 2**30, "state_bytes": 3 * 2**30, "data_wait": 0.012,
}  # fmt: skip
CALL = {"kind": "global", "batch": 1, "queries": 2048, "keys": 2048, "dtype": "bfloat16"}
ATTENTION = [
    {"call": CALL, "direction": direction, "backend": name, "seconds": TIMING, "chosen": name == "flash"}
    for direction in ("forward", "forward and backward")
    for name in ("flash", "xformers")
]
ATTENTION.append(ATTENTION[-1] | {"backend": "cudnn", "seconds": None})
RENDERING = [{"name": "reading, 8 views per call", "seconds": TIMING, "views": 50, "faster": 3.0}]
RASTERISERS = [
    {"name": "torch", "gaussians": 49152, "refusal": "", "forward": TIMING, "step": TIMING, "gradient": 0.0},
    {"name": "gsplat", "gaussians": 49152, "refusal": "no gsplat", "forward": None, "step": None, "gradient": None},
]
# Stands for Python and the tools: writes the requested file and records its call. A call with a name in FAILING fails.
DOUBLE = """#!{python}
import json, os, sys, time
from pathlib import Path
arguments = sys.argv[1:]
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps(arguments) + "\\n")
if arguments[0] == "-m":
    os.execv("{python}", ["{python}", *arguments])
if arguments[0] == "-c":
    print(1)
    sys.exit()
if any(name in " ".join(arguments) for name in os.environ.get("FAILING", "").split()):
    sys.exit("out of order")
if any(name in " ".join(arguments) for name in os.environ.get("SLOW", "").split()):
    time.sleep(60)
place = arguments[arguments.index("--json" if "--json" in arguments else "--output") + 1]
name = "rasterisers" if "--rasterisers" in arguments else Path(arguments[0]).stem
content = json.loads(os.environ["CONTENT"])[name]
file = Path(place) if place.endswith(".json") else Path(place + ".json")
file.write_text(json.dumps(content * (2 if "ddp" in arguments else 1) if isinstance(content, list) else content))
"""
CONTENT = {
    "check_gpu": {"installation": {"torch": "2.14.1", "GPU 0": "NVIDIA H200"}},
    "benchmark_attention": ATTENTION, "benchmark_rendering": RENDERING, "benchmark_training": [STEP],
    "rasterisers": RASTERISERS,
}  # fmt: skip


@pytest.fixture
def measure(tmp_path: Path) -> Any:
    """Runs the script with doubles for the tools; returns exit code, output and calls."""
    double = tmp_path / "python"
    double.write_text(DOUBLE.replace("{python}", sys.executable))
    double.chmod(0o755)

    def run(**settings: str) -> tuple[int, str, list[list[str]]]:
        given = {"PYTHON": str(double), "OUT": str(tmp_path / "out"), "CALLS": str(tmp_path / "calls"),
                 "CONTENT": json.dumps(CONTENT)}  # fmt: skip
        done = subprocess.run(
            ["bash", str(SCRIPT)], env=os.environ | given | settings, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
        return done.returncode, done.stdout + done.stderr, calls

    return run


def test_bash_can_parse_the_script():
    assert subprocess.run(["bash", "-n", str(SCRIPT)], check=False).returncode == 0
    assert os.access(SCRIPT, os.X_OK)


def test_every_part_is_measured_and_fills_a_table(measure: Any, tmp_path: Path):
    code, output, calls = measure(CHANGES="train.batch_size=8")
    assert code == 0, output
    assert UNKNOWN not in output
    assert "Measured on: torch 2.14.1; GPU 0 NVIDIA H200." in output
    assert "| call | dtype | flash | xformers |" in output
    assert "| global, 1 x 2048 -> 2048 | bfloat16 | **500.00** | 500.00 |" in output
    for name in EXPERIMENTS:
        assert f"| `{name}` | 16 | 500 | 320 | 400 | 50 % | 67 % | 100.0 |" in output
    assert "| step, median, ms | 500 | 500 | 1.00 |" in output
    assert "| reading, 8 views per call | 10.00 | 3.00 |" in output
    assert "| 16 | 500 | 320 | 1.2 % of the step |" in output
    assert "| torch | 49,152 | 500.0 | 500.0 | 0.0e+00 |" in output
    assert "| gsplat | 49,152 |  |  | no gsplat |" in output
    assert (tmp_path / "out/summary.md").read_text() in output
    steps = [call for call in calls if call[0] == "tools/benchmark_training.py"]
    assert [call[1] for call in steps[:2]] == ["experiments/rayzer_re10k.json", "experiments/rayzer_dl3dv.json"]
    assert all(call[-1] == "train.batch_size=8" for call in steps)
    for call in calls:
        if call[0].startswith("tools/"):
            (name,) = re.findall(r'COMMANDS\["([\w-]+)"\]', (ROOT / call[0]).read_text())
            COMMANDS[name].parser().parse_args(call[1:])  # ends the process if an option does not exist


def test_the_script_names_a_part_that_fails_and_runs_the_others(measure: Any):
    code, output, _ = measure(FAILING="rayzer_dl3dv check_gpu", REST="lvsm_re10k")
    assert code == 1
    assert "training_rayzer_dl3dv: exit code 1" in output
    assert "out of order" in output
    assert output.splitlines()[-1] == "not measured: machine training_rayzer_dl3dv"
    assert f"| `rayzer_dl3dv` | {UNKNOWN} |" in output
    assert "| `lvsm_re10k` | 16 |" in output
    assert f"Measured on: {UNKNOWN}." in output


def test_a_part_is_stopped_at_the_end_of_the_time(measure: Any):
    code, output, _ = measure(SLOW="benchmark_attention", SECONDS_IN_ALL="3", LEAST="1")
    assert code == 1
    assert "attention: exit code 124" in output
    assert "training_rayzer_re10k: no time is left" in output


def test_the_tables_of_the_page_are_replaced_and_the_rest_stays(tmp_path: Path):
    page = (ROOT / "docs/speed.md").read_text(encoding="utf-8")
    assert replaced(replaced(page, tmp_path), tmp_path) == replaced(page, tmp_path)
    here = page.partition(BEGIN)[2].partition(END)[0]
    headings = [line for line in here.splitlines() if line.endswith(":")]
    assert headings == [line for line in tables(tmp_path).splitlines() if line.endswith(":")]
    with pytest.raises(InputError, match="no markers for the tables"):
        replaced("no markers", tmp_path)


def test_the_error_names_a_damaged_file(tmp_path: Path):
    (tmp_path / "rendering.json").write_text("{")
    with pytest.raises(InputError, match=r"rendering\.json is not valid JSON"):
        tables(tmp_path)
