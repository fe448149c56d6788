"""Read and check files of published weights and configurations. No code in these files is run."""

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
"""Keys of the weights in training checkpoints: of LVSM and RayZer; of DeepSpeed; of Lightning and others."""
PREFIXES = ("module.", "model.", "_orig_mod.")
"""Prefixes that DDP and DeepSpeed, Lightning and our training, and torch.compile add to every name."""
COMPILED = "_orig_mod."
LEFT_OUT = {
    "loss_computer.": "the perceptual loss",
    "repa_encoder.": "the frozen teacher of REPA",
    "repa_projector.": "the projectors of REPA, which only training uses",
}
"""Prefix of weights in published checkpoints that are no part of the model, and the network to which they belong."""
ROOT = "parameters"
"""Key at the top of Open-RayZer's configuration files; everything else is below it."""
REMEDY = "give a .pt or .safetensors file with a state dict of one of the published systems"
DTYPES = (float16, bfloat16, float32, float64)
"""Supported dtypes of weights."""
RECORDED = "state/"
"""Prefix of the weights in a golden file."""


@dataclass(frozen=True)
class PublishedWeights:
    """Weights from a published file.

    Attributes:
        state: float32 tensors by published name.
        configuration: the configuration in the file; empty if there is none.
        notes: one sentence on each part of the file that was left out or converted.
    """

    state: dict[str, Tensor]
    configuration: dict[str, Any]
    notes: tuple[str, ...]


def read_weights_file(path: Path) -> PublishedWeights:
    """Read the weights in a ``.pt`` or ``.safetensors`` file of a model or of a training checkpoint.

    Raises:
        InputError: the file is missing or damaged, contains code, or holds no floating-point tensors by name.
    """
    if path.is_dir():
        inside = sorted(file.name for kind in ("*.pt", "*.pth", "*.safetensors") for file in path.glob(kind))
        raise InputError(
            f"{path} is a folder; give the file in it that holds the weights: {listed(inside) or 'none found'}"
        )
    return unwrapped(read_content(path, remedy=REMEDY), path)


def unwrapped(content: Any, path: Path) -> PublishedWeights:
    """Extract the weights from ``content``, which ``read_content`` returned for ``path``.

    Raises:
        InputError: the content is not a dictionary of floating-point tensors.
    """
    content, notes = _unwrap(content, path)
    configuration = {}
    if any(name.startswith(RECORDED) for name in content):
        content = {name.removeprefix(RECORDED): value for name, value in content.items() if name.startswith(RECORDED)}
        configuration = read_metadata(path)["config"]
        notes.append("this is a golden file: its recorded inputs and outputs are left out")
    state = _without_prefixes(content)
    kept = {name: value for name, value in state.items() if not name.startswith(tuple(LEFT_OUT))}
    for prefix, network in LEFT_OUT.items():
        if lost := sum(name.startswith(prefix) for name in state):
            notes.append(f"{lost} weight(s) of {network} ({prefix}*) are left out: the model has no such part")
    _check_numbers(kept, path)
    kinds = sorted({str(value.dtype).removeprefix("torch.") for value in kept.values()} - {"float32"})
    if kinds:
        notes.append(f"weights in {' and '.join(kinds)} are converted to float32")
    return PublishedWeights({name: value.to(float32) for name, value in kept.items()}, configuration, tuple(notes))


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the ``config`` in the metadata of a golden file: ``{"arch": ..., "config": {...}}``.

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
    file: str | Path | None, given: Sequence[str] = (), *, known: Mapping[str, Any] | None = None
) -> Configuration:
    """Read the configuration of published weights.

    Args:
        file: configuration of the published code, YAML or JSON; None if there is none.
        given: single values such as ``model.transformer.vggstyle=true``; they override ``file``.
        known: the configuration in the file of weights; ``file`` overrides it.

    Raises:
        InputError: the file cannot be read, or a given value is malformed.
    """
    file = None if file is None else Path(file)
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
    """Merge two nested configurations; values of ``above`` override those of ``below``."""
    both = {
        key: value for key, value in above.items() if isinstance(value, Mapping) and isinstance(below.get(key), Mapping)
    }
    return {**below, **above, **{key: _merged(below[key], value) for key, value in both.items()}}


def _assign(values: dict[str, Any], assignment: str) -> str:
    """Set one value from ``KEY=VALUE``; return its key."""
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
        raise InputError(f"--given {assignment}: {text!r} is not a YAML value") from error
    return key


def _unwrap(content: Any, path: Path) -> tuple[dict[str, Any], list[str]]:
    """Find the dictionary of tensors in a training checkpoint; return it with notes."""
    notes: list[str] = []
    while isinstance(content, Mapping):
        inner = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
        if not inner:
            break
        rest = [str(key) for key in content if key != inner[0]]
        if rest:
            notes.append(f"this is a training checkpoint: only its weights are imported, not {listed(sorted(rest))}")
        content = content[inner[0]]
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path} holds no tensors by name; {REMEDY}")
    strange = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if strange:
        raise InputError(f"{path}: these are not tensors: {listed(sorted(strange))}; {REMEDY}")
    return {str(name): value for name, value in content.items()}, notes


def _without_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = {name: name.replace(COMPILED, "") for name in state}
    while prefix := next((start for start in PREFIXES if all(n.startswith(start) for n in names.values())), ""):
        names = {name: short.removeprefix(prefix) for name, short in names.items()}
    if len(set(names.values())) < len(names):
        twice = sorted({short for short in names.values() if list(names.values()).count(short) > 1})
        raise InputError(f"without prefixes such as {COMPILED!r} two weights have the same name: {listed(twice)}")
    return {short: state[name] for name, short in names.items()}


def _check_numbers(state: Mapping[str, Tensor], path: Path) -> None:
    empty = [name for name, value in state.items() if not value.numel()]
    if empty:
        raise InputError(
            f"{path}: {len(empty)} weight(s) have no values: {listed(empty)}; if DeepSpeed wrote it with ZeRO stage 3, "
            "gather the weights first with the zero_to_fp32.py beside it, which runs code of the file"
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
