"""Map published names of weights to ours, and read sizes from the shapes of weights."""

import re
from collections.abc import Mapping

from torch import Tensor

from openrayzer.interfaces import InputError
from openrayzer.layers.weight_files import listed


def rename(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Return ``state`` with our names.

    Args:
        state: tensors by published name.
        names: published name -> our name. ``state`` must have exactly these names.

    Raises:
        InputError: lists missing and unknown names.
    """
    missing = [name for name in names if name not in state]
    unknown = sorted(state.keys() - names.keys())
    problems = []
    if missing:
        problems.append(f"{len(missing)} weight(s) are missing: {listed(missing)}")
    if unknown:
        problems.append(f"{len(unknown)} weight(s) are unknown: {listed(unknown)}")
    if problems:
        raise InputError("\n".join(problems))
    return {ours: state[name] for name, ours in names.items()}


def published_names(names: Mapping[str, str]) -> dict[str, str]:
    """Invert ``names``: our name -> published name."""
    return {ours: name for name, ours in names.items()}


def shape_of(state: Mapping[str, Tensor], name: str, *, rank: int = 2) -> tuple[int, ...]:
    """Return the shape of a weight.

    Raises:
        InputError: the weight is missing or does not have ``rank`` dimensions.
    """
    if name not in state:
        raise InputError(f"weight {name} is missing")
    if state[name].ndim != rank:
        raise InputError(f"weight {name} has shape {tuple(state[name].shape)}, expected {rank} dimension(s)")
    return tuple(state[name].shape)


def depth_of(state: Mapping[str, Tensor], stack: str, *, least: int = 1) -> int:
    """Return the number of blocks in a stack: 1 + the highest N in names ``stack.N.*``, but at least ``least``."""
    numbered = re.compile(rf"{re.escape(stack)}\.(\d+)\.")
    return max((int(found[1]) for name in state if (found := numbered.match(name))), default=least - 1) + 1


def paired(published: str, ours: str, leaves: Mapping[str, str]) -> dict[str, str]:
    """Return ``{published.a: ours.b}`` for each ``{a: b}`` in ``leaves``."""
    return {f"{published}.{leaf}": f"{ours}.{own}" for leaf, own in leaves.items()}


def linear(published: str, ours: str, *, bias: bool = True) -> dict[str, str]:
    """Return the names of one linear layer."""
    kinds = ("weight", "bias") if bias else ("weight",)
    return paired(published, ours, {kind: kind for kind in kinds})
