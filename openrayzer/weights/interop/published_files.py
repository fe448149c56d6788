"""Files of published weights and configurations: unwrapped, cleaned, checked; no code in them is ever run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError, safe_open
from torch import Tensor, bfloat16, float16, float32, float64, strided

from openrayzer.interfaces import InputError
from openrayzer.layers.weight_files import listed, read_content
from openrayzer.weights.interop.configuration import Configuration

WRAPPERS = ("model", "module", "state_dict", "model_state_dict")
"""Keys under which training code keeps the weights: LVSM and RayZer; DeepSpeed; Lightning and many others."""
PREFIXES = ("module.", "model.", "_orig_mod.")
"""What DDP and DeepSpeed, Lightning and our own training, and torch.compile put in front of every name."""
COMPILED = "_orig_mod."
LOSS_NETWORK = "loss_computer."
"""Start of the names of the perceptual loss's network, which the published checkpoints carry along."""
ROOT = "parameters"
"""Key that Open-RayZer puts around its whole configuration."""
REMEDY = "give a .pt or .safetensors file with a state dict of one of the published systems"
DTYPES = (float16, bfloat16, float32, float64)
"""What weights may be stored in."""
RECORDED = "state/"
"""Start of the names of weights in a golden file."""


@dataclass(frozen=True)
class PublishedWeights:
    """A file of weights without its wrapping.

    Attributes:
        state: float32 tensors by published name.
        configuration: what the file itself says of the configuration; empty if nothing.
        notes: what was left out or converted, one sentence each.
    """

    state: dict[str, Tensor]
    configuration: dict[str, Any]
    notes: tuple[str, ...]


def read_weights_file(path: Path) -> PublishedWeights:
    """The weights in a ``.pt`` or ``.safetensors`` file, of a model alone or of a whole training checkpoint.

    Raises:
        InputError: missing, damaged, holds code, or something else than named floating-point tensors.
    """
    if path.is_dir():
        inside = sorted(file.name for kind in ("*.pt", "*.pth", "*.safetensors") for file in path.glob(kind))
        raise InputError(f"{path} is a folder; name the file in it that holds the weights: {listed(inside) or 'none'}")
    return unwrapped(read_content(path, remedy=REMEDY), path)


def unwrapped(content: Any, path: Path) -> PublishedWeights:
    """The weights in what ``read_content`` found in ``path``.

    Raises:
        InputError: they are something else than named floating-point tensors.
    """
    content, notes = _unwrap(content, path)
    configuration = {}
    if any(name.startswith(RECORDED) for name in content):
        content = {name.removeprefix(RECORDED): value for name, value in content.items() if name.startswith(RECORDED)}
        configuration = read_metadata(path)["config"]
        notes.append("a golden file: its recorded inputs and outputs are left out")
    state = _without_prefixes(content)
    lost = [name for name in state if name.startswith(LOSS_NETWORK)]
    if lost:
        notes.append(
            f"{len(lost)} weight(s) of the perceptual loss ({LOSS_NETWORK}*) left out, which are not the model's"
        )
    kept = {name: value for name, value in state.items() if not name.startswith(LOSS_NETWORK)}
    _check_numbers(kept, path)
    kinds = sorted({str(value.dtype).removeprefix("torch.") for value in kept.values()} - {"float32"})
    if kinds:
        notes.append(f"weights in {' and '.join(kinds)} become float32")
    return PublishedWeights({name: value.to(float32) for name, value in kept.items()}, configuration, tuple(notes))


def read_metadata(path: Path) -> dict[str, Any]:
    """The ``config`` that a golden file carries: ``{"arch": ..., "config": {...}}``.

    Raises:
        InputError: there is none.
    """
    try:
        with safe_open(path, "pt") as file:
            values = json.loads((file.metadata() or {})["config"])
        if not isinstance(values["arch"], str) or not isinstance(values["config"], dict):
            raise TypeError
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: its metadata has no 'config' of the form {{'arch': ..., 'config': ...}}") from error
    return values


