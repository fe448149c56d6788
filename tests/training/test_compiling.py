"""Compiled blocks: the same model, the same weights, and losses that differ in the last digits only."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from openrayzer.components.attention.sdpa import ScaledDotProductAttention
from openrayzer.components.positions.none import NoPositionEncoding
from openrayzer.interfaces import InputError
from openrayzer.layers.stack import SelfStack, call_block
from openrayzer.training import compiling as rules
from openrayzer.training.compiling import compile_blocks, compiling, uncompiled

CPU = torch.device("cpu")
TINY = Path(__file__).with_name("tiny_rayzer.json")
FILES = ("metrics.jsonl", "statistics.jsonl")


def stack() -> SelfStack:
    torch.manual_seed(0)
    return SelfStack(width=16, num_heads=2, depth=3)


def outcome(model: SelfStack, tokens: torch.Tensor) -> torch.Tensor:
    positions = torch.zeros(*tokens.shape[:2], 2)
    return model(tokens, positions, NoPositionEncoding(), ScaledDotProductAttention())


def test_only_blocks_are_compiled_and_weights_keep_their_names(monkeypatch: pytest.MonkeyPatch):
    called: list[nn.Module] = []

    def compiled(block: nn.Module, again: bool, *inputs: object) -> object:
        called.append(block)
        return call_block(block, again, *inputs)

    monkeypatch.setattr(torch, "compile", lambda function: compiled)
    model = nn.ModuleDict({"stack": stack(), "other": nn.Linear(2, 2)})
    names = list(model.state_dict())
    compile_blocks(model)
    assert list(model.state_dict()) == names
    outcome(model["stack"], torch.randn(1, 3, 16))
    assert called == list(model["stack"].blocks)


def test_blocks_that_cannot_be_compiled_are_a_message_at_the_start(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InputError, match="cannot be combined with ZeRO stage 3"):
        compiling(True, stage=3, device=CPU)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler.*no-such-compiler"):
        compiling(True, stage=2, device=CPU)
    monkeypatch.delenv("CXX")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"looked for g\+\+, clang\+\+, c\+\+"):
        compiling(True, stage=2, device=CPU)


@pytest.mark.parametrize(
    ("plain", "compiled", "stage", "reason"),
    [
        (1.0, 0.5, 2, ""),
        (1.0, 0.9, 2, "does not pay in a trial: 0.90 ms compiled, 1.00 ms as written"),
        (1.0, 0.5, 3, "cannot be combined with ZeRO stage 3"),
        (1.0, RuntimeError("Cannot find a working triton"), 2, "fails in a trial: RuntimeError: Cannot find a working"),
    ],
)
def test_auto_compiles_on_a_gpu_if_a_trial_is_faster(plain, compiled, stage, reason, monkeypatch):
    times = iter((plain, compiled))

    def measured(function: object, device: torch.device) -> float:
        milliseconds = next(times)
        if isinstance(milliseconds, Exception):
            raise milliseconds
        return milliseconds

    monkeypatch.setattr(rules, "_milliseconds", measured)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    said = rules.compiling("auto", stage=stage, device=torch.device("cuda"))
    assert reason in said
    assert bool(said) == bool(reason)


def test_auto_never_compiles_on_a_cpu_and_false_nowhere():
    assert "on a CPU" in compiling("auto", stage=2, device=CPU)
    assert compiling(False, stage=2, device=torch.device("cuda")) == "is false"
    assert compiling(True, stage=2, device=CPU) == ""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_values_and_gradients_stay_at_any_length_and_hooks_are_called_outside():
    plain, compiled = stack(), stack()
    compile_blocks(compiled)
    assert list(plain.state_dict()) == list(compiled.state_dict())
    for length in (4, 7, 9):
        tokens = torch.randn(2, length, 16, generator=torch.Generator().manual_seed(length))
        results = [outcome(model, tokens) for model in (plain, compiled)]
        torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)
        for model, result in zip((plain, compiled), results, strict=True):
            model.zero_grad()
            result.square().sum().backward()
        for one, other in zip(compiled.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4)
    called: list[nn.Module] = []
    compiled.blocks[0].mlp.register_forward_hook(lambda module, given, result: called.append(module))
    with uncompiled(True):
        assert torch.equal(outcome(compiled, tokens), outcome(plain, tokens))
    assert called == [compiled.blocks[0].mlp]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("rooms")
def test_a_compiled_run_has_the_losses_of_a_plain_one(train_file: Callable[..., int], tmp_path: Path):
    train_file(TINY, tmp_path / "plain", "train.statistics_every=2")
    train_file(TINY, tmp_path / "compiled", "train.statistics_every=2", "train.compile=true")
    plain, compiled = (
        {file: [json.loads(line) for line in (tmp_path / run / file).read_text().splitlines()] for file in FILES}
        for run in ("plain", "compiled")
    )
    for one, other in zip(plain["metrics.jsonl"], compiled["metrics.jsonl"], strict=True):
        assert one.keys() == other.keys()
        assert one["psnr"] == pytest.approx(other["psnr"], abs=0.02)
    for one, other in zip(plain["statistics.jsonl"], compiled["statistics.jsonl"], strict=True):
        assert one["activations"].keys() == other["activations"].keys()
