"""Runs whose ranks share the views of clips have the losses, gradient norms and checkpoints of other runs."""

import json
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import Run, fork_server
from toy import settings

from openrayzer.cli.commands import replay_command
from openrayzer.components.losses.mse import MeanSquaredError
from openrayzer.components.objectives.photometric_objective import Photometric
from openrayzer.interfaces import InputError, Objective
from openrayzer.layers.view_shares import ViewShares
from openrayzer.settings import LossTerm
from openrayzer.training.checkpointing.rank_state import merge_states
from openrayzer.training.deepspeed_config import load_deepspeed_config, micro_batch_size
from openrayzer.training.weighted_loss import WeightedLoss

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RAYZER, RAYDER = (json.loads((HERE / f"tiny_{name}.json").read_text()) for name in ("rayzer", "rayder"))
POSED = {
    "type": "lvsm_encoder_decoder",
    "position_encoding": {"type": "none"},
    "fusion": {"type": "pixel"},
    "renderer": {"type": "joint", "depth": 2},
    "encoder_depth": 2,
    "num_latents": 16,
}
CHANGES: dict[str, dict[str, Any]] = {
    "rayzer reading": {"renderer": {"type": "reading", "depth": 2}},
    "rayzer joint": {"renderer": {"type": "joint", "depth": 2}, "layout": {"type": "vggt_alternating"}},
    "rayzer layered": {"renderer": {"type": "layered", "depth": 2}, "num_latents": 0, "encoder": "per_view"},
    "lvsm": POSED,
    "lvsm decoder": {**POSED, "type": "lvsm_decoder_only"},
    "efficient": {**POSED, "type": "efficient_lvsm", "renderer": {"type": "layered", "depth": 2}},
    "uplvsm": {
        **POSED,
        "type": "uplvsm",
        "tokenizer": {"type": "linear"},
        "fusion": {"type": "first_view_rays"},
        "camera_head": {"type": "absolute_quaternion"},
        "estimator_depth": 2,
    },
    "rayder": {"head_width": 8, "depth": 2},
}
"""Models for the runs: changes of tiny_rayzer.json and tiny_rayder.json."""
UNKNOWN = {"lvsm decoder": ("encoder_depth", "num_latents"), "efficient": ("num_latents",)}


def experiment(case: str) -> dict[str, Any]:
    """Clips of eight views: four contexts and four targets, or for RayDer seven of each."""
    content = deepcopy(RAYDER if case == "rayder" else RAYZER)
    old = {} if "type" in CHANGES[case] else content["model"]
    content["model"] = {
        key: value for key, value in {**old, **CHANGES[case]}.items() if key not in UNKNOWN.get(case, ())
    }
    sampler = {"min_frame_distance": 8, "max_frame_distance": 8}
    sampler |= {"num_views": 8} if case == "rayder" else {"num_context": 4, "num_target": 4}
    content["data"]["view_sampler"] |= sampler
    content["data"]["train"][0]["dataset"] |= {"num_frames": 9, "image_size": [16, 24], "root": "rooms_of_nine"}
    content["data"] |= {"image_size": [16, 24], "workers": 0}
    content["shared"]["width"] = 32
    content["data"]["test"] = []
    if case != "rayder":
        content["shared"]["num_heads"] = 4
    content["train"] |= {"steps": 10, "sample_every": 0, "evaluate_every": 0, "checkpoint_every": 5}
    content["train"] |= {"schedule": {"type": "constant"}, "batch_size": 4, "accumulation": 1}
    if case == "rayder":  # its branches begin at zero, where a fast AdamW multiplies the rounding of tiny gradients
        content["train"]["optimizer"]["learning_rate"] = 1e-4
    content["deepspeed"] = str(ROOT / "ds_configs/zero2_fp32.json")
    return content


Trained = Callable[..., tuple[Path, str]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """Trains an experiment with a number of ranks; returns the run folder and the log."""
    folder = tmp_path_factory.mktemp("shared_clips")
    with fork_server(folder) as server:

        def train(
            content: dict[str, Any], name: str, *settings: str, ranks: int = 1, code: int = 0
        ) -> tuple[Path, str]:
            file, log = folder / f"{name}.json", folder / f"{name}.log"
            file.write_text(json.dumps(content))
            log.unlink(missing_ok=True)
            overrides = ("--set", *settings) if settings else ()
            run = server.start("--exp", str(file), "--output", name, *overrides, log=log, world_size=ranks)
            codes = run.wait()
            assert codes == (code,) * ranks, run.output()
            return folder / name, run.output()

        yield train


def lines(run: Path, split: str = "train") -> list[dict[str, Any]]:
    found = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in found if line["split"] == split]


def assert_same(run: Path, other: Path) -> None:
    """Ten steps with the same losses and gradient norms."""
    for name in ("loss", "grad_norm", "psnr"):
        numbers, others = ([line[name] for line in lines(one)] for one in (run, other))
        assert len(numbers) == 10
        assert numbers == pytest.approx(others, rel=1e-5), name


