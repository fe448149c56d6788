"""The xformers backend: its rules, loading of its operators, and the advice if they do not load."""

import gc
import logging
import weakref
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from openrayzer.components.attention import xformers_operators
from openrayzer.components.attention.auto import AutoAttention
from openrayzer.components.attention.xformers import XformersAttention, operator_refusal

CAPABILITIES = ((8, 0), (9, 0), (10, 0))
DTYPES = (torch.bfloat16, torch.float32)


def operators(query: torch.Tensor, key: torch.Tensor) -> list[str]:
    """Names of the forward and backward operators that xformers' dispatcher chooses; empty if it refuses the call."""
    from xformers.ops.fmha.common import Inputs
    from xformers.ops.fmha.dispatch import _dispatch_bw, _dispatch_fw

    names = []
    for choose, last in ((_dispatch_fw, True), (_dispatch_bw, None)):
        try:
            names.append(choose(Inputs(query, key, key), last).NAME)
        except NotImplementedError:
            names.append("")
    return names


@pytest.mark.filterwarnings("ignore")  # from the import of xformers
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("width", [64, 36])
def test_the_dispatcher_of_xformers_agrees_with_our_rules(monkeypatch, capability, dtype, width):
    """The tensors have no data and the GPU does not exist."""
    if why := xformers_operators.failure_to_load():
        pytest.skip(why)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    with FakeTensorMode():
        query, key = (torch.empty(2, n, 12, width, dtype=dtype, device="cuda", requires_grad=True) for n in (257, 1028))
        taken = operators(query, key)
        said = XformersAttention().refusal(query)
    assert said == operator_refusal(capability=capability, dtype=dtype, head_width=width)
    assert [bool(name) for name in taken] == [not said, not said]
    if taken[0]:
        kernel = "fa2" if dtype == torch.bfloat16 else "cutlass"
        assert all(name.startswith(kernel) and name.endswith("-pt") for name in taken)  # PyTorch's own kernels


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_rules_alone_decide_for_tensors_without_data(monkeypatch, capability):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    with FakeTensorMode():
        half, full = (torch.empty(2, 16, 4, 64, dtype=dtype, device="cuda") for dtype in DTYPES)
        assert AutoAttention().choose(half, half).name == ("flash" if capability < (9, 0) else "cudnn")
        assert AutoAttention().choose(full, full).name == "efficient"


def test_the_advice_has_the_root_cause_and_the_command_that_fixes_it():
    outer = RuntimeError("xFormers can't load C++/CUDA extensions.\n please reinstall")
    outer.__cause__ = OSError("Could not load this library: /here/_C.so")
    outer.__cause__.__cause__ = OSError("libcudart.so.12: cannot open shared object file: No such file or directory")
    said = xformers_operators.advice(outer)
    assert said.startswith("libcudart.so.12: cannot open shared object file")
    assert said.endswith(": pip install nvidia-cuda-runtime-cu12")


def test_the_advice_names_the_pytorch_version_of_the_library():
    failure = OSError("_C.so: undefined symbol: aoti_torch_new")
    failure.build_info = SimpleNamespace(torch_version="2.20.0+cu140")
    said = xformers_operators.advice(failure)
    assert "undefined symbol: aoti_torch_new (built for 2.20.0+cu140, this is " in said
    assert said.endswith("pip install --upgrade xformers")


@pytest.fixture
def _empty_cache():
    xformers_operators.broken.cache_clear()
    yield
    xformers_operators.broken.cache_clear()


@pytest.mark.usefixtures("_empty_cache")
def test_each_way_of_failing_to_load_gives_a_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(xformers_operators, "find_spec", lambda name: None)
    assert xformers_operators.failure_to_load() == "xformers is not installed: pip install xformers"
    assert xformers_operators.broken() == ""
    monkeypatch.setattr(xformers_operators, "find_spec", lambda name: object())
    for library, part in [
        (SimpleNamespace(_cpp_library_load_exception=OSError("libcudart.so.12: gone")), "runtime-cu12"),
        (SimpleNamespace(_cpp_library_load_exception=None), ""),
        (SimpleNamespace(), ""),
    ]:
        xformers_operators.broken.cache_clear()
        monkeypatch.setattr(xformers_operators, "import_module", lambda name, found=library: found)
        said = xformers_operators.failure_to_load()
        assert (part in said) if part else not said
    xformers_operators.broken.cache_clear()

    def fails(name: str) -> None:
        raise ImportError("no module named triton")

    monkeypatch.setattr(xformers_operators, "import_module", fails)
    assert xformers_operators.failure_to_load() == "it cannot be imported: ImportError: no module named triton"


@pytest.mark.usefixtures("_empty_cache")
def test_the_warning_of_xformers_at_import_is_silent(monkeypatch: pytest.MonkeyPatch, caplog):
    def imported(name: str) -> SimpleNamespace:
        logging.getLogger("xformers").warning("please reinstall xformers")
        return SimpleNamespace(_cpp_library_load_exception=OSError("libcudart.so.12: gone"))

    monkeypatch.setattr(xformers_operators, "find_spec", lambda name: object())
    monkeypatch.setattr(xformers_operators, "import_module", imported)
    assert xformers_operators.broken()
    assert not caplog.records
    assert logging.getLogger("xformers").level != logging.ERROR


def test_the_stored_exception_keeps_no_tensors_in_memory():
    def load() -> None:
        held = torch.zeros(3)
        alive.append(weakref.ref(held))
        raise OSError("no library")

    def attend() -> None:
        try:
            load()
        except OSError as error:
            raise ImportError("not loaded") from error

    alive: list[weakref.ref[torch.Tensor]] = []
    try:
        attend()
    except ImportError as error:
        failure = error
    gc.collect()
    assert alive[0]() is not None
    assert str(xformers_operators._without_frames(failure)) == "not loaded"
    gc.collect()
    assert alive[0]() is None
