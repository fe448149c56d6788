"""Trial calls of attention backends: isolation, caching, the choice of "auto", rules and warnings."""

import logging
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from openrayzer.components.attention import auto, proven
from openrayzer.components.attention.flex import FlexAttention
from openrayzer.components.attention.kernels import CudnnAttention, EfficientAttention, FlashAttention
from openrayzer.components.attention.preference import NAMES, TABLE, preferred
from openrayzer.components.attention.proven import Kind, ProvenAttention, trial_failure
from openrayzer.components.attention.reference import ReferenceAttention
from openrayzer.components.attention.xformers import XformersAttention
from openrayzer.interfaces import ATTENTION_BACKENDS, InputError

CPU = Kind(torch.device("cpu"), torch.float32, 16)
CUDA = torch.device("cuda", 0)
HERE = [entry.name for entry in ATTENTION_BACKENDS if issubclass(entry.target, ProvenAttention)]


@pytest.fixture(autouse=True)
def _no_memory() -> Iterator[None]:
    """Clear the caches, so that tests do not share choices and warnings."""
    caches = (proven._proven_refusal, auto._reported_choice, auto._warn)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


def pretend(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], failing: dict[str, str]) -> list[str]:
    """Pretend that there is a CUDA device on which the ``failing`` backends fail. Returns the list of trial calls."""
    tried: list[str] = []

    def call(attend: object, kind: Kind) -> str:
        name = attend.__self__.name  # type: ignore[attr-defined]
        tried.append(name)
        return failing.get(name, "")

    monkeypatch.setattr(proven, "trial_failure", call)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    monkeypatch.setattr(XformersAttention, "rule", lambda self, kind: failing.get("rule of xformers", ""))
    monkeypatch.setattr(auto, "broken", lambda: failing.get("rule of xformers", ""))
    return tried


def chosen(kind: Kind) -> str:
    return auto._choice(False, True, *kind)


