"""The record of a run holds the commit of openrayzer's own clone, or none."""

import subprocess
from pathlib import Path

import pytest

from openrayzer.weights import run_record


def test_the_commit_of_another_project_is_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *words], check=True, capture_output=True)

    def recorded(package: str) -> str | None:
        monkeypatch.setattr(run_record, "__file__", str(tmp_path / package / "openrayzer/weights/run_record.py"))
        return run_record.run_record({}, deepspeed={}, world_size=1)["run"]["git_commit"]

    (tmp_path / "lib/openrayzer/weights").mkdir(parents=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert recorded("") == head
    assert recorded("lib") is None


def test_a_resumed_run_may_use_another_cache_but_no_other_image_size():
    none, disk, larger = (
        {"data": {"cache": cache, "image_size": [size, size]}}
        for cache, size in ((None, 64), ({"folder": "/scratch/frames", "gigabytes": 9.0}, 64), (None, 128))
    )
    assert run_record.differences(none, disk) == run_record.differences(disk, none) == []
    assert run_record.differences(none, larger) == ["data.image_size[0]: 64 -> 128", "data.image_size[1]: 64 -> 128"]
