"""Load a model from a run folder, a weight folder or the Hugging Face hub."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from openrayzer.composer.build import construct
from openrayzer.composer.experiment import ExperimentPlan, load_experiment
from openrayzer.composer.files import read_object
from openrayzer.interfaces import PLUGIN_GROUP, InputError, Model
from openrayzer.layers.weight_files import skip_pretrained_weights
from openrayzer.weights.finding import LATEST, WeightKind, find_weights, load_weights
from openrayzer.weights.hub import download, is_hub_name
from openrayzer.weights.weight_folder import CONFIG, WEIGHTS, fill, find_experiment
from registry import available_plugins


@dataclass(frozen=True)
class SavedModel:
    """A saved model and the experiment that it was trained with.

    Attributes:
        place: the checkpoint or the ``.safetensors`` file that holds the weights.
        plan: the checked experiment.
        weights: which weights of a checkpoint ``model`` gets; see ``load_model``.
    """

    place: Path
    plan: ExperimentPlan
    weights: WeightKind = "auto"

    @cached_property
    def model(self) -> Model:
        """The model in evaluation mode, float32, on the CPU. The first access builds it and reads its weights.

        Raises:
            InputError: the weights cannot be read or do not fit the model.
        """
        values = load_weights(self.place, weights=self.weights)
        with skip_pretrained_weights():
            model: Model = construct(self.plan.plan.arguments["model"])
        fill(model, values, source=self.place)
        return model.float().eval()


def open_model(
    path: str | Path,
    *,
    checkpoint: str = LATEST,
    weights: WeightKind = "auto",
    overrides: Sequence[str] = (),
) -> SavedModel:
    """Find a model and check its experiment; the weights are read when ``.model`` is first used.

    Args:
        path: see ``load_model``.
        checkpoint: see ``load_model``.
        weights: see ``load_model``.
        overrides: changes of the experiment, e.g. ``data.workers=4``.

    Raises:
        InputError: there is no model at ``path``, no such checkpoint, or the experiment is wrong.
    """
    folder = _local(str(path))
    experiment = find_experiment(folder)
    return SavedModel(
        place=find_weights(folder, checkpoint=checkpoint),
        plan=load_experiment(experiment, overrides=overrides),
        weights=weights,
    )


def load_model(path: str | Path, *, checkpoint: str = LATEST, weights: WeightKind = "auto") -> Model:
    """Load the model of a run or of published weights, in evaluation mode, float32, on the CPU.

    Args:
        path: a run folder, a folder with an imported or exported ``model.safetensors``, or ``owner/name`` on the
            Hugging Face hub. A folder has priority over a model of the same name on the hub, and the checkpoints of a
            run have priority over a ``model.safetensors`` beside them.
        checkpoint: ``latest``, ``best`` (the best by ``train.best_metric``), or a name in ``checkpoints/``, e.g.
            ``step_00001000``.
        weights: ``ema`` for the exponential moving average, ``raw`` for the weights of the last step, ``auto`` for
            the average if the checkpoint has one.

    Raises:
        InputError: there is no model at ``path``, no such checkpoint or average, the checkpoint is damaged, the
            weights belong to another model, or the hub does not provide them.
    """
    return open_model(path, checkpoint=checkpoint, weights=weights).model


def _local(path: str) -> Path:
    if Path(path).exists() or not is_hub_name(path):
        return Path(path)
    folder = download(path, files=(CONFIG, WEIGHTS))
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(f"{path} on the Hugging Face hub has no {name}, so it is not an openrayzer model")
    _refuse_more_than_weights(path, read_object(folder / CONFIG))
    return folder


def _refuse_more_than_weights(name: str, config: Mapping[str, Any]) -> None:
    """Refuse a configuration from the hub that loads code, except plugins that are already installed here."""
    plugins = config.get("plugins") or []
    announced = available_plugins(PLUGIN_GROUP)
    more = [f"plugin {plugin!r}" for plugin in plugins if plugin not in announced]
    more += [f"extends {config['extends']!r}"] if config.get("extends") else []
    if more:
        raise InputError(
            f"{name} needs code ({', '.join(more)}), which is not run directly from the hub: run hf download {name} "
            "--local-dir FOLDER, read its files, and load FOLDER"
        )
