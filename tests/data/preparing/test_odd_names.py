"""prepare_data.py with folder names that are not UTF-8, as in old archives."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from openrayzer.machine.distributed import Process
from openrayzer.training.logs.console import logging_to

ROOT = Path(__file__).parents[3]

NAME = os.fsdecode(b"caf\xe9")


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two scenes of four frames; one has such a name."""
    content = cv2.imencode(".png", np.zeros((20, 30, 3), np.uint8))[1].tobytes()
    for name in (NAME, "plain"):
        (tmp_path / "clips" / name).mkdir(parents=True)
        for frame in range(4):
            (tmp_path / "clips" / name / f"{frame}.png").write_bytes(content)
    return tmp_path / "clips"


def test_conversion_names_the_scenes_that_it_leaves_out(prepare, clips, tmp_path):
    output = Path(f"{tmp_path}/{NAME}")
    done = prepare("convert", "--from", "images", clips, "--output", output)
    assert done.returncode == 1, done.stderr
    assert r"scene 'caf\udce9' is left out" in done.stdout
    manifest = json.loads((output / "train" / "manifest.json").read_text(encoding="utf-8"))
    assert f"{clips}/{NAME}: " in manifest["problems"][0]
    assert manifest["plan"] == [[["plain", 4]]]
    assert "complete already" in prepare("convert", "--from", "images", clips, "--output", output).stdout


def test_reports_name_them(prepare, clips, tmp_path):
    done = prepare("verify", "--from", "images", clips, "--output", tmp_path / "report.json")
    assert (done.returncode, done.stderr) == (1, "")
    assert NAME in json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["problems"][0]


def test_problems_are_printed_where_the_terminal_has_no_utf_8(clips):
    command = [sys.executable, ROOT / "tools/prepare_data.py", "verify", "--from", "images", clips]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONIOENCODING": "ascii:strict"}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert r"clips/caf\udce9: scene" in done.stdout


def test_logs_take_such_names(tmp_path, monkeypatch):
    monkeypatch.setattr(logging.getLogger("openrayzer"), "propagate", False)  # pytest-xdist cannot send such a name
    with logging_to(tmp_path, Process(0, 0, 1, torch.device("cpu"))):
        logging.getLogger("openrayzer").info("scene %s", NAME)
    assert (tmp_path / "train.log").read_text(encoding="utf-8").endswith("scene caf\\udce9\n")
