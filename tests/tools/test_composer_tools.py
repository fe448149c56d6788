"""tools/check_experiment.py and tools/list_components.py on toy experiments, and the shared command line code."""

import json
import os
import re
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser as JsonargparseParser

from openrayzer.cli import add_experiment_arguments, run_tool
from openrayzer.interfaces import InputError
from registry import UnknownNameError

ROOT = Path(__file__).parents[2]
PLUGIN = '''"""Toy components for the tools."""

from pathlib import Path

import torch
from torch import nn

from openrayzer.interfaces import (
    DATASETS, LOSSES, MODELS, OPTIMIZERS, SCHEDULES, VIEW_SAMPLERS,
    Dataset, Loss, Model, Optimizer, Schedule, ViewChoice, ViewSampler,
)
from openrayzer.models.token_scene import TokenScene
from openrayzer.types import Cameras, Prediction


@MODELS.register("tool_toy")
class ToolToy(Model):
    """One linear map of each pixel."""

    posed = False

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.patch_size = 8
        self.into, self.out = nn.Linear(3, width), nn.Linear(width, 3)
        self.scale = nn.Parameter(torch.zeros(5), requires_grad=False)

    def estimate(self, images):
        return Cameras(images.new_zeros(*images.shape[:2], 4, 4), images.new_zeros(*images.shape[:2], 4))

    def reconstruct(self, images, cameras, index=None):
        tokens = images.flatten(1, 2).flatten(2)
        return TokenScene(tokens, tokens.new_zeros(*tokens.shape[:2], 2), image_size=tuple(images.shape[-2:]))

    def render(self, scene, cameras):
        tokens = scene.tokens.new_zeros(1, cameras.num_views, *scene.image_size, 3)
        return self.out(self.into(tokens)).permute(0, 1, 4, 2, 3)


@DATASETS.register("tool_nowhere")
class Nowhere(Dataset):
    """No scenes."""

    def __init__(self, *, root: Path) -> None:
        self.root = root

    def open(self):
        raise RuntimeError("opened by a check")

    def __len__(self): ...
    def key(self, scene): ...
    def num_frames(self, scene): ...
    def read(self, scene, frames): ...


@VIEW_SAMPLERS.register("tool_fixed")
class Fixed(ViewSampler):
    """Two context views, three target views."""

    def sample(self, key, num_frames, generator, step=0):
        return ViewChoice((0, 1), (2, 3, 4))


@LOSSES.register("tool_zero")
class Zero(Loss):
    """Nothing."""

    def forward(self, prediction, target): ...


@OPTIMIZERS.register("tool_still")
class Still(Optimizer):
    """No step."""

    def build(self, model): ...


@SCHEDULES.register("tool_flat")
class Flat(Schedule):
    """One."""

    def factor(self, step, steps): ...
'''
TOY = {
    "plugins": ["tool_toys.py"],
    "model": {"type": "tool_toy", "width": 16},
    "data": {
        "train": [{"dataset": {"type": "tool_nowhere", "root": "no/such/folder"}}],
        "view_sampler": {"type": "tool_fixed"},
        "image_size": [8, 16],
    },
    "loss": [{"loss": {"type": "tool_zero"}}],
    "train": {"steps": 1, "batch_size": 4, "optimizer": {"type": "tool_still"}, "schedule": {"type": "tool_flat"}},
    "evaluation": {"view_sampler": {"type": "tool_fixed"}},
    "deepspeed": "ds_configs/toy.json",
}


