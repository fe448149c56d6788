"""Services for experiment tracking: Weights & Biases and MLflow. Both work without a server."""

import csv
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from openrayzer.interfaces import LOGGERS, InputError, Logger
from openrayzer.machine.distributed import current_rank
from openrayzer.training.logs.loggers import named_numbers

_BATCH = 100
"""Largest number of parameters that a server of MLflow takes at once."""
_VALUE = 500
"""Longest text of a parameter in MLflow."""


@LOGGERS.register("wandb")
class WeightsAndBiases(Logger):
    """Weights & Biases. It is offline by default, so that a run never waits for a server.

    The key comes from the environment (WANDB_API_KEY) or from ``wandb login``, never from a file of this project.
    The run folder keeps the id of the run in ``wandb_id.txt``, so a resumed run continues the same run on the server.
    Upload an offline run with ``wandb sync``.

    Args:
        project: project on the server.
        entity: user or team; empty takes the default of the account.
        name: name of the run; empty takes the name of the run folder.
        mode: "offline" writes into the run folder, "online" needs a key and a server.
        group: group of the run, e.g. for several seeds; empty for none.
        tags: tags of the run.
        ranks: "all" opens a run for every rank, with the use of its GPU and machine; these runs share a group, which is
            the name of the run if ``group`` is empty. "first" opens a run for rank 0 only.
        samples: whether sample pictures are uploaded.
        evaluation: whether the tables of evaluations are uploaded.
        card: whether the model card is uploaded at the end of the run.
    """

    def __init__(
        self,
        *,
        project: str = "openrayzer",
        entity: str = "",
        name: str = "",
        mode: Literal["offline", "online"] = "offline",
        group: str = "",
        tags: tuple[str, ...] = (),
        ranks: Literal["first", "all"] = "first",
        samples: bool = True,
        evaluation: bool = False,
        card: bool = False,
    ) -> None:
        super().__init__()
        self.project, self.entity, self.name, self.mode = project, entity, name, mode
        self.group, self.tags = group, tags
        self.samples, self.evaluation = samples, evaluation
        self.on_every_rank, self.takes_model_card = ranks == "all", card
        self._run: Any = None

    def open(self, run_folder: Path, experiment: Mapping[str, Any]) -> None:
        """Start a run, or resume the run of this run folder."""
        import wandb

        rank, name = current_rank(), self.name or run_folder.name
        group = self.group or (name if self.on_every_rank else None)
        self._run = wandb.init(
            project=self.project,
            entity=self.entity or None,
            name=f"{name} rank {rank}" if rank else name,
            group=group,
            job_type=f"rank {rank}" if self.on_every_rank else None,
            tags=list(self.tags) or None,
            id=_stable_id(run_folder / (f"wandb_id_rank{rank}.txt" if rank else "wandb_id.txt")),
            resume="allow" if self.mode == "online" else None,
            dir=str(run_folder),
            mode=self.mode,
            config=dict(experiment),
            settings=wandb.Settings(silent=True, init_timeout=60),
        )
        self._run.define_metric("*", step_metric="step")  # wandb's own step never goes back, and a resumed run may

    def record(self, values: Mapping[str, Any]) -> None:
        """Numbers as ``train/loss``, ``test/psnr``."""
        self._run.log(named_numbers(values) | {"step": values["step"]})

    def picture(self, step: int, path: Path) -> None:
        """The picture under ``samples``."""
        import wandb

        if self.samples:
            self._run.log({"samples": wandb.Image(str(path)), "step": step})

    def table(self, step: int, split: str, path: Path) -> None:
        """The table under ``test/per_view``."""
        import wandb

        if self.evaluation:
            with path.open(encoding="utf-8", newline="") as file:
                columns, *rows = csv.reader(file)
            data = [[_number(cell) for cell in row] for row in rows]
            table = wandb.Table(columns=[*columns], data=data, allow_mixed_types=True)
            self._run.log({f"{split}/per_view": table, "step": step})

    def model_card(self, path: Path) -> None:
        """The model card as a file of the run."""
        if self.takes_model_card:
            self._run.save(str(path), base_path=str(path.parent), policy="now")

    def close(self) -> None:
        """Finish the run."""
        if self._run is not None:
            self._run.finish()


