"""Published names of weights and ours: every weight is accounted for, or it is an error."""

import re
from collections.abc import Callable, Mapping

from torch import Tensor

from openrayzer.interfaces import InputError
from openrayzer.layers.weight_files import listed


def rename(
    state: Mapping[str, Tensor],
    names: Mapping[str, str],
    *,
    changes: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
) -> dict[str, Tensor]:
    """``state`` by our names.

    Args:
        state: by published names.
        names: our name of each published one. All of them must be in ``state``, and nothing else.
        changes: what becomes of single weights, by published name, e.g. another order of their columns.

    Raises:
        InputError: lists what is missing and what is unknown.
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
    changes = changes or {}
    return {ours: changes.get(name, _same)(state[name]) for name, ours in names.items()}


def published_names(names: Mapping[str, str]) -> dict[str, str]:
    """The published name of each of ours."""
    return {ours: name for name, ours in names.items()}


def shape_of(state: Mapping[str, Tensor], name: str, *, rank: int = 2) -> tuple[int, ...]:
    """Shape of a weight that all sizes are read from.

    Raises:
        InputError: it is missing or has another number of dimensions.
    """
    if name not in state:
        raise InputError(f"weight {name} is missing")
    if state[name].ndim != rank:
        raise InputError(f"weight {name} has shape {tuple(state[name].shape)}, expected {rank} dimension(s)")
    return tuple(state[name].shape)


def depth_of(state: Mapping[str, Tensor], stack: str, *, least: int = 1) -> int:
    """Number of blocks of a stack: one more than the highest ``stack.NUMBER.``, and never below ``least``."""
    numbered = re.compile(rf"{re.escape(stack)}\.(\d+)\.")
    return max((int(found[1]) for name in state if (found := numbered.match(name))), default=least - 1) + 1


def paired(published: str, ours: str, leaves: Mapping[str, str]) -> dict[str, str]:
    """``{published.a: ours.b}`` for each ``{a: b}`` of ``leaves``."""
    return {f"{published}.{leaf}": f"{ours}.{own}" for leaf, own in leaves.items()}


def linear(published: str, ours: str, *, bias: bool = True) -> dict[str, str]:
    """Names of one linear map."""
    kinds = ("weight", "bias") if bias else ("weight",)
    return paired(published, ours, {kind: kind for kind in kinds})


def _same(value: Tensor) -> Tensor:
    return value
