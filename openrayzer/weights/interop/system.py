"""Interface of a published system: convert its weights, and reproduce its recorded outputs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from openrayzer.interfaces import Model
from openrayzer.weights.interop.configuration import Configuration


@dataclass(frozen=True)
class Imported:
    """Published weights converted to our names.

    Attributes:
        model: the complete ``model`` section of an experiment.
        weights: float32 tensors by our names.
        published: our name -> published name, for messages.
        experiment: overrides of the base experiment outside ``model``, e.g. ``data.image_size=[256, 256]``.
        notes: remarks for the user, one sentence each.
    """

    model: dict[str, Any]
    weights: dict[str, Tensor]
    published: dict[str, str]
    experiment: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class System(ABC):
    """A published system.

    Attributes:
        name: value of the option ``--arch``.
        experiment: file in ``experiments/`` with settings to continue the training.
        fingerprint: names of weights that all files of this system have; no file of another system has all of them.
        title: method, paper and code.
        license: identifier on the Hugging Face hub of the licence of the published code and weights.
    """

    name: ClassVar[str]
    experiment: ClassVar[str]
    fingerprint: ClassVar[tuple[str, ...]]
    title: ClassVar[str]
    license: ClassVar[str]

    def owns(self, state: Mapping[str, Tensor]) -> bool:
        """Return True if these are weights of this system, by its fingerprint."""
        return all(name in state for name in self.fingerprint)

    @abstractmethod
    def read(self, state: Mapping[str, Tensor], configuration: Configuration) -> Imported:
        """Convert published weights, and infer the model from their names and shapes.

        Args:
            state: float32 tensors by published name, without wrappers and without the network of a loss.
            configuration: the published configuration; may be incomplete.

        Raises:
            InputError: lists missing and unknown weights, contradictions between configuration and shapes, and values
                that must be configured.
        """

    @abstractmethod
    def reproduce(self, model: Model, inputs: Mapping[str, Tensor], configuration: Configuration) -> dict[str, Tensor]:
        """Compute the outputs of the published system from recorded inputs with ``model``, in the system's units.

        The outputs are differentiable, so that gradients can be compared. ``loss`` is that of the configuration, see
        ``recorded_loss``.
        """