def read_configuration(
    file: Path | None, given: Sequence[str] = (), *, known: Mapping[str, Any] | None = None
) -> Configuration:
    """The configuration that goes with published weights.

    Args:
        file: YAML or JSON of the published code; None if there is none.
        given: ``model.transformer.vggstyle=true``, over what the file says.
        known: what the file of weights itself says, below both.

    Raises:
        InputError: the file cannot be read, or something given is malformed.
    """
    values: dict[str, Any] = _merged(known or {}, {} if file is None else _read_yaml(file))
    source = str(file) if file is not None else "the file of weights" if known else "--given"
    keys = [_assign(values, assignment) for assignment in given]
    return Configuration(values, source=source, whole=file is not None or bool(known), given=keys)


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"--config {file}: cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"--config {file}: expected keys and values, as the published code's YAML has them")
    return values[ROOT] if isinstance(values.get(ROOT), dict) else values


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both, section by section; ``above`` wins."""
    both = {
        key: value for key, value in above.items() if isinstance(value, Mapping) and isinstance(below.get(key), Mapping)
    }
    return {**below, **above, **{key: _merged(below[key], value) for key, value in both.items()}}


def _assign(values: dict[str, Any], assignment: str) -> str:
    """Set one value; returns its key."""
    key, equals, text = assignment.partition("=")
    if not equals or not all(key.split(".")):
        raise InputError(f"--given {assignment}: expected KEY=VALUE, e.g. model.transformer.vggstyle=true")
    *sections, last = key.split(".")
    for section in sections:
        inner = values.get(section)
        values[section] = dict(inner) if isinstance(inner, dict) else {}
        values = values[section]
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"--given {assignment}: {text!r} is no YAML value") from error
    return key


def _unwrap(content: Any, path: Path) -> tuple[dict[str, Any], list[str]]:
    """Named tensors inside the dictionaries of a training checkpoint."""
    notes: list[str] = []
    while isinstance(content, Mapping):
        inner = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
        if not inner:
            break
        rest = [str(key) for key in content if key != inner[0]]
        if rest:
            notes.append(f"a training checkpoint: only the weights are taken, not {listed(sorted(rest))}")
        content = content[inner[0]]
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path} holds no tensors by name; {REMEDY}")
    strange = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if strange:
        raise InputError(f"{path}: these are no tensors: {listed(sorted(strange))}; {REMEDY}")
    return {str(name): value for name, value in content.items()}, notes


def _without_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = {name: name.replace(COMPILED, "") for name in state}
    while prefix := next((start for start in PREFIXES if all(n.startswith(start) for n in names.values())), ""):
        names = {name: short.removeprefix(prefix) for name, short in names.items()}
    if len(set(names.values())) < len(names):
        twice = sorted({short for short in names.values() if list(names.values()).count(short) > 1})
        raise InputError(
            f"without prefixes such as {COMPILED!r} these names stand for two weights each: {listed(twice)}"
        )
    return {short: state[name] for name, short in names.items()}


def _check_numbers(state: Mapping[str, Tensor], path: Path) -> None:
    empty = [name for name, value in state.items() if not value.numel()]
    if empty:
        raise InputError(
            f"{path}: {len(empty)} weight(s) have no values: {listed(empty)}; if DeepSpeed wrote it with ZeRO stage 3, "
            "gather the weights first with the zero_to_fp32.py beside it"
        )
    wrong = []
    for name, value in state.items():
        if value.dtype not in DTYPES:
            wrong.append(f"{name} is {value.dtype}")
        elif value.is_meta or value.layout != strided:
            wrong.append(f"{name} is {'a placeholder without values' if value.is_meta else value.layout}")
        elif not value.isfinite().all():
            wrong.append(f"{name} has values that are not finite")
    if wrong:
        raise InputError(f"{path}: {len(wrong)} weight(s) cannot be used: {listed(wrong)}")
