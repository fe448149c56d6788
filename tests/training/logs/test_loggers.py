"""No logger can stop a run, and no logger needs a key or a server."""

import json
import logging
from pathlib import Path

import pytest
from PIL import Image

from openrayzer.interfaces import InputError, Logger
from openrayzer.training.logs.loggers import Jsonl, LoggerGroup, TensorBoard, WeightsAndBiases

RECORD = {"step": 1, "split": "train", "loss": 0.5, "psnr": float("inf")}


class Failing(Logger):
    """A logger that fails at the second record."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def open(self, run_folder, experiment) -> None:
        pass

    def record(self, values) -> None:
        self.calls += 1
        if self.calls == 2:
            raise ConnectionError("no route to host")


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_jsonl_writes_strict_json_and_appends(tmp_path: Path):
    for _ in range(2):
        logger = Jsonl()
        logger.open(tmp_path, {})
        logger.record(RECORD)
    assert lines(tmp_path) == [RECORD | {"psnr": None}] * 2


def test_jsonl_keeps_lines_it_could_not_write(tmp_path: Path):
    folder = tmp_path / "later"
    logger = Jsonl()
    logger.open(folder, {})
    logger.record({"step": 1})
    folder.mkdir()
    logger.record({"step": 2})
    assert lines(folder) == [{"step": 1}, {"step": 2}]


def test_jsonl_stays_in_the_run_folder():
    with pytest.raises(InputError, match="plain file name"):
        Jsonl(filename="../elsewhere.jsonl")


def test_a_failing_logger_is_named_once_and_the_others_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    failing = Failing()
    group = LoggerGroup([failing, Jsonl()])
    group.open(tmp_path, {})
    with caplog.at_level(logging.WARNING):
        for step in range(4):
            group.record({"step": step})
    group.close()
    assert len(lines(tmp_path)) == 4
    assert failing.calls == 2
    assert [record.getMessage() for record in caplog.records] == [
        "logger Failing failed in record and is left out: ConnectionError: no route to host"
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("package", "logger", "pattern"),
    [
        ("wandb", WeightsAndBiases(), "wandb/offline-run-*/*.wandb"),
        ("tensorboard", TensorBoard(), "tensorboard/events.out.tfevents.*"),
    ],
)
def test_others_write_below_the_run_folder_without_key_or_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, logger: Logger, pattern: str
):
    pytest.importorskip(package)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    picture = tmp_path / "picture.png"
    Image.new("RGB", (8, 8)).save(picture)
    logger.open(tmp_path, {"train": {"steps": 3}})
    logger.record({"step": 1, "split": "train", "loss": 0.5})
    logger.picture(1, picture)
    logger.close()
    assert list(tmp_path.glob(pattern))
