"""Pretrained weights from files that the user has: every fault is an ``InputError`` that names file and remedy."""

import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from openrayzer.interfaces import InputError

_TORCH_FAULTS = (
    pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, LookupError, AttributeError, TypeError,
)  # fmt: skip
_CODE = re.compile(r"GLOBAL (\S+)")
"""Where torch names the first class or function that a file asks for."""
_SHOWN = 6
"""Problems that one message lists; a wrong file has hundreds."""
_FILLED_LATER = ContextVar("skip_pretrained_weights", default=False)


@contextmanager
def skip_pretrained_weights() -> Iterator[None]:
    """Within this block a model is built whose weights are all set afterwards, so that it needs no pretrained ones."""
    token = _FILLED_LATER.set(True)
    try:
        yield
    finally:
        _FILLED_LATER.reset(token)


def pretrained_weights_are_skipped() -> bool:
    """Whether modules are being built within ``skip_pretrained_weights``."""
    return _FILLED_LATER.get()


def building_on_meta() -> bool:
    """Whether modules are being built under ``torch.device("meta")``, to be counted and not to be run.

    An experiment is planned that way, also on machines without the weight files, so nothing is read then.
    """
    return torch.get_default_device().type == "meta"


def require_file(path: Path, *, remedy: str) -> None:
    """Does nothing if ``path`` is a file, or if nothing will be read from it (see ``building_on_meta``).

    Raises:
        InputError: it is not; the message ends with ``remedy``.
    """
    if not building_on_meta() and not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise InputError(f"{path.absolute()} {what}; {remedy}")


def read_state_dict(path: Path, *, remedy: str) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file or of a PyTorch file, by name, on the CPU.

    Runs no code from the file. A dictionary under ``state_dict`` or ``model`` counts as the file's content.

    Raises:
        InputError: missing, damaged, or something else than named tensors.
    """
    content = read_content(path, remedy=remedy)
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path.absolute()} is no dictionary of tensors by name; {remedy}")
    return dict(content)


def read_content(path: Path, *, remedy: str) -> Any:
    """What a ``.safetensors`` or PyTorch file holds, tensors and plain values, on the CPU. Runs no code from it.

    Raises:
        InputError: missing, damaged, or made of objects that only code could bring back.
    """
    require_file(path, remedy=remedy)
    try:
        if _is_safetensors(path):
            return load_file(path)
        with path.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what pickles torch has not been tried on
            return torch.load(stream, map_location="cpu", weights_only=True)
    except (SafetensorError, *_TORCH_FAULTS) as error:
        raise InputError(
            f"{path.absolute()} cannot be read as a file of weights ({_reason(error)}); {remedy}"
        ) from error


def _is_safetensors(path: Path) -> bool:
    """By what the file starts with, the length of a JSON object and its brace; by its name if it is too short."""
    with path.open("rb") as stream:
        start = stream.read(9)
    return start[8:] == b"{" if len(start) == 9 else path.suffix == ".safetensors"


def _reason(error: Exception) -> str:
    """What a loader says, in short; torch's own advice, to trust the file and load it with code, is left out."""
    named = _CODE.search(str(error))
    if named:
        return f"it holds {named[1]}, which is code, and code from a file is never run"
    if not isinstance(error, RuntimeError | OSError | SafetensorError):
        return "it is damaged, or holds something else than tensors and plain values"
    return str(error).partition("\n")[0] or type(error).__name__


def select_weights(
    state: Mapping[str, Tensor], *, shapes: Mapping[str, torch.Size], path: Path, remedy: str
) -> dict[str, Tensor]:
    """The tensors named in ``shapes``, in float32; others in ``state`` are left out.

    Raises:
        InputError: lists names that are missing, of another shape, or not finite.
    """
    problems = []
    for name, shape in shapes.items():
        if name not in state:
            problems.append(f"{name} is missing")
        elif state[name].shape != shape:
            problems.append(f"{name} has shape {tuple(state[name].shape)} instead of {tuple(shape)}")
        elif not state[name].isfinite().all():
            problems.append(f"{name} has values that are not finite")
    if problems:
        raise InputError(f"{path.absolute()} does not fit: {listed(problems)}; {remedy}")
    return {name: state[name].float() for name in shapes}


def listed(items: list[str]) -> str:
    """The first few items, and how many more there are."""
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
