"""Small components of every kind, built from the signatures of their constructors.

The contract tests know no component by name. ``small_component`` finds a value for each required parameter, in this
order:

1. in the constructor arguments that the static method ``example(folder)`` of the class returns; it may write files
   into ``folder``. For the built-in components, ``examples.py`` has such functions.
2. in ``STANDARD``, by the name of the parameter;
3. if the parameter is a component, as a small component of its kind.
"""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import torch
from examples import EXAMPLES

from openrayzer.interfaces import (
    REGISTRIES,
    AttentionBackend,
    AttentionLayout,
    CameraHead,
    CameraSolver,
    ContextRenderer,
    Fusion,
    GaussianRenderer,
    GeometricRenderer,
    Matcher,
    Model,
    PositionEncoding,
    Rasteriser,
    Tokenizer,
    TokenRenderer,
)
from openrayzer.layers.hourglass import Level
from registry import Entry, Registry

STANDARD: dict[str, Any] = {
    "width": 32, "num_heads": 2, "patch_size": 8, "depth": 2, "estimator_depth": 2, "encoder_depth": 2,
    "num_latents": 3, "levels": (Level(width=16, depth=1, patch=2), Level(width=16, depth=1, patch=2)),
    "num_context": 3, "num_target": 2, "num_views": 4, "min_frame_distance": 5, "max_frame_distance": 12,
    "start_min_frame_distance": 5, "start_max_frame_distance": 8, "curriculum_steps": 100,
    "learning_rate": 1e-2, "warmup_steps": 10, "decay_steps": 20,
}  # fmt: skip
"""Values of required parameters, by name. A component gives its other parameters defaults."""

SMALLER = {"head_width": 8, "state_width": 4, "starts": 2, "focal_starts": 2, "fine_steps": 6}
"""Values that replace defaults for large models and for the last digits of a solver."""

USUAL: dict[type, str] = {
    Tokenizer: "linear", PositionEncoding: "rope2d", AttentionLayout: "global", AttentionBackend: "sdpa",
    CameraHead: "se3", Fusion: "pixel", ContextRenderer: "joint", TokenRenderer: "joint",
    GaussianRenderer: "gaussians", GeometricRenderer: "plane_sweep",
    Matcher: "patch_correlation", CameraSolver: "bundle_adjustment", Rasteriser: "torch", Model: "rayder",
}  # fmt: skip
"""Names of the parts of small models by base class; they go together in every model."""


def names(registry: Registry, base: type = object) -> list[str]:
    """The registered names of all classes under ``base``, for ``pytest.mark.parametrize``."""
    return [entry.name for entry in registry if issubclass(entry.target, base)]


def entry_of(registry: Registry, name: str) -> Entry:
    """The entry with this name."""
    return next(entry for entry in registry if entry.name == name)


def required(entry: Entry) -> list[inspect.Parameter]:
    """Parameters without a default."""
    return [parameter for parameter in entry.parameters if parameter.default is parameter.empty]


def small_component(registry: Registry, name: str, *, folder: Path, **given: Any) -> Any:
    """A small component, with the same weights at each call.

    Args:
        registry: the registry that holds it.
        name: its registered name.
        folder: folder for the files that the component needs; calls may share it.
        given: arguments that replace the small ones.
    """
    torch.manual_seed(0)
    entry = entry_of(registry, name)
    hints = get_type_hints(entry.target.__init__)
    arguments = {key: value for key, value in SMALLER.items() if key in hints} | _example(registry, entry, folder)
    for parameter in required(entry):
        if parameter.name not in given and parameter.name not in arguments:
            arguments[parameter.name] = _value(registry, name, parameter.name, hints[parameter.name], folder)
    torch.manual_seed(0)
    return entry.target(**arguments | given)


def _example(registry: Registry, entry: Entry, folder: Path) -> dict[str, Any]:
    write = getattr(entry.target, "example", None) or EXAMPLES.get((registry.kind, entry.name))
    return dict(write(folder)) if write else {}


def _value(registry: Registry, name: str, parameter: str, hint: Any, folder: Path) -> Any:
    if parameter in STANDARD:
        return STANDARD[parameter]
    inner = [
        (kind, part)
        for part in (hint, *get_args(hint))
        for kind in REGISTRIES
        if isinstance(part, type) and issubclass(part, kind.interface)
    ]
    if not inner:
        raise AssertionError(
            f"the contract tests have no value for the required parameter {parameter!r} of {registry.kind} {name!r}; "
            "give it a default or a usual name (STANDARD in tests/contracts/small.py), or give the class a static "
            "method example(folder) that returns constructor arguments"
        )
    kind, part = inner[0]
    if isinstance(get_origin(hint), type) and issubclass(get_origin(hint), Sequence):  # several of its own kind
        return [small_component(kind, other, folder=folder) for other in names(kind) if other != name]
    return small_component(kind, USUAL[part], folder=folder)