@pytest.mark.slow
@pytest.mark.parametrize("case", CHANGES)
def test_two_and_four_ranks_that_share_clips_train_as_one_rank_does(trained: Trained, case: str):
    alone, _ = trained(experiment(case), "alone")
    for ranks in (2, 4):
        together, _ = trained(experiment(case), f"on_{ranks}", f"train.sequence_parallel={ranks}", ranks=ranks)
        assert_same(together, alone)
        for one, other in zip(lines(together), lines(alone), strict=True):  # clips count once
            assert one["views_per_second"] * one["seconds"] == pytest.approx(
                other["views_per_second"] * other["seconds"]
            )
    for name in ("alone", "on_2", "on_4"):
        (alone.parent / name).rename(alone.parent / f"{case} {name}")


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_two_groups_of_two_ranks_train_as_one_rank_does_in_every_zero_stage(trained: Trained, stage: int):
    content = experiment("rayzer reading") | {"deepspeed": f"stage_{stage}.json"}
    run, _ = trained(experiment("rayzer reading"), f"alone_{stage}")
    config = json.loads((ROOT / "ds_configs/zero2_fp32.json").read_text())
    config["zero_optimization"]["stage"] = stage
    (run.parent / f"stage_{stage}.json").write_text(json.dumps(config))
    groups, _ = trained(content, f"groups_{stage}", "train.sequence_parallel=2", ranks=4)
    assert_same(groups, run)


@pytest.mark.slow
def test_compiled_blocks_exchange_as_others_do(trained: Trained):
    content = experiment("rayzer reading")
    written, _ = trained(content, "as_written", "train.sequence_parallel=2", ranks=2)
    compiled, _ = trained(content, "compiled", "train.sequence_parallel=2", "train.compile=true", ranks=2)
    assert_same(compiled, written)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_ranks_per_clip(trained: Trained):
    content = experiment("rayzer reading")
    straight, _ = trained(content, "straight")
    for name, before, after in (("wider", (2, 1), (2, 2)), ("narrower", (2, 2), (1, 1)), ("other", (4, 2), (2, 1))):
        for steps, (ranks, shared) in ((5, before), (10, after)):
            run, _ = trained(content, name, f"train.steps={steps}", f"train.sequence_parallel={shared}", ranks=ranks)
        assert_same(run, straight)


@pytest.mark.slow
def test_evaluations_are_those_of_one_rank(trained: Trained):
    content = experiment("rayzer reading")
    content["data"]["test"] = deepcopy(content["data"]["train"])
    content["data"]["test"][0]["dataset"]["split"] = "test"
    settings = ("train.steps=5", "train.evaluate_every=5", "train.sample_every=5", "train.statistics_every=5")
    alone, _ = trained(content, "evaluated_alone", *settings)
    together, _ = trained(content, "evaluated", *settings, "train.sequence_parallel=2", ranks=2)
    (one,), (other,) = (lines(run, "test") for run in (alone, together))
    assert one["psnr"] == pytest.approx(other["psnr"], rel=1e-5)
    assert one["evaluated"] == other["evaluated"] == 3


@pytest.mark.slow
def test_a_bad_step_of_shared_clips_is_dumped_once_and_repeats(trained: Trained, capsys: pytest.CaptureFixture[str]):
    content = experiment("rayzer reading")
    content["train"]["bad_steps"] = {"grace_steps": 0, "norm_factor": 1e-6, "max_in_a_row": 2, "dump": "first"}
    run, log = trained(content, "bad", "train.sequence_parallel=2", ranks=4, code=3)
    assert len(log.split("its scenes: ")[1].split("\n")[0].split(", ")) == 4  # each clip once
    dump = run / "bad_steps/step_00000001"
    assert sorted(file.name for file in dump.glob("rank_*")) == ["rank_00000.pt", "rank_00001.pt"]
    arguments = replay_command.parser().parse_args([str(dump)])
    assert replay_command.run(arguments) == 0
    assert "the step agrees with the record" in capsys.readouterr().out


@pytest.mark.slow
def test_ranks_that_cannot_share_clips_end_with_a_message(trained: Trained):
    content = experiment("rayzer reading")
    _, log = trained(content, "odd", "train.sequence_parallel=2", ranks=1, code=2)
    assert "train.sequence_parallel 2 does not divide the 1 process(es); 1 would work" in log
    content["data"]["view_sampler"]["num_context"] = 3
    _, log = trained(content, "seven", "train.sequence_parallel=2", ranks=2, code=2)
    assert "train.sequence_parallel 2 does not divide the 7 views of a clip; 1 or 7 would work" in log
    assert "Traceback" not in log


