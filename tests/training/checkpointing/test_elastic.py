"""Resuming with another number of processes or another ZeRO stage moves numbers and changes none."""

import copy
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import toy
from torch import Tensor

from openrayzer.training.checkpointing.rank_state import merge_states
from openrayzer.weights.checkpoints.manifest import checksum, read_manifest
from openrayzer.weights.checkpoints.zero_checkpoint import WEIGHTS, read_zero_checkpoint
from openrayzer.weights.checkpoints.zero_layout import Layout, Pieces, Stretch, cut_each, cut_rows, divide
from openrayzer.weights.finding import find_weights, load_weights

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]

Train = Callable[..., int]
OPTIM = "zero_pp_rank_{}_mp_rank_00_optim_states.pt"
SHAPES = [{"a": (3, 5), "b": (7,), "c": (1,)}, {"d": (2, 2, 2), "e": (1, 1)}]


def rows(world_size: int) -> tuple[list[Layout], list[list[int]]]:
    """Layouts and sizes by process in stages 1 and 2: weights are concatenated, padded and cut into equal pieces."""
    held: list[list[dict[str, tuple[int, int]]]] = [[] for _ in range(world_size)]
    sizes: list[list[int]] = [[] for _ in range(world_size)]
    for group in SHAPES:
        ends, total = {}, 0
        for name, shape in group.items():
            ends[name] = (total, total + torch.Size(shape).numel())
            total = ends[name][1]
        size = -(-total // world_size)
        for rank in range(world_size):
            low, high = rank * size, (rank + 1) * size
            parts = {name: (max(begin, low), min(end, high)) for name, (begin, end) in ends.items()}
            held[rank].append({name: (a - low, b - a) for name, (a, b) in parts.items() if a < b})
            sizes[rank].append(size)
    return cut_rows(held), sizes


def each(world_size: int) -> tuple[list[Layout], list[list[int]]]:
    """Layouts and sizes by process in stage 3."""
    layouts = [cut_each(SHAPES, rank=rank, world_size=world_size) for rank in range(world_size)]
    part = [sum(-(-torch.Size(shape).numel() // world_size) for shape in group.values()) for group in SHAPES]
    return layouts, [part] * world_size


@pytest.mark.parametrize("after", [(rows, 1), (rows, 3), (each, 2), (each, 5)])
@pytest.mark.parametrize("before", [(rows, 1), (rows, 2), (rows, 7), (each, 1), (each, 3)])
def test_dividing_again_keeps_every_number_and_pads_with_zeros(before, after):
    generator = torch.Generator().manual_seed(0)
    names = {name: shape for group in SHAPES for name, shape in group.items()}
    weights = {name: torch.randn(shape, generator=generator) for name, shape in names.items()}

    def partitions(how: Callable[[int], tuple], world_size: int, whole: Callable[[str], Tensor]) -> list[list[Tensor]]:
        layouts, sizes = how(world_size)
        return [
            [divide(part, whole, size=size) for part, size in zip(layout, row, strict=True)]
            for layout, row in zip(layouts, sizes, strict=True)
        ]

    first = Pieces(before[0](before[1])[0], partitions(*before, weights.__getitem__), names)
    second_partitions = partitions(*after, first.whole)
    second = Pieces(after[0](after[1])[0], second_partitions, names)
    for name, value in weights.items():
        assert torch.equal(second.whole(name), value)
    stored = sum(float(part.abs().sum()) for row in second_partitions for part in row)
    assert stored == pytest.approx(sum(float(value.abs().sum()) for value in weights.values()), rel=1e-5)


def test_a_missing_part_is_noticed():
    layouts = [((Stretch("a", 2, 2, 0),),)]
    with pytest.raises(ValueError, match="0 of 4 elements of a"):
        Pieces(layouts, [[torch.zeros(2)]], {"a": (4,)}).whole("a")


def split(folder: Path, *, world_size: int) -> None:
    """Convert a checkpoint of one process to one of several, as DeepSpeed would write it."""
    file = folder / OPTIM.format(0)
    whole = torch.load(file, weights_only=False)
    state = whole["optimizer_state_dict"]
    for rank in range(world_size):
        mine = copy.deepcopy(state)
        for group, mapping in enumerate(state["param_slice_mappings"]):
            numel = sum(part.numel for part in mapping.values())
            size = -(-numel // world_size)
            low, high = rank * size, min((rank + 1) * size, numel)
            mine["single_partition_of_fp32_groups"][group] = state["single_partition_of_fp32_groups"][group][low:high]
            for key in ("exp_avg", "exp_avg_sq"):
                values = state["base_optimizer_state"]["state"][group][key][low:high]
                mine["base_optimizer_state"]["state"][group][key] = torch.nn.functional.pad(
                    values, (0, size - len(values))
                )
            held = mine["param_slice_mappings"][group]
            for name, part in mapping.items():
                begin, end = max(part.start, low), min(part.start + part.numel, high)
                held[name].start, held[name].numel = begin - low, end - begin
                if begin >= end:
                    del held[name]
        torch.save({**whole, "optimizer_state_dict": mine}, folder / OPTIM.format(rank))
    own = torch.load(folder / "rank_00000.pt", weights_only=True)
    for rank in range(1, world_size):
        torch.save(own, folder / f"rank_{rank:05d}.pt")
    manifest = read_manifest(folder)
    files = {
        path.name: [path.stat().st_size, checksum(path)] for path in folder.iterdir() if path.name != "manifest.json"
    }
    (folder / "manifest.json").write_text(json.dumps(manifest | {"world_size": world_size, "files": files}))


def everything(folder: Path, step: int) -> dict[str, Tensor]:
    """Weights and moments of a checkpoint by name."""
    path = folder / f"checkpoints/step_{step:08d}"
    manifest = read_manifest(path)
    saved = read_zero_checkpoint(path, stage=manifest["zero_stage"], world_size=manifest["world_size"])
    return {f"{key} {name}": pieces.whole(name) for key, pieces in saved.optimized.items() for name in pieces.shapes}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("deepspeed", ["zero1", "zero2", "zero2_bf16"])
def test_a_checkpoint_of_three_processes_goes_on_in_one_to_the_bit(
    train: Train, tmp_path: Path, deepspeed: str, caplog: pytest.LogCaptureFixture, monkeypatch
):
    if deepspeed == "zero2_bf16":
        monkeypatch.setattr(f"{__name__}.OPTIM", f"bf16_{OPTIM}")
    setup = {"deepspeed": f"ds_configs/{deepspeed}.json", "checkpoint_every": 3, "log_every": 2}
    train(tmp_path / "straight", **setup, steps=5)
    train(tmp_path / "divided", **setup, steps=3)
    split(tmp_path / "divided/checkpoints/step_00000003", world_size=3)
    assert same(everything(tmp_path / "straight", 3), everything(tmp_path / "divided", 3))
    with caplog.at_level(logging.INFO):
        assert train(tmp_path / "divided", **setup, steps=5) == 0
    assert "was written by 3 process(es) with ZeRO stage" in caplog.text
    assert same(everything(tmp_path / "straight", 5), everything(tmp_path / "divided", 5))


@pytest.mark.parametrize(("before", "after"), [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)])
def test_another_stage_loads_weights_moments_and_schedule(train: Train, tmp_path: Path, before: int, after: int):
    train(tmp_path / "straight", steps=4, deepspeed=f"ds_configs/zero{after}.json")
    train(tmp_path / "changed", steps=2, deepspeed=f"ds_configs/zero{before}.json")
    for steps in (3, 4):
        assert train(tmp_path / "changed", steps=steps, deepspeed=f"ds_configs/zero{after}.json") == 0
    straight, changed = everything(tmp_path / "straight", 4), everything(tmp_path / "changed", 4)
    assert straight.keys() == changed.keys()
    for name, value in straight.items():  # bfloat16 gradients are rounded elsewhere in another stage
        torch.testing.assert_close(changed[name], value, rtol=0.05, atol=2e-3)


def test_loaded_weights_and_moments_are_equal_to_the_bit(train: Train, tmp_path: Path):
    train(tmp_path, steps=2, deepspeed="ds_configs/zero2.json")
    before = everything(tmp_path, 2)
    # A step that is skipped changes nothing, so the next checkpoint shows what was taken over.
    train(tmp_path, steps=3, deepspeed="ds_configs/zero3.json", bad_calls=tuple(range(9)))
    assert same(before, everything(tmp_path, 3))
    train(tmp_path, steps=4, deepspeed="ds_configs/zero1.json", bad_calls=tuple(range(9)))
    assert same(before, everything(tmp_path, 4))


def test_accumulation_may_follow_the_number_of_processes(train: Train, tmp_path: Path):
    train(tmp_path, steps=2, accumulation=2)
    assert train(tmp_path, steps=3, accumulation=4) == 0


def test_weights_in_pieces_are_put_together(train: Train, tmp_path: Path):
    train(tmp_path, steps=2, deepspeed="ds_configs/zero3.json")
    model = toy.ToyModel()
    model.load_state_dict(load_weights(find_weights(tmp_path)))
    named = {name.removeprefix(f"{WEIGHTS} model."): value for name, value in everything(tmp_path, 2).items()}
    for name, value in model.named_parameters():
        assert torch.equal(value, named[name])


def test_states_of_processes_become_those_of_more_or_fewer():
    states = [
        {"random": {"rank": rank}, "problems": rank + 1,
         "meter": {"sums": {"loss": torch.tensor(float(rank))}, "counts": {"loss": 2}}}
        for rank in range(2)
    ]  # fmt: skip
    first, third = merge_states(states, rank=0), merge_states(states, rank=2)
    assert (first["random"], third["random"]) == ({"rank": 0}, None)
    assert (first["problems"], third["problems"]) == (3, 0)
    assert first["meter"] == {"sums": {"loss": torch.tensor(0.5)}, "counts": {"loss": 2}}
