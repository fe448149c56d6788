"""Compiled blocks: the same model, the same weights, the same losses but for the last digits."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from openrayzer.attention.sdpa import ScaledDotProductAttention
from openrayzer.interfaces import InputError
from openrayzer.layers.stack import SelfStack
from openrayzer.positions.none import NoPositionEncoding
from openrayzer.training import compiling
from openrayzer.training.compiling import compile_blocks, uncompiled

TINY = Path(__file__).with_name("tiny_rayzer.json")
FILES = ("metrics.jsonl", "statistics.jsonl")


def stack() -> SelfStack:
    torch.manual_seed(0)
    return SelfStack(width=16, num_heads=2, depth=3)


def outcome(model: SelfStack, tokens: torch.Tensor) -> torch.Tensor:
    positions = torch.zeros(*tokens.shape[:2], 2)
    return model(tokens, positions, NoPositionEncoding(), ScaledDotProductAttention())


def test_only_blocks_are_compiled_and_weights_keep_their_names(monkeypatch: pytest.MonkeyPatch):
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled.append(module))
    model = nn.ModuleDict({"stack": stack(), "other": nn.Linear(2, 2)})
    compile_blocks(model, stage=2)
    assert compiled == list(model["stack"].blocks)


def test_what_cannot_be_compiled_is_said_at_the_start(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InputError, match="does not go with ZeRO stage 3"):
        compile_blocks(stack(), stage=3)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler.*no-such-compiler"):
        compile_blocks(stack(), stage=2)
    monkeypatch.delenv("CXX")
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"looked for g\+\+, clang\+\+, c\+\+"):
        compile_blocks(stack(), stage=2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_values_and_gradients_stay_at_any_length_and_hooks_are_called_outside():
    plain, compiled = stack(), stack()
    compile_blocks(compiled, stage=2)
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
def test_a_compiled_run_learns_what_a_plain_one_does(train_file: Callable[..., int], tmp_path: Path):
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