def test_a_failing_trial_call_gives_its_reason():
    assert trial_failure(ReferenceAttention().attend, CPU) == ""

    def broken(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        raise NotImplementedError("no operator\n   for this")

    assert trial_failure(broken, CPU) == "a small call failed: NotImplementedError: no operator for this"


def test_an_error_of_the_backward_pass_is_a_failure():
    class Forward(torch.autograd.Function):
        @staticmethod
        def forward(ctx, query: Tensor) -> Tensor:
            return query.clone()

        @staticmethod
        def backward(ctx, gradient: Tensor) -> Tensor:
            raise RuntimeError("no kernel image is available")

    assert "no kernel image" in trial_failure(lambda query, key, value: Forward.apply(query), CPU)
    assert "appears to not have been used" in trial_failure(lambda query, key, value: query * 2, CPU)


def test_an_out_of_memory_error_is_no_refusal():
    def full(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        trial_failure(full, CPU)


def test_a_trial_call_is_isolated_from_its_caller():
    seen: list[tuple] = []

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = ReferenceAttention().attend(query, key, value)
        seen.append((type(query), query.is_inference(), torch.is_grad_enabled(), out.dtype, query.shape[-1]))
        return out

    def packed(tensor: Tensor) -> Tensor:
        raise AssertionError("the trial call must not reach hooks for saved tensors")

    numbers = torch.get_rng_state()
    with (
        FlopCounterMode(display=False) as counter,
        torch.autocast("cpu", torch.bfloat16),
        torch.autograd.graph.saved_tensors_hooks(packed, packed),
        torch.inference_mode(),
        FakeTensorMode(),
    ):
        assert trial_failure(attend, CPU) == ""
    assert seen == [(Tensor, False, True, torch.float32, 16)]
    assert counter.get_total_flops() == 0
    assert torch.equal(torch.get_rng_state(), numbers)


def test_each_kind_has_one_trial_call_and_tensors_without_data_have_none(monkeypatch: pytest.MonkeyPatch):
    tried = pretend(monkeypatch, (9, 0), {"flash": "the driver is too old"})
    with FakeTensorMode():
        query = torch.empty(1, 4, 2, 64, dtype=torch.bfloat16, device="cuda")
        assert FlashAttention().refusal(query) == ""
    assert tried == []
    for _ in range(2):
        assert proven.kind_refusal("flash", False, CUDA, torch.bfloat16, 64, False) == "the driver is too old"
    assert tried == ["flash"]
    proven.kind_refusal("flash", False, CUDA, torch.bfloat16, 32, False)
    assert tried == ["flash", "flash"]


@pytest.mark.parametrize(
    ("capability", "dtype", "failing", "takes"),
    [
        ((9, 0), torch.bfloat16, {}, "cudnn"),
        ((10, 0), torch.float16, {}, "cudnn"),
        ((9, 0), torch.bfloat16, {"cudnn": "not initialised"}, "flash"),
        ((8, 0), torch.bfloat16, {}, "flash"),
        ((8, 9), torch.bfloat16, {"flash": "no"}, "xformers"),
        ((12, 0), torch.bfloat16, {}, "flash"),
        ((9, 0), torch.float32, {}, "efficient"),
        ((9, 0), torch.float32, {"efficient": "no"}, "xformers"),
        ((9, 0), torch.float32, {"efficient": "no", "rule of xformers": "no"}, "sdpa"),
        ((7, 5), torch.float16, {}, "efficient"),
        ((9, 0), torch.float64, {}, "sdpa"),
    ],
)
def test_auto_takes_the_first_backend_of_the_table_that_runs(monkeypatch, capability, dtype, failing, takes):
    pretend(monkeypatch, capability, failing)
    assert chosen(Kind(CUDA, dtype, 64)) == takes


def test_auto_tries_no_backend_after_its_choice(monkeypatch: pytest.MonkeyPatch):
    tried = pretend(monkeypatch, (9, 0), {"cudnn": "not initialised"})
    chosen(Kind(CUDA, torch.bfloat16, 64))
    assert tried == ["cudnn", "flash"]


def test_a_single_query_never_goes_to_cudnn(monkeypatch: pytest.MonkeyPatch):
    pretend(monkeypatch, (9, 0), {})
    assert chosen(Kind(CUDA, torch.bfloat16, 64, one_query=True)) == "flash"


def test_the_log_warns_once_of_a_broken_installation_with_its_remedy(monkeypatch, caplog):
    reason = "its operators did not load: libcudart.so.12: pip install nvidia-cuda-runtime-cu12"
    pretend(monkeypatch, (9, 0), {"cudnn": "not initialised", "rule of xformers": reason})
    with caplog.at_level(logging.INFO, logger="openrayzer"):
        for width in (64, 64, 128):
            chosen(Kind(CUDA, torch.bfloat16, width))
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 2
    assert "'cudnn' should be the fastest but cannot run: not initialised; 'flash' runs instead" in warned[0]
    assert warned[1].endswith("pip install nvidia-cuda-runtime-cu12")
    assert sum(record.levelno == logging.INFO for record in caplog.records) == 2


def test_only_the_first_process_of_a_machine_warns(monkeypatch, caplog):
    monkeypatch.setenv("LOCAL_RANK", "1")
    pretend(monkeypatch, (9, 0), {"cudnn": "not initialised"})
    with caplog.at_level(logging.INFO, logger="openrayzer"):
        chosen(Kind(CUDA, torch.bfloat16, 64))
    assert {record.levelno for record in caplog.records} == {logging.INFO}


def test_the_log_has_no_warning_if_the_best_backend_runs(monkeypatch, caplog):
    pretend(monkeypatch, (9, 0), {})
    with caplog.at_level(logging.WARNING, logger="openrayzer"):
        chosen(Kind(CUDA, torch.bfloat16, 64))
        chosen(Kind(CUDA, torch.float64, 64))
    assert not caplog.records


@pytest.mark.parametrize(
    ("backend", "capability", "dtype", "width", "part"),
    [
        (FlashAttention, (7, 5), torch.float16, 64, "needs compute capability 8.0, this device has 7.5"),
        (FlashAttention, (9, 0), torch.float32, 64, "takes float16, bfloat16, got torch.float32"),
        (FlashAttention, (9, 0), torch.float16, 264, "may be at most 256 wide, got 264"),
        (CudnnAttention, (9, 0), torch.float32, 64, "takes float16, bfloat16"),
        (CudnnAttention, (9, 0), torch.bfloat16, 36, "multiple of 8, got 36"),
        (EfficientAttention, (7, 5), torch.float64, 64, "takes float16, bfloat16, float32, got torch.float64"),
        (FlexAttention, (9, 0), torch.bfloat16, 8, "16 wide or wider, got 8"),
        (FlexAttention, (7, 5), torch.float16, 64, "needs compute capability 8.0"),
        (FlexAttention, (9, 0), torch.float64, 64, "takes float16, bfloat16, float32"),
    ],
)
def test_rules_explain_the_requirements_of_a_kernel(monkeypatch, backend, capability, dtype, width, part):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    assert part in backend().rule(Kind(CUDA, dtype, width))


def test_rules_respect_the_switches_of_pytorch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    kind = Kind(CUDA, torch.bfloat16, 64)
    assert CudnnAttention().rule(kind) == ""
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        assert "enable_cudnn_sdp(False) is in effect" in CudnnAttention().rule(kind)
    finally:
        torch.backends.cuda.enable_cudnn_sdp(True)


@pytest.mark.parametrize("name", HERE)
def test_the_error_of_a_backend_that_cannot_run_has_its_name_and_a_remedy(name):
    assert ATTENTION_BACKENDS[name].name == name
    query = torch.zeros(1, 2, 1, 16)
    with pytest.raises(InputError, match=f"'{name}' cannot run: its operators need a CUDA.*use 'auto' or 'sdpa'"):
        ATTENTION_BACKENDS[name]().attend(query, query, query)
    with pytest.raises(InputError, match=f"'{name}' cannot run"):
        ATTENTION_BACKENDS[name]().attend_with_lse(query, query, query)


def test_the_table_has_registered_backends_with_reasons():
    assert set(NAMES) <= {entry.name for entry in ATTENTION_BACKENDS}
    assert all(row.why and row.order for row in TABLE)
    assert preferred(CPU) == ("xformers", "reference", "sdpa")
