"""The training loss: a weighted sum of terms, always in float32."""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.interfaces import LOSSES, InputError, Loss
from openrayzer.layers.view_shares import UNSHARED, ViewShares
from openrayzer.settings import LossTerm
from openrayzer.training.logs.gaussian_densities import FIGURES
from registry import RegistryError

RECORDED = frozenset(
    {
        "step",
        "split",
        "loss",
        "psnr",
        "grad_norm",
        "lr",
        "skipped",
        "problems",
        "seconds",
        "views_per_second",
        "data_wait",
        *FIGURES,
    }
)
"""Names of other values in the records of ``metrics.jsonl``."""


class WeightedLoss(nn.Module):
    """The weighted sum of the terms. Weights inside of losses are neither trained nor saved.

    Args:
        terms: the section ``loss`` of the experiment.
        shares: processes that share each clip; the mean of their losses is the loss of the clip. Terms that are means
            over views divide the target views, see ``Loss.mean_over_views``.
    """

    def __init__(self, terms: Sequence[LossTerm], *, shares: ViewShares = UNSHARED) -> None:
        super().__init__()
        self.terms, self.shares = tuple(terms), shares
        self.losses = nn.ModuleList(term.loss for term in terms)
        self.names = _names(terms)
        self._extra_names: list[str] | None = None
        self.requires_grad_(False).eval()

    def compile_losses(self) -> None:
        """Have each loss compiled when it is first called, which fuses its elementwise work."""
        for loss in self.losses:
            loss.compile()

    def forward(
        self,
        prediction: Float[Tensor, "b v 3 h w"],
        target: Float[Tensor, "b v 3 h w"],
        *,
        step: int,
        extra: Mapping[str, Float[Tensor, ""]] = MappingProxyType({}),
    ) -> dict[str, Float[Tensor, ""]]:
        """The loss and its terms.

        Args:
            prediction: rendered target views, all of them on each process.
            target: their true images.
            step: optimizer step, counted from 0; weights of terms may depend on it.
            extra: ``Prediction.extra_losses``, each added with weight 1.

        Returns:
            ``loss``, the weighted sum to differentiate; and each active term by name, unweighted and detached.

        Raises:
            InputError: an extra loss has the name of another value of a record, or the names differ from those of the
                first call. All processes average the same values, so a loss without a value must be 0.
        """
        names = sorted(extra)
        if taken := set(names) & {*RECORDED, *self.names}:
            raise InputError(f"extra loss {min(taken)!r} of the model has the name of another value; rename it")
        if self._extra_names not in (None, names):
            raise InputError(
                f"the extra losses of the model were {self._extra_names} and are now {names}; return all of them in "
                "every call, 0 where a loss does not apply"
            )
        self._extra_names = names
        with torch.autocast(prediction.device.type, enabled=False):
            prediction, target = prediction.float(), target.float()
            total, values = prediction.sum() * 0.0, {}  # keeps a gradient to every weight if no term has started
            for name, term in zip(self.names, self.terms, strict=True):
                weight = term.weight_at(step)
                if weight > 0:
                    value = self._value(term.loss, prediction, target)
                    total = total + weight * value
                    values[name] = value.detach()
            for name in names:
                total = total + extra[name].float()
                values[name] = extra[name].detach().float()
        return {"loss": total, **values}

    def _value(
        self, loss: Loss, prediction: Float[Tensor, "b v 3 h w"], target: Float[Tensor, "b v 3 h w"]
    ) -> Float[Tensor, ""]:
        """The part of this process in a term; the mean of the parts of all processes is the term."""
        if self.shares.count == 1 or not loss.mean_over_views:
            return loss(prediction, target)
        own, weight = self.shares.compared(prediction.shape[1])
        return loss(prediction[:, own], target[:, own]) * weight


def _names(terms: Sequence[LossTerm]) -> list[str]:
    """Registered names; the second term of a kind is ``mse_2``."""
    seen: Counter[str] = Counter()
    names = []
    for term in terms:
        try:
            name = LOSSES.name_of(type(term.loss))
        except RegistryError:  # a loss made in Python and never registered
            name = type(term.loss).__name__.lower()
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return names
