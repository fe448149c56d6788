"""A run folder, or a folder of weights, from outside: its experiment and its model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrayzer.composer.build import construct
from openrayzer.composer.experiment import load_experiment
from openrayzer.composer.files import read_object
from openrayzer.interfaces import PLUGIN_GROUP, InputError, Model
from openrayzer.layers.weight_files import filled_later
from openrayzer.weights.finding import LATEST, WeightKind, find_weights, load_weights
from openrayzer.weights.hub import download, is_hub_name
from openrayzer.weights.weight_folder import CONFIG, WEIGHTS, fill, find_experiment
from registry import available_plugins


@dataclass(frozen=True)
class ModelPlace:
    """Where a model is.

    Attributes:
        experiment: its experiment file.
        weights: its checkpoint, or its ``.safetensors`` file.
    """

    experiment: Path
    weights: Path


def find_model(path: str | Path, *, checkpoint: str = LATEST) -> ModelPlace:
    """Experiment and weights that ``load_model`` takes for the same arguments; nothing is read yet.

    Raises:
        InputError: as ``load_model``.
    """
    folder = _local(str(path))
    return ModelPlace(find_experiment(folder), find_weights(folder, checkpoint=checkpoint))


def load_model(path: str | Path, *, checkpoint: str = LATEST, weights: WeightKind = "auto") -> Model:
    """The model of a run or of published weights, in evaluation mode, on the CPU in float32.

    Args:
        path: a run folder; a folder with a model.safetensors, imported or exported; or, where there is no such folder,
            the name of a model on the Hugging Face hub, ``owner/name``. A run's checkpoints come before a
            model.safetensors.
        checkpoint: ``latest``, ``best`` for that of ``train.best_metric``, or the name of one below ``checkpoints/``,
            e.g. ``step_00001000``.
        weights: of a run: ``ema`` takes their average over the steps, ``raw`` those of the last step, ``auto`` the
            average where the run has one.

    Raises:
        InputError: the folder holds neither, no such checkpoint or average, a damaged one, or weights of another model;
            or the hub does not give it.
    """
    place = find_model(path, checkpoint=checkpoint)
    found = load_weights(place.weights, weights=weights)
    planned = load_experiment(place.experiment).plan.arguments["model"]
    with filled_later():
        model: Model = construct(planned)
    fill(model, found, source=place.weights)
    return model.float().eval()


def _local(path: str) -> Path:
    if Path(path).exists() or not is_hub_name(path):
        return Path(path)
    folder = download(path, files=(CONFIG, WEIGHTS))
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(f"{path} on the Hugging Face hub has no {name}, so it is no model of openrayzer's")
    _refuse_more_than_weights(path, read_object(folder / CONFIG))
    return folder


def _refuse_more_than_weights(name: str, config: Mapping[str, Any]) -> None:
    """A configuration of a stranger may name plugins that are installed here, but no file and no other module."""
    plugins = config.get("plugins") or []
    announced = available_plugins(PLUGIN_GROUP)
    more = [f"plugin {plugin!r}" for plugin in plugins if plugin not in announced]
    more += [f"extends {config['extends']!r}"] if config.get("extends") else []
    if more:
        raise InputError(
            f"{name} needs more than its weights ({', '.join(more)}), and code from the hub is not run unseen: get it "
            f"with hf download {name} --local-dir FOLDER, look at its files, and load FOLDER"
        )
