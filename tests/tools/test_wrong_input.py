"""Wrong input to tools/train.py gives one message with place and remedy, exit code 2, and no files.

One interpreter imports the package once and forks a child for every command, because importing takes most of the time.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from openrayzer.interfaces import InputError
from openrayzer.machine.distributed import check_local_processes

ROOT = Path(__file__).parents[2]
SERVER = """
import json, os, sys, torch, deepspeed
torch.set_num_threads(1)
from openrayzer.cli import run_tool
import openrayzer.training.run
sys.path.insert(0, sys.argv[1])
import train
commands, running, finished = json.load(sys.stdin), {}, {}


def wait():
    child, status = os.wait()
    finished[running.pop(child)] = os.waitstatus_to_exitcode(status)


for place, (arguments, environment) in enumerate(commands):
    if len(running) == 2:  # at a time
        wait()
    child = os.fork()
    if child == 0:
        file = os.open(f"{place}.txt", os.O_WRONLY | os.O_CREAT)
        os.dup2(file, 1), os.dup2(file, 2)
        sys.argv = ["train.py", *arguments]
        os.environ.update(environment)
        run_tool(train.main)
    running[child] = place
while running:
    wait()
print(json.dumps([finished[place] for place in range(len(commands))]))
"""
DATA = ["--data", "clips"]
LVSM = json.dumps(
    {
        "type": "lvsm_encoder_decoder", "position_encoding": {"type": "none"}, "fusion": {"type": "pixel"},
        "renderer": {"type": "joint", "depth": 1}, "encoder_depth": 1, "num_latents": 4,
    }
)  # fmt: skip
CASES = {
    "experiment": (
        ["--exp", "tinny.json"],
        ["there is no file tinny.json; did you mean 'tiny.json'"],
    ),
    "key": (
        ["--set", "train.stepz=3", "modle={}"],
        ["train.stepz: 'TrainSettings' has no such parameter; did you mean 'steps'", "modle: an experiment has no"],
    ),
    "component": (
        ["--set", "model.camera_head.type=pi4"],
        ["model.camera_head.type: no camera_head named 'pi4'; did you mean 'pi3'? known: absolute_quaternion,"],
    ),
    "type": (["--set", "train.steps=many"], ["train.steps: expected int, got 'many'"]),
    "missing_root": (["--data", "nowhere"], ["there is no folder nowhere; the nearest that exists is"]),
    "empty_root": (["--data", "empty"], ["empty has no folder 'train'; it has no folders"]),
    "empty_split": (["--data", "bare"], ["no chunks: looked for bare/train/*.torch, found nothing"]),
    "no_chunk": (["--data", "broken"], ["no usable scene in broken/train: broken/train/000000.torch: it is not a zip"]),
    "missing_test_root": (
        ["--set", 'data.test=[{"dataset":{"type":"chunks","root":"nowhere"}}]'],
        ["there is no folder nowhere"],
    ),
    "few_frames": (
        ["--set", "evaluation.view_sampler.num_target=9"],
        ["none of 1 test scenes can be evaluated: scene 'room_00001' has 6 frames; 12 evenly spaced views need 12"],
    ),
    "image_size": (
        ["--set", "data.image_size=[20, 32]"],
        ["data.image_size: images of 20 x 32 pixels", "both sides must be multiples of 8, e.g. 16 32"],
    ),
    "head_width": (
        ["--set", 'model.position_encoding={"type":"rope2d"}', "shared.num_heads=16"],
        ["model: rope2d needs a head width that is a multiple of 4, got 2"],
    ),
    "two_owners": (
        ["--set", "deepspeed=owners.json"],
        ["owners.json: 1 problem(s)", "train_batch_size: belongs to the experiment (train.batch_size); remove it here"],
    ),
    "deepspeed_key": (
        ["--set", "deepspeed=unknown.json"],
        ["zero_optimisation: unknown, and DeepSpeed would silently ignore it; did you mean 'zero_optimization'"],
    ),
    "deepspeed_nested_key": (
        ["--set", "deepspeed=nested.json"],
        ["nested.json: DeepSpeed refuses (DeepSpeedZeroConfig)", "reduce_buckt_size: Extra inputs"],
    ),
    "batch": (["--set", "train.batch_size=3"], ["batch_size 3 cannot be split evenly over 1", "2 or 4 would work"]),
    "no_folder": (["--output", "file/run"], ["--output file/run: cannot be written: Not a directory"]),
    "no_resume": (["--resume", "nowhere"], ["--resume nowhere: neither a checkpoint", "nor a run folder"]),
    "no_weights": (
        ["--set", "train.initial_weights=nowhere"],
        ["error: train.initial_weights: there are no weights in nowhere: it does not exist"],
    ),
    "other_weights": (
        ["--set", "train.initial_weights=other.safetensors"],
        [
            "error: train.initial_weights: the weights in other.safetensors do not fit the model: ",
            "is missing, ",
            " more; something is unknown to the model",
        ],
    ),
    "unposed_source": (
        ["--set", f"model={LVSM}", 'data.train=[{"dataset":{"type":"images","root":"nowhere"}}]'],
        ["data.train[0]: 'images' has no cameras, and the model 'lvsm_encoder_decoder' needs camera poses"],
    ),
    "unposed_test_source": (
        ["--set", f"model={LVSM}", 'data.test=[{"dataset":{"type":"video","root":"nowhere"}}]'],
        ["data.test[0]: 'video' has no cameras, and the model 'lvsm_encoder_decoder' needs camera poses"],
    ),
    "unknown_intrinsics": (
        [
            *["--set", "model.intrinsics=given", 'model.camera_head={"type": "pi3", "field_of_view": "fixed"}'],
            'data.train=[{"dataset":{"type":"images","root":"nowhere"}}]',
        ],
        ["data.train[0]: 'images' has no cameras, and the model 'rayzer' needs intrinsics"],
    ),
    "full_disk": (["--output", "/dev/full/run"], ["--output /dev/full/run: cannot be written"]),
}


def chunks(root: Path) -> None:
    """One room of six frames in each split."""
    from openrayzer.data.synthetic_rooms.scenes import FilmSettings, write_rooms

    write_rooms(root, FilmSettings(1, 1, 6, (24, 32), 1.0, 0), processes=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with one right experiment and the wrong files of all cases."""
    root = tmp_path_factory.mktemp("wrong_input")
    shutil.copy(ROOT / "tests/training/tiny_rayzer.json", root / "tiny.json")
    chunks(root / "clips")
    for name in ("empty", "bare/train", "bare/test", "broken/train", "broken/test"):
        (root / name).mkdir(parents=True)
    (root / "broken/train/000000.torch").write_text("no chunk")
    (root / "broken/test/000000.torch").write_text("no chunk")
    (root / "file").write_text("")
    save_file({"something": torch.zeros(1)}, root / "other.safetensors")
    stage = {"zero_optimization": {"stage": 2}}
    (root / "owners.json").write_text(json.dumps(stage | {"train_batch_size": 8}))
    (root / "unknown.json").write_text(json.dumps(stage | {"zero_optimisation": {"stage": 2}}))
    (root / "nested.json").write_text(json.dumps({"zero_optimization": {"stage": 2, "reduce_buckt_size": 5}}))
    return root


