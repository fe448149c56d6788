"""What a published system is to us: how its weights are named, and how its recorded outputs are compared."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from openrayzer.interfaces import Model
from openrayzer.weights.interop.configuration import Configuration


@dataclass(frozen=True)
class Imported:
    """Published weights in our words.

    Attributes:
        model: the ``model`` section of an experiment, complete.
        weights: by our names, in float32.
        published: the published name of each of ours, for messages.
        experiment: overrides of the base experiment beside ``model``, as ``--set`` takes them.
        notes: what a user should know, one sentence each.
    """

    model: dict[str, Any]
    weights: dict[str, Tensor]
    published: dict[str, str]
    experiment: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class System(ABC):
    """A published system.

    Attributes:
        name: what ``--arch`` takes.
        experiment: file in ``experiments/`` that says how such a model is trained on.
        fingerprint: a weight that every file of this system has and no other system's.
        title: method, paper and which code.
        license: of the published code and weights, as the Hugging Face hub names it.
    """

    name: ClassVar[str]
    experiment: ClassVar[str]
    fingerprint: ClassVar[str]
    title: ClassVar[str]
    license: ClassVar[str]

    @abstractmethod
    def read(self, state: Mapping[str, Tensor], configuration: Configuration) -> Imported:
        """The model that the weights belong to, and the weights by our names.

        Args:
            state: float32 tensors by their published names, without wrappers and without a loss network.
            configuration: the published configuration, as far as it is known.

        Raises:
            InputError: lists every missing and unexpected weight, every contradiction between configuration and
                shapes, and everything that has to be asked for.
        """

    @abstractmethod
    def reproduce(self, model: Model, inputs: Mapping[str, Tensor], configuration: Configuration) -> dict[str, Tensor]:
        """What the published system returns for recorded inputs, in its own units, as ``model`` computes it.

        Differentiable, so that a gradient can be compared too; ``loss`` is the mean squared error over target views.
        """
