"""The models that a visitor can choose: runs and weight folders of the command line, and models of the hub."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrayzer.interfaces import Model, registered_name
from openrayzer.video.run_inputs import trained_views
from openrayzer.web.answers import Refused
from openrayzer.weights.hub import HubError, is_hub_name
from openrayzer.weights.loading import open_model

MOST_MODELS = 2
"""Number of models that stay in memory."""


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory and the settings of its training that matter to the page.

    Attributes:
        model: in evaluation mode, on the device of the page.
        name: registered name of the model.
        image_size: height and width of the views in training.
        num_views: number of context views in training.
        scene_scale: scale of true poses in training, see ``place``.
    """

    model: Model
    name: str
    image_size: tuple[int, int]
    num_views: int
    scene_scale: float | None

    @property
    def refusal(self) -> str:
        """The reason why the model cannot take photos without cameras; empty if it can."""
        if not (self.model.posed or self.model.needs_intrinsics):
            return ""
        needs = "the true camera poses" if self.model.posed else "the true intrinsics"
        return (
            f"This model ({self.name}) needs {needs} of the photos, which the page cannot know. "
            "Choose a model that estimates cameras, such as rayzer_geometric, rayzer or rayder."
        )

    def facts(self) -> dict[str, Any]:
        """Facts about the model for the page, plain JSON."""
        height, width = self.image_size
        return {
            "name": self.name,
            "size": f"{width} x {height}",
            "views": self.num_views,
            "refusal": self.refusal,
        }


class ModelShelf:
    """Loads models by the names that visitors see; the most recent ones stay in memory.

    Args:
        runs: name for the visitor -> run folder or weight folder.
        device: where models compute.
        hub: whether visitors may name a model on the Hugging Face hub.
    """

    def __init__(self, runs: Mapping[str, str], *, device: str, hub: bool) -> None:
        self.runs, self.device, self.hub = dict(runs), device, hub
        self._loaded: OrderedDict[str, LoadedModel] = OrderedDict()

    def load(self, name: str) -> LoadedModel:
        """The model of a name.

        Raises:
            Refused: there is no such name here or on the hub. Visitors cannot name a path of the server.
            InputError: the model cannot be loaded.
        """
        name = name.strip()
        if name not in self._loaded:
            self._loaded[name] = self._open(self._place(name))
            while len(self._loaded) > MOST_MODELS:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(name)
        return self._loaded[name]

    def _place(self, name: str) -> str:
        if name in self.runs:
            return self.runs[name]
        if not name:
            train = (
                "" if self.runs else " There is none in runs/ yet; this trains one: openrayzer train --exp rayzer_demo"
            )
            raise Refused(f"Choose a model first.{train}")
        if self.hub and is_hub_name(name) and not Path(name).exists():
            return name
        others = " or type owner/name of a model on the Hugging Face hub" if self.hub else ""
        raise Refused(f"There is no model {name!r} here. Choose one of the list{others}.")

    def _open(self, place: str) -> LoadedModel:
        try:
            saved = open_model(place)
        except HubError as error:
            raise Refused(f"{error.plain} Or choose a model of the list.") from error
        data = saved.plan.resolved["data"]
        height, width = data["image_size"]
        return LoadedModel(
            model=saved.model.to(self.device),
            name=registered_name(saved.model),
            image_size=(int(height), int(width)),
            num_views=trained_views(data),
            scene_scale=float(data["scene_scale"]) if data["normalise_poses"] else None,
        )
