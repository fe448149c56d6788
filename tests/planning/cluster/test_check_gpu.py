"""tools/check_gpu.py: the findings of each check with a fault, and the tool on a machine without a GPU."""

import json
import runpy
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from openrayzer.components.attention import xformers_operators
from openrayzer.interfaces import RASTERISERS, InputError
from openrayzer.planning.cluster import gpus, installation, working_libraries
from openrayzer.planning.cluster.findings import Finding

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake GPU; its computations run on the CPU."""
    properties = SimpleNamespace(name="NVIDIA H200", major=9, minor=0, total_memory=140 * 2**30)
    answers = {
        "is_available": True, "device_count": 1, "get_device_properties": properties,
        "get_device_capability": (9, 0), "mem_get_info": (130 * 2**30, 140 * 2**30), "synchronize": None,
        "get_arch_list": ["sm_75", "sm_80", "sm_90"],
    }  # fmt: skip
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr(torch, "device", lambda *_: CPU)


def verdicts(findings: list[Finding]) -> dict[str, str]:
    return {finding.what: finding.verdict for finding in findings}


@pytest.mark.usefixtures("one_gpu")
def test_a_working_gpu_passes():
    findings = list(gpus.check_gpus())
    assert verdicts(findings) == {"GPU 0": "ok", "cuDNN": "ok"}
    assert findings[0].found == "NVIDIA H200, compute capability 9.0, 140 GiB, 130 GiB free"


@pytest.mark.usefixtures("one_gpu")
def test_a_gpu_without_kernels_fails_with_the_gpus_of_this_build(monkeypatch: pytest.MonkeyPatch):
    def refuse(device: torch.device) -> None:
        raise RuntimeError("CUDA error: no kernel image is available\nfor execution on the device")

    monkeypatch.setattr(gpus, "_multiply", refuse)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (6, 1))
    (finding,) = gpus.check_gpus()
    assert finding.verdict == "FAILS"
    assert "no kernel image is available for execution" in finding.found
    assert "this PyTorch was built for sm_75, sm_80, sm_90, the GPU has 6.1" in finding.found


@pytest.mark.usefixtures("one_gpu")
def test_wrong_products_a_full_gpu_and_missing_bfloat16_are_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 5))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (10 * 2**30, 140 * 2**30))
    findings = list(gpus.check_gpus())
    assert verdicts(findings) == {"GPU 0": "warning", "bfloat16": "warning", "cuDNN": "ok"}
    assert "other programs use it" in findings[0].found
    assert (ROOT / "ds_configs/zero2_fp32.json").is_file()
    assert "ds_configs/zero2_fp32.json" in findings[1].found
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda one, other: one)
    assert "65536 of 65536 numbers of a matrix product are wrong" in next(gpus.check_gpus()).found


def test_a_missing_gpu_fails_with_reason_and_requirement(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    finding = gpus.check_driver()
    assert finding.verdict == "FAILS"
    assert "CUDA_VISIBLE_DEVICES='-1' hides every GPU" in finding.found
    assert "needed are an NVIDIA GPU and a driver for CUDA" in finding.found
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")

    def refuse() -> None:
        raise RuntimeError("Found no NVIDIA driver on your system")

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", refuse)
    assert "Found no NVIDIA driver on your system" in gpus.check_driver().found


def test_a_build_without_cuda_fails_with_the_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    finding = gpus.check_torch()
    assert (finding.verdict, "pip install --force-reinstall torch" in finding.found) == ("FAILS", True)


def test_memory_that_cannot_be_pinned_fails(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise RuntimeError("cannot pin")

    monkeypatch.setattr(torch.Tensor, "pin_memory", refuse)
    finding = gpus.check_pinned_memory()
    assert finding.verdict == "FAILS"
    assert "cannot pin; ulimit -l" in finding.found


def test_little_space_gives_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=2**26))
    assert "--shm-size" in gpus.check_shared_memory().found
    disk = gpus.check_disk(tmp_path / "not" / "there")
    assert disk.verdict == "warning"
    assert f"0 GiB free in {tmp_path}" in disk.found
    assert gpus.check_shared_memory(tmp_path / "nowhere").verdict == "warning"


def test_every_attention_backend_and_the_choice_of_auto_are_checked():
    findings = {finding.what: finding for finding in working_libraries.check_attention(CPU)}
    assert findings["attention sdpa"].found == "runs in bfloat16 and float32"
    xformers = findings["attention xformers"]
    assert xformers.verdict == "warning"
    assert xformers.found.startswith("not in bfloat16 and float32: its operators need a CUDA device")
    assert findings["auto in float32"].found == "training uses 'sdpa'"


def test_rasterisers_are_compared_and_the_choice_of_auto_is_shown(monkeypatch: pytest.MonkeyPatch):
    tiles, kernels = working_libraries.check_rasterisers(CPU)
    assert (tiles.what, tiles.verdict) == ("rasteriser torch", "ok")
    assert kernels.what == "rasteriser gsplat"
    assert kernels.found.endswith("; 'auto' takes 'torch'")
    monkeypatch.setattr(RASTERISERS["gsplat"], "refusal", lambda self, device: "")
    monkeypatch.setattr(working_libraries, "package_version", lambda name: "1.5.3")
    monkeypatch.setattr(working_libraries, "_difference_from_cpu", lambda device: 0.2)
    tiles, kernels = working_libraries.check_rasterisers(CPU)
    assert (tiles.verdict, tiles.found) == ("FAILS", "images or gradients differ from those of the CPU by 0.2")
    assert kernels.verdict == "ok"
    assert kernels.found == "1.5.3, images and gradients are those of 'torch'; 'auto' takes 'gsplat'"


def test_wrong_compiled_results_fail_and_compiler_errors_give_a_warning(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(working_libraries.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(torch, "compile", lambda function: function)
    assert working_libraries.check_compiler(CPU).verdict == "ok"
    monkeypatch.setattr(torch, "compile", lambda function: lambda values: values)
    assert working_libraries.check_compiler(CPU).verdict == "FAILS"

    def refuse(function: object) -> None:
        raise ValueError("no Python.h")

    monkeypatch.setattr(torch, "compile", refuse)
    finding = working_libraries.check_compiler(CPU)
    assert (finding.verdict, "ValueError: no Python.h; set train.compile=false" in finding.found) == ("warning", True)
    monkeypatch.setattr(working_libraries.shutil, "which", lambda name: None)
    assert "no C compiler" in working_libraries.check_compiler(CPU).found


def test_broken_deepspeed_and_xformers_are_found_with_a_remedy(monkeypatch: pytest.MonkeyPatch):
    def refuse(name: str) -> None:
        raise OSError(f"{name} needs a library")

    finding = working_libraries.check_deepspeed(refuse)
    assert finding.verdict == "FAILS"
    assert "OSError: deepspeed needs a library: pip install 'deepspeed>=0.19,<0.20'" in finding.found
    broken = "no libcudart.so.12: pip install nvidia-cuda-runtime-cu12"
    monkeypatch.setattr(xformers_operators, "failure_to_load", lambda: broken)
    assert "pip install nvidia-cuda-runtime-cu12; PyTorch's own" in working_libraries.check_xformers().found
    assert working_libraries.check_xformers().verdict == "warning"


def test_versions_have_their_usual_form(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert [installation.dotted(number) for number in (92400, 91002, None)] == ["9.24.0", "9.10.2", "none"]
    kernel = tmp_path / "version"
    kernel.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 2025\nGCC version: 12\n")
    monkeypatch.setattr(installation, "_DRIVER", kernel)
    monkeypatch.setattr(installation.shutil, "which", lambda name: None)
    assert installation.driver_version() == "580.65.06"


def tool(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["check_gpu.py", *arguments])
    return runpy.run_path(str(ROOT / "tools/check_gpu.py"))["main"]()


def test_a_machine_without_a_gpu_is_not_ready(monkeypatch, tmp_path: Path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert tool(monkeypatch, "--json", str(tmp_path / "gpu.json"), "--output", str(tmp_path)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "NOT ready to train on a GPU of this machine"
    assert lines[-2].startswith("driver")
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["ready"] is False
    assert found["installation"]["torch"] == torch.__version__
    assert {"what": "driver", "verdict": "FAILS"}.items() <= found["findings"][2].items()


def test_a_missing_folder_is_an_input_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with pytest.raises(InputError, match="there is no folder"):
        tool(monkeypatch, "--json", str(tmp_path / "nowhere" / "gpu.json"))
