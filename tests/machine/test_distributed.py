"""Start-up of the processes of a run."""

import os

import deepspeed
import pytest
import torch
import torch.distributed as dist

from openrayzer.interfaces import InputError
from openrayzer.machine import distributed
from openrayzer.machine.distributed import check_local_processes, started


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of one of eight SLURM tasks without ranks."""
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.setenv("SLURM_PROCID", "3")
    return monkeypatch


def test_slurm_tasks_without_a_rank_are_refused_with_two_remedies(slurm: pytest.MonkeyPatch):
    with pytest.raises(InputError, match=r"SLURM has 8 tasks") as caught, started():
        pass
    for words in ("RANK=$SLURM_PROCID", "LOCAL_RANK=$SLURM_LOCALID", "docs/clusters.md", "SLURM_NTASKS=1 python"):
        assert words in str(caught.value)
    with pytest.raises(InputError, match="SLURM has 8 tasks"):
        check_local_processes()
    assert "RANK" not in os.environ


@pytest.mark.parametrize(("name", "value"), [("SLURM_NTASKS", "1"), ("RANK", "3")])
def test_a_single_task_and_tasks_with_ranks_start(slurm: pytest.MonkeyPatch, name: str, value: str):
    slurm.setenv(name, value)
    check_local_processes()


@pytest.mark.parametrize("world_size", ["1", "2"])
def test_the_process_group_gets_its_gpu(monkeypatch: pytest.MonkeyPatch, world_size: str):
    """Otherwise NCCL would guess the GPU from the rank and warn, even with one process."""
    calls: list[dict] = []
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": world_size}.items():
        monkeypatch.setenv(name, value)
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(distributed, "_choose_device", lambda local_rank: (gpu, "nccl"))
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **named: calls.append({"backend": backend} | named))
    monkeypatch.setattr(dist, "new_group", lambda **named: None)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    monkeypatch.setattr(deepspeed, "init_distributed", lambda *given, **named: None)
    with started() as process:
        assert process.device == gpu
    assert [call["device_id"] for call in calls] == [gpu]