def large_clip() -> dict[str, Any]:
    """One clip of 32 views at 64 x 64 pixels; its activations are most of the memory of a process."""
    content = experiment("rayzer reading")
    content["shared"] |= {"width": 128, "patch_size": 4}
    content["model"] |= {"estimator_depth": 10, "encoder_depth": 10}
    content["model"]["renderer"]["depth"] = 10
    sampler = {"min_frame_distance": 32, "max_frame_distance": 32, "num_context": 16, "num_target": 16}
    content["data"]["view_sampler"] |= sampler
    content["data"]["train"][0]["dataset"] |= {"num_frames": 33, "image_size": [64, 64], "root": "rooms_of_33"}
    content["data"]["image_size"] = [64, 64]
    content["train"] |= {"steps": 1, "batch_size": 1, "checkpoint_every": 0}
    content["deepspeed"] = "small_buckets.json"
    return content


def peak(run: Run) -> int:
    """Most bytes of private writable memory of the first rank, read until it ends."""
    found = 0
    while run.living():
        with suppress(OSError):
            fields = [line.split() for line in Path(f"/proc/{run.pids[0]}/status").read_text().splitlines()]
            found = max([found, *(1024 * int(field[1]) for field in fields if field[0] == "VmData:")])
        time.sleep(0.02)
    return found


@pytest.mark.slow
def test_a_clip_that_does_not_fit_into_one_process_trains_with_two(tmp_path: Path):
    """Each process may use as much memory as the training on one process needed, less 400 MiB."""
    file = tmp_path / "experiment.json"
    file.write_text(json.dumps(large_clip()))
    buckets = {"stage": 2, "reduce_bucket_size": 1_000_000, "allgather_bucket_size": 1_000_000}
    (tmp_path / "small_buckets.json").write_text(json.dumps({"zero_optimization": buckets}))

    def start(ranks: int, *, most: int = resource.RLIM_INFINITY) -> Run:
        name = f"{ranks}_{most > 0}"
        shared = f"train.sequence_parallel={ranks}"
        run = server.start(
            "--exp", str(file), "--output", name, "--set", shared, log=tmp_path / f"{name}.log", world_size=ranks
        )
        for pid in run.pids:
            resource.prlimit(pid, resource.RLIMIT_DATA, (most, most))
        return run

    with fork_server(tmp_path) as server:
        unlimited = start(1)
        needed = peak(unlimited)
        assert unlimited.wait() == (0,), unlimited.output()
        most = needed - 400 * 2**20
        alone, together = start(1, most=most), start(2, most=most)
        assert alone.wait() != (0,)
        assert "if one clip is too large, set train.sequence_parallel" in alone.output()
        assert together.wait() == (0, 0), together.output()
    numbers = [[line["loss"] for line in lines(tmp_path / name)] for name in ("1_False", "2_True")]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-5)


def test_ranks_that_share_clips_have_one_micro_batch():
    shared = settings(batch_size=8, accumulation=1, sequence_parallel=2)
    assert micro_batch_size(shared, world_size=4) == 4
    config = load_deepspeed_config("ds_configs/zero2.json", shared, world_size=4)
    assert (config["train_micro_batch_size_per_gpu"], config["sequence_parallel_size"]) == (4, 2)
    with pytest.raises(InputError, match=r"sequence_parallel 2 does not divide the 3 process\(es\); 1 or 3 would"):
        micro_batch_size(shared, world_size=3)
    with pytest.raises(InputError, match=r"over 3 group\(s\) of 2 processes x train.accumulation 1; 6 or 9 would"):
        micro_batch_size(shared, world_size=6)
    with pytest.raises(InputError, match="sequence_parallel must be 1 or more"):
        settings(sequence_parallel=0)


class LargestError(MeanSquaredError):
    """A loss that is no mean over views."""

    mean_over_views = False

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (prediction - target).abs().max()


@pytest.mark.parametrize(("views", "processes"), [(4, 2), (5, 2), (5, 4), (2, 4)])
def test_the_mean_of_the_parts_of_a_loss_is_the_loss(views: int, processes: int):
    generator = torch.Generator().manual_seed(0)
    prediction, target = torch.rand(2, 2, views, 3, 8, 8, generator=generator)
    terms = [LossTerm(loss=MeanSquaredError()), LossTerm(loss=LargestError(), weight=0.5)]
    whole = WeightedLoss(terms)(prediction, target, step=0)
    parts = [
        WeightedLoss(terms, shares=ViewShares(processes, number))(prediction, target, step=0)
        for number in range(processes)
    ]
    for name, value in whole.items():
        assert float(torch.stack([part[name] for part in parts]).mean()) == pytest.approx(float(value), rel=1e-6)
    own = [float(part["loss"]) for part in parts]
    assert max(own) > min(own)  # each process compares its own views


def test_processes_that_share_clips_take_the_random_generators_of_one_group():
    states = [
        {"random": f"generators {rank}", "meter": {"sums": {}, "counts": {}}, "problems": 1, "losses": []}
        for rank in range(4)
    ]
    assert merge_states(states, rank=3, random_from=2)["random"] == "generators 2"
    assert merge_states(states, rank=3, random_from=4)["random"] is None


def test_only_objectives_that_call_the_model_share_views():
    assert Photometric.shares_views
    assert not Objective.shares_views