@pytest.fixture(scope="module")
def answers(folder: Path) -> dict[str, tuple[int, str]]:
    """Exit code and output of each case, and of a start with too many processes."""
    commands = [
        (["--exp", "tiny.json", *DATA, "--output", f"runs/{name}", *arguments], {})
        for name, (arguments, _) in CASES.items()
    ]
    commands.append((commands[0][0], {"LOCAL_SIZE": "1000", "LOCAL_RANK": "0"}))
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "LOCAL_RANK")}
    done = subprocess.run(
        [sys.executable, "-c", SERVER, str(ROOT / "tools")], input=json.dumps(commands), capture_output=True, text=True,
        cwd=folder, check=False, env=environment | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stdout.splitlines()[-1])
    outputs = [(folder / f"{place}.txt").read_text() for place in range(len(codes))]
    return dict(zip([*CASES, "processes"], zip(codes, outputs, strict=True), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_gives_one_message_and_leaves_no_files(case: str, folder: Path, answers: dict[str, tuple[int, str]]):
    code, output = answers[case]
    assert code == 2, output
    assert "Traceback" not in output
    assert output.count("error: ") == 1
    for part in CASES[case][1]:
        assert part in output
    assert not (folder / "runs" / case).exists()


def test_more_processes_than_cores_are_refused_before_anything_is_built(answers: dict[str, tuple[int, str]]):
    code, output = answers["processes"]
    assert code == 2
    assert "1000 processes were started on this machine, which has" in output
    assert "start at most" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("name", ["LOCAL_SIZE", "LOCAL_WORLD_SIZE"])
def test_two_processes_are_always_allowed(name: str, monkeypatch: pytest.MonkeyPatch):
    for variable in ("LOCAL_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})
    monkeypatch.setenv(name, "2")
    check_local_processes()
    monkeypatch.setenv(name, "3")
    with pytest.raises(InputError, match=r"3 processes.*1 core\(s\) and no GPU; start at most 2"):
        check_local_processes()