def tool(name: str, *arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """A finished run of ``tools/name.py``."""
    command = [sys.executable, str(ROOT / "tools" / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A project folder with one right experiment, three wrong ones and a plugin."""
    root = tmp_path_factory.mktemp("project")
    (root / "experiments").mkdir()
    (root / "ds_configs").mkdir()
    (root / "ds_configs" / "toy.json").write_text(json.dumps({"zero_optimization": {"stage": 2}}))
    (root / "experiments" / "tool_toys.py").write_text(PLUGIN)
    wrong = {
        "toy": {},
        "typo": {"model": {"type": "tool_toi"}, "trian": {}},
        "refused": {"train": {**TOY["train"], "steps": 0}},
    }
    for name, change in wrong.items():
        (root / "experiments" / f"{name}.json").write_text(json.dumps(TOY | change))
    (root / "experiments" / "broken.json").write_text("{")
    return root


@pytest.fixture(scope="module")
def checked(folder) -> subprocess.CompletedProcess:
    """One run over the right and the wrong files."""
    files = [folder / "experiments" / f"{name}.json" for name in ("typo", "toy", "refused", "broken", "none")]
    return tool(
        "check_experiment", *files, "--ranks", "2", "--set", "train.clip_norm=2", "seed=1", "--set", "train.seed=5"
    )


@pytest.fixture(scope="module")
def right(folder) -> subprocess.CompletedProcess:
    """One run over the right file."""
    file = folder / "experiments" / "toy.json"
    return tool("check_experiment", file, "--ranks", "2", "--set", "train.clip_norm=2", "--roofline", "h200")


def test_a_right_experiment_is_printed_with_every_default(right):
    assert right.returncode == 0, right.stderr
    text = right.stdout
    resolved = json.JSONDecoder().raw_decode(text[text.index("{\n") :])[0]
    assert resolved["train"]["clip_norm"] == 2.0
    assert resolved["train"]["bad_steps"]["max_in_a_row"] == 25


def test_parameters_are_counted_by_child_and_in_total(right):
    counts = dict(line.split()[:2] for line in right.stdout.partition("parameters\n")[2].splitlines()[:4])
    assert counts == {"into": "64", "out": "51", "(itself)": "5", "total": "120"}
    assert "(5 frozen)" in right.stdout


def test_memory_and_computation_are_estimated(right):
    assert "memory on each of 2 rank(s) in GiB, 2 clip(s) at once" in right.stdout
    assert [line.split()[:2] for line in right.stdout.splitlines() if line.startswith("  ZeRO")] == [
        ["ZeRO", "1"],
        ["ZeRO", "2*"],
        ["ZeRO", "3"],
    ]
    assert "all kept: activations up to" in right.stdout
    assert "the state of the optimizer Still is unknown" in right.stdout
    assert "checkpoints" in right.stdout
    assert "data: 20 images a step" in right.stdout
    pixels, flops_of_a_pixel = 3 * 8 * 16, 2 * (3 * 16 + 16 * 3)
    clip = pixels * flops_of_a_pixel / 1e3
    assert f"{clip:.1f} kFLOP  (2 context views, 3 target views)" in right.stdout
    assert f"{3 * 4 * clip:.1f} kFLOP  (4 clips, 3 x forward)" in right.stdout


def test_the_report_names_the_planned_device(right, folder):
    assert "  activations as on a GPU, with CUDA's autocast" in right.stdout
    done = tool("check_experiment", folder / "experiments" / "toy.json", "--ranks", "2", "--device", "cpu")
    assert "  activations as on a CPU" in done.stdout
    assert "roofline" not in done.stdout


def test_the_roofline_shares_add_up(right, folder):
    lines = right.stdout.partition("roofline of one optimizer step, H200 SXM, 2 clip(s) at once")[2].splitlines()
    shares = {line[2:16].strip(): [float(value) for value in re.findall(r"([\d.]+) %", line)] for line in lines[2:4]}
    assert shares.keys() == {"as written", "train.compile"}
    for of_step in shares.values():
        assert sum(of_step[:-1]) == pytest.approx(100, abs=0.3)
    done = tool("check_experiment", folder / "experiments" / "toy.json", "--roofline", "h20")
    assert done.returncode == 2
    assert "no GPU named 'h20'; known: a100, h100, h200" in done.stderr


def test_missing_data_is_a_note(right):
    assert "note: data.train[0].dataset.root: there is no no/such/folder on this machine" in right.stdout


def test_every_wrong_file_gives_an_error_without_a_traceback(checked):
    assert checked.returncode == 2
    errors = checked.stderr
    assert "Traceback" not in errors
    assert "typo.json\n" in errors
    assert "model.type: no model named 'tool_toi'; did you mean 'tool_toy'" in errors
    assert "trian: an experiment has no such section; did you mean 'train'" in errors
    assert "seed: an experiment has no such section" in errors
    assert "broken.json:1:2: Expecting property name" in errors
    assert "none.json; did you mean" in errors
    assert errors.count("error: ") == 5


def test_errors_of_a_constructor_and_of_a_wrong_split_are_printed(folder):
    file = folder / "experiments" / "refused.json"
    done = tool("check_experiment", file, folder / "experiments" / "toy.json", "--ranks", "3")
    assert done.returncode == 2
    assert "train: steps must be 1 or more, got 0" in done.stderr
    assert "train.batch_size 4 cannot be split evenly over 3 process" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_help_lists_the_arguments():
    done = tool("check_experiment", "--help")
    assert done.returncode == 0
    for wanted in ("--set KEY=VALUE", "--data ROOT", "--ranks N", "--roofline [GPU]", "EXPERIMENT", "Exit code"):
        assert wanted in done.stdout
    assert tool("check_experiment").returncode == 2


def test_components_are_listed_by_kind_and_with_plugins(folder):
    plugin = folder / "experiments" / "tool_toys.py"
    done = tool("list_components", "model", "view_sampler", "--plugins", "tool_toys.py", cwd=plugin.parent)
    assert done.returncode == 0, done.stderr
    for wanted in ("tool_toy", "One linear map of each pixel.", "width: int", "tool_fixed"):
        assert wanted in done.stdout
    assert "camera_head  (" not in done.stdout
    done = tool("list_components", "--markdown", "model")
    assert done.stdout.startswith("### model\n")


def test_an_unknown_kind_gives_close_matches():
    done = tool("list_components", "camera_haed")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no kind of component named 'camera_haed'; did you mean 'camera_head'")


# openrayzer.cli


@pytest.mark.parametrize(
    ("outcome", "code", "said"),
    [
        (0, 0, ""),
        (3, 3, ""),
        (InputError("what is wrong"), 2, "error: what is wrong\n"),
        (UnknownNameError("no such"), 2, "error: no such\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_outcomes_become_exit_codes(outcome, code, said, capsys, monkeypatch):
    def main() -> int:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    for rank, printed in (("0", said), ("1", "")):
        monkeypatch.setenv("LOCAL_RANK", rank)
        with pytest.raises(SystemExit) as caught:
            run_tool(main)
        assert caught.value.code == code
        assert capsys.readouterr().err == printed


def test_a_reader_that_ends_early_gives_no_traceback():
    code = "from openrayzer.cli import run_tool; run_tool(lambda: print('line ' * 100_000) or 0)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as tool:
        tool.stdout.close()
        assert tool.stderr.read() == b""
    assert tool.returncode == 141


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_tool(lambda: 1 // 0)


@pytest.mark.parametrize("parser_class", [ArgumentParser, JsonargparseParser])
def test_the_arguments_for_an_experiment_parse_with_both_parsers(parser_class):
    parser = parser_class()
    add_experiment_arguments(parser)
    line = ["--exp", "x.json", "--set", "a=1", 'b={"c": [2]}', "--data", "r", "--set", "d=[x", "--data", "s", "t"]
    arguments = parser.parse_args(line)
    assert arguments.exp == Path("x.json")
    assert arguments.set == ["a=1", 'b={"c": [2]}', "d=[x"]
    assert arguments.data == [Path("r"), Path("s"), Path("t")]
    again = parser.parse_args(["--exp", "x.json"])
    assert (again.set, again.data) == ([], [])
