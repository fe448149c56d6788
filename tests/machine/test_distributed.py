"""Start-up of the processes of a run."""

import os

import deepspeed
import pytest
import torch
import torch.distributed as dist

from openrayzer.interfaces import InputError
from openrayzer.machine import distributed
from openrayzer.machine.distributed import check_local_processes, started
from openrayzer.machine.slurm_ranks import first_host, slurm_ranks


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of a process in a SLURM job of eight tasks that ``srun`` did not start."""
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # so that the values are restored after the test
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLURM_NTASKS", "8")
    return monkeypatch


STEP = {
    "SLURM_STEP_NUM_TASKS": "20", "SLURM_STEP_NUM_NODES": "3", "SLURM_STEP_TASKS_PER_NODE": "8(x2),4",
    "SLURM_STEP_NODELIST": "gpu[03-04],fat1", "SLURM_PROCID": "17", "SLURM_LOCALID": "1", "SLURM_NODEID": "2",
    "SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "0",
}  # fmt: skip


def test_a_process_beside_the_tasks_of_a_slurm_job_is_refused_with_remedies(slurm: pytest.MonkeyPatch):
    with pytest.raises(InputError, match=r"SLURM has 8 tasks") as caught, started():
        pass
    for words in ("start it with srun", "SLURM_NTASKS=1 openrayzer"):
        assert words in str(caught.value)
    with pytest.raises(InputError, match="SLURM has 8 tasks"):
        check_local_processes()
    assert "RANK" not in os.environ


@pytest.mark.parametrize(("name", "value"), [("SLURM_NTASKS", "1"), ("RANK", "3"), ("SLURM_STEP_NUM_TASKS", "1")])
def test_a_single_task_and_tasks_with_ranks_start(slurm: pytest.MonkeyPatch, name: str, value: str):
    slurm.setenv(name, value)
    check_local_processes()


def test_tasks_of_srun_get_ranks(slurm: pytest.MonkeyPatch):
    for name, value in STEP.items():
        slurm.setenv(name, value)
    slurm.setattr(distributed.torch.cuda, "is_available", lambda: True)
    check_local_processes()
    found = {name: os.environ[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")}
    assert found == {
        "RANK": "17", "LOCAL_RANK": "1", "WORLD_SIZE": "20", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "gpu03",
    }  # fmt: skip


def test_all_tasks_of_a_step_choose_the_same_port_and_keep_a_given_one():
    ports = {slurm_ranks(STEP | {"SLURM_PROCID": str(rank)})["MASTER_PORT"] for rank in range(20)}
    assert len(ports) == 1
    assert 10_000 <= int(ports.pop()) < 30_000
    assert slurm_ranks(STEP | {"MASTER_PORT": "29501"})["MASTER_PORT"] == "29501"
    assert slurm_ranks(STEP | {"SLURM_STEP_NUM_NODES": "1"})["MASTER_ADDR"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n1", "n1"), ("n[01-04],m2", "n01"), ("a,b", "a"), ("r[0-1]n[7,9]-ib,x", "r0n7-ib"), ("n[5]", "n5")],
)
def test_the_first_host_of_a_list(nodes: str, first: str):
    assert first_host(nodes) == first


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
