"""The state that an optimizer keeps for each weight, such as Adam's two averages, found by making one small step."""

import torch
from torch import Tensor, nn

from openrayzer.interfaces import Optimizer

ADAM = 8.0
"""Bytes of state for each weight under Adam: two averages in float32."""
_SIZE = 64  # numbers of the parameter that stands for a group of weights


def state_bytes(optimizer: Optimizer, model: nn.Module) -> float:
    """Bytes of state for each trainable weight of a model, averaged over its weights.

    The optimizer is built for the model. Then a small flat parameter takes the place of each group of weights, as ZeRO
    flattens each group, and the optimizer makes one step. Single numbers, such as a step counter, do not count.

    Args:
        optimizer: of the experiment. It may come from a plugin and raise any exception.
        model: on any device, ``meta`` included. Its weights do not change.
    """
    built = optimizer.build(model)
    groups: list[tuple[int, Tensor]] = []
    for group in built.param_groups:
        flat = nn.Parameter(torch.zeros(_SIZE))
        flat.grad = torch.zeros(_SIZE)
        groups.append((sum(weight.numel() for weight in group["params"]), flat))
        group["params"] = [flat]
    built.step()
    kept = sum(count * _bytes(built.state[flat]) / _SIZE for count, flat in groups)
    return kept / max(1, sum(count for count, _ in groups))


def _bytes(state: dict[str, object]) -> int:
    return sum(value.nbytes for value in state.values() if isinstance(value, Tensor) and value.numel() > 1)