@LOGGERS.register("mlflow")
class MLflow(Logger):
    """MLflow. Without a server it writes into ``mlruns/`` of the run folder.

    Name and password of a server come from the environment (MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD,
    MLFLOW_TRACKING_TOKEN). The run folder keeps the id of the run in ``mlflow_id.txt``, so a resumed run continues the
    same run. MLflow's telemetry is off unless MLFLOW_DISABLE_TELEMETRY is set to false.

    Args:
        project: experiment on the server.
        name: name of the run; empty takes the name of the run folder.
        server: address of a server, e.g. ``https://mlflow.example.org``; empty for the run folder.
        samples: whether sample pictures are uploaded.
        evaluation: whether the tables of evaluations are uploaded.
        card: whether the model card is uploaded at the end of the run.

    Raises:
        InputError: the address of the server holds a password.
    """

    def __init__(
        self,
        *,
        project: str = "openrayzer",
        name: str = "",
        server: str = "",
        samples: bool = True,
        evaluation: bool = False,
        card: bool = False,
    ) -> None:
        super().__init__()
        if "@" in server:
            raise InputError(
                "server must be an address without name and password; set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD in the environment"
            )
        self.project, self.name, self.server = project, name, server
        self.samples, self.evaluation, self.takes_model_card = samples, evaluation, card
        self._client: Any = None
        self._id = ""

    def open(self, run_folder: Path, experiment: Mapping[str, Any]) -> None:
        """Start a run, or go on with the run of this run folder."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        if not self.server:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3 asks for consent
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=self.server or (run_folder / "mlruns").resolve().as_uri())
        file = run_folder / "mlflow_id.txt"
        if file.exists():
            self._id = file.read_text(encoding="utf-8").strip()
            self._client.update_run(self._id, status="RUNNING")
            return
        known = self._client.get_experiment_by_name(self.project)
        place = known.experiment_id if known else self._client.create_experiment(self.project)
        self._id = self._client.create_run(place, run_name=self.name or run_folder.name).info.run_id
        file.write_text(self._id, encoding="utf-8")
        self._log_experiment(experiment)

    def record(self, values: Mapping[str, Any]) -> None:
        """Numbers as ``train/loss``, ``test/psnr``."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, values["step"]) for name, value in named_numbers(values).items()]
        self._client.log_batch(self._id, metrics=metrics)

    def picture(self, step: int, path: Path) -> None:
        """The picture in the folder ``samples``."""
        if self.samples:
            self._client.log_artifact(self._id, str(path), "samples")

    def table(self, step: int, split: str, path: Path) -> None:
        """The table in the folder ``evaluation/test/step_00001000``."""
        if self.evaluation:
            self._client.log_artifact(self._id, str(path), f"evaluation/{split}/step_{step:08d}")

    def model_card(self, path: Path) -> None:
        """The model card as a file of the run."""
        if self.takes_model_card:
            self._client.log_artifact(self._id, str(path))

    def close(self) -> None:
        """Finish the run."""
        if self._id:
            self._client.set_terminated(self._id)

    def _log_experiment(self, experiment: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        plain = json.loads(json.dumps(experiment, default=str))
        self._client.log_dict(self._id, plain, "experiment.json")
        params = [Param(name, value[:_VALUE]) for name, value in _leaves(plain)]
        for first in range(0, len(params), _BATCH):
            self._client.log_batch(self._id, params=params[first : first + _BATCH])


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Name and text of every setting: ``train.steps``, ``3000``. A list is one setting."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def _number(cell: str) -> float | str | None:
    """A cell of a CSV file as a number if it is one; None for an empty cell."""
    try:
        return float(cell) if cell else None
    except ValueError:
        return cell


def _stable_id(file: Path) -> str:
    """The identifier in a file of the run folder; a new one if there is none."""
    if not file.exists():
        file.write_text(os.urandom(8).hex(), encoding="utf-8")
    return file.read_text(encoding="utf-8").strip()
