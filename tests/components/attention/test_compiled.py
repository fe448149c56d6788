"""Attention in compiled blocks: one graph and equal results; trial calls of backends run outside of the graph."""

from types import SimpleNamespace

import jaxtyping
import pytest
import torch
from torch import Tensor, nn

from openrayzer.components.attention import auto, xformers_operators
from openrayzer.components.attention.auto import AutoAttention
from openrayzer.components.attention.reference import ReferenceAttention
from openrayzer.components.attention.xformers import XformersAttention
from openrayzer.interfaces import AttentionBackend


class Block(nn.Module):
    """A block that splits the output of a linear layer into heads and calls attention."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.heads = nn.Linear(8, 48)

    def forward(self, tokens: Tensor, backend: AttentionBackend) -> Tensor:
        query, key, value = self.heads(tokens).unflatten(-1, (2, 24)).split(8, dim=-1)
        return backend.attend(query, key, value).flatten(2)


def tokens(length: int) -> Tensor:
    return torch.randn(2, length, 8, generator=torch.Generator().manual_seed(length))


@pytest.fixture(autouse=True)
def _fresh_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # checks of shapes would break the graph


def test_auto_is_one_graph_with_one_choice_for_each_kind_of_call(monkeypatch: pytest.MonkeyPatch):
    choices: list[bool] = []
    first_able = auto._first_able

    def spy(*arguments, **named):
        choices.append(True)
        return first_able(*arguments, **named)

    monkeypatch.setattr(auto, "_first_able", spy)
    auto._reported_choice.cache_clear()
    block, backend = Block(), AutoAttention()
    compiled = torch.compile(block, backend="eager", fullgraph=True)
    for length in (3, 5, 9):
        torch.testing.assert_close(compiled(tokens(length), backend), block(tokens(length), backend))
    assert len(choices) == 1


def test_auto_chooses_again_for_long_sequences(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(auto, "SHORT", 2 * 2 * 20 * 20)
    auto._reported_choice.cache_clear()
    chosen: list[tuple] = []
    reported = auto._reported_choice.__wrapped__
    monkeypatch.setattr(auto, "_reported_choice", lambda kind, short: chosen.append(short) or reported(kind, short))
    block, backend = Block(), AutoAttention()
    compiled = torch.compile(block, backend="eager", fullgraph=True)
    for length in (3, 5, 9, 50, 60):
        torch.testing.assert_close(compiled(tokens(length), backend), block(tokens(length), backend))
    assert {True, False} == set(chosen)


@pytest.fixture
def _operators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the functions of xformers by the formula; they pad the log-sum-exp, as some operators do."""
    formula = ReferenceAttention()

    def forward(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        out, lse = formula.attend_with_lse(query, key, value)
        return out, torch.nn.functional.pad(lse, (0, -lse.shape[-1] % 32), value=torch.inf)

    def backward(gradient: Tensor, out: Tensor, lse: Tensor, *heads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return formula.attend_backward(gradient, *heads, out, lse)

    fmha = SimpleNamespace(
        memory_efficient_attention_forward_requires_grad=forward, memory_efficient_attention_backward=backward
    )
    monkeypatch.setattr(xformers_operators, "loaded", lambda: SimpleNamespace(fmha=fmha))


class Opaque(ReferenceAttention):
    """A backend for the CPU that calls the custom operator."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return xformers_operators.forward(query, key, value)[0]


@pytest.mark.usefixtures("_operators")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # from opcheck itself
def test_the_custom_operator_of_xformers_passes_opcheck():
    heads = [torch.randn(2, n, 3, 8, generator=torch.Generator().manual_seed(n)).requires_grad_() for n in (5, 7, 7)]
    torch.library.opcheck(xformers_operators.forward, tuple(heads))
    out, lse = xformers_operators.forward(*(x.detach() for x in heads))
    rest = (torch.ones_like(out), *(x.detach() for x in heads), out, lse)
    torch.library.opcheck(xformers_operators.backward, rest)


@pytest.mark.usefixtures("_operators")
def test_the_custom_operator_compiles_to_one_graph_with_correct_gradients():
    block = Block()
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True)
    for length in (3, 5, 9):
        right, ours = block(tokens(length), ReferenceAttention()), compiled(tokens(length), Opaque())
        torch.testing.assert_close(ours, right)
        wanted = torch.autograd.grad(right.square().sum(), list(block.parameters()))
        found = torch.autograd.grad(ours.square().sum(), list(block.parameters()))
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other)


def test_the_xformers_backend_calls_the_custom_operator_only_within_compile(monkeypatch: pytest.MonkeyPatch):
    query = torch.zeros(1, 2, 1, 8)
    by_xformers, by_the_operator = query + 1, query + 2
    plain = SimpleNamespace(memory_efficient_attention=lambda query, key, value: by_xformers)
    monkeypatch.setattr(xformers_operators, "loaded", lambda: plain)
    monkeypatch.setattr(xformers_operators, "forward", lambda query, key, value: (by_the_operator, None))
    assert XformersAttention().compute(query, query, query) is by_xformers
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert XformersAttention().compute(query, query, query) is by_the_operator
