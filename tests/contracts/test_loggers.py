"""What every logger promises: it takes any record, writes into the run folder only, and continues a run."""

import os
from pathlib import Path

import pytest
from PIL import Image
from small import names

from openrayzer.interfaces import LOGGERS

RECORDS = [
    {"step": 1, "split": "train", "loss": 0.5, "psnr": float("inf"), "grad_norm": float("nan"), "lr": 1e-4},
    {"step": 1, "split": "test", "psnr": 20.0, "scenes": 3, "problems": ["scene 'attic': too dark"]},
]


@pytest.mark.parametrize("name", names(LOGGERS))
def test_a_run_and_its_continuation_are_recorded_inside_the_run_folder(small, name, tmp_path: Path, monkeypatch):
    if name == "mlflow":
        pytest.importorskip("mlflow")
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    (folder / "samples").mkdir(parents=True)
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    picture = folder / "samples" / "step_00000001.png"
    Image.new("RGB", (8, 8)).save(picture)
    for _ in range(2):
        logger = small(LOGGERS, name)
        logger.open(folder, {"train": {"steps": 2}})
        for record in RECORDS:
            logger.record(record)
        logger.picture(1, picture)
        logger.close()
    assert len([file for file in folder.rglob("*") if file.is_file()]) > 1
    assert os.listdir(elsewhere) == []


@pytest.mark.parametrize("name", names(LOGGERS))
def test_a_logger_that_was_never_opened_can_be_closed(small, name):
    small(LOGGERS, name).close()
