"""No logger can stop a run, and no logger needs a key or a server."""

import json
import logging
import sys
from pathlib import Path

import pytest
from PIL import Image

from openrayzer.interfaces import InputError, Logger
from openrayzer.training.logs.loggers import Jsonl, LoggerGroup, TensorBoard
from openrayzer.training.logs.tracking import MLflow, WeightsAndBiases

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


TABLE = "scene,frame,psnr\nroom_0,3,21.5\nroom_1,4,\n"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A picture, a table and a card in a run folder; no key is known."""
    for name in ("WANDB_API_KEY", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.setenv(name, "true")
    found = {"picture": tmp_path / "picture.png", "table": tmp_path / "per_view.csv", "card": tmp_path / "card.md"}
    Image.new("RGB", (8, 8)).save(found["picture"])
    found["table"].write_text(TABLE)
    found["card"].write_text("# A card")
    return found


def told(logger: Logger, folder: Path, files: dict[str, Path], *, step: int = 1) -> None:
    """Tell a logger everything that a short run does."""
    logger.open(folder, {"train": {"steps": 3, "lr": None}, "plugins": []})
    logger.record({"step": step, "split": "train", "loss": 0.5})
    logger.picture(step, files["picture"])
    logger.table(step, "test", files["table"])
    logger.model_card(files["card"])
    logger.close()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("uploads", [True, False])
def test_wandb_writes_offline_and_takes_tables_and_card_when_asked(
    tmp_path: Path, files: dict[str, Path], uploads: bool
):
    pytest.importorskip("wandb")
    told(WeightsAndBiases(samples=uploads, evaluation=uploads, card=uploads), tmp_path, files)
    (kept,) = tmp_path.glob("wandb/offline-run-*/files")
    assert list(kept.parent.glob("*.wandb"))
    found = [bool(list(kept.glob(name))) for name in ("media/images/*.png", "media/table/test/*.json", "card.md")]
    assert found == [uploads] * 3


class InitOnly:
    """A stand-in for wandb that keeps the arguments of ``init``."""

    def __init__(self) -> None:
        self.runs: list[dict] = []

    def init(self, **arguments: object) -> "InitOnly":
        self.runs.append(arguments)
        return self

    def Settings(self, **arguments: object) -> None: ...  # noqa: N802

    def define_metric(self, *arguments: object, **named: object) -> None: ...


def test_wandb_keeps_the_id_over_resumes_and_groups_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    wandb = InitOnly()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    for rank in ("0", "1", "0"):
        monkeypatch.setenv("RANK", rank)
        LoggerGroup([WeightsAndBiases(ranks="all"), Jsonl()], first=rank == "0").open(tmp_path, {})
    first, second, resumed = wandb.runs
    assert first["id"] == resumed["id"] != second["id"]
    assert first["group"] == second["group"] == first["name"]
    assert (first["job_type"], second["job_type"]) == ("rank 0", "rank 1")


def test_other_ranks_open_only_loggers_of_every_rank_and_record_nothing(tmp_path: Path):
    failing = Failing()
    failing.on_every_rank = True
    group = LoggerGroup([failing, Jsonl()], first=False)
    group.open(tmp_path, {})
    group.record(RECORD)
    assert failing.calls == 0
    assert not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.filterwarnings("ignore")
def test_mlflow_goes_on_with_its_run_in_the_run_folder(tmp_path: Path, files: dict[str, Path]):
    mlflow = pytest.importorskip("mlflow", reason="needs pip install 'openrayzer[mlflow]'")
    for step in (1, 2):
        told(MLflow(evaluation=True, card=True), tmp_path, files, step=step)
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("openrayzer").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params == {"train.steps": "3", "train.lr": "null", "plugins": "[]"}
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "train/loss")] == [1, 2]
    stored = {path.name for path in tmp_path.glob("mlruns/*/*/artifacts/**/*") if path.is_file()}
    assert stored == {"picture.png", "per_view.csv", "card.md", "experiment.json"}


def test_a_password_in_the_address_of_a_server_is_refused():
    with pytest.raises(InputError, match="MLFLOW_TRACKING_PASSWORD"):
        MLflow(server="https://me:secret@mlflow.example.org")


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_writes_below_the_run_folder(tmp_path: Path, files: dict[str, Path]):
    pytest.importorskip("tensorboard")
    told(TensorBoard(), tmp_path, files)
    assert list(tmp_path.glob("tensorboard/events.out.tfevents.*"))
