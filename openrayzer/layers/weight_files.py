"""Reading of pretrained weights from files of the user. Each error is an ``InputError`` with the file and a remedy."""

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
"""The name of the first class or function in a file, in torch's error message."""
_SHOWN = 6
"""Problems that one message lists; a wrong file has hundreds."""
_SKIPPED = ContextVar("pretrained_weights_are_skipped", default=False)


@contextmanager
def skip_pretrained_weights() -> Iterator[None]:
    """Build models without their pretrained weights in this ``with`` block; the caller then sets all weights."""
    token = _SKIPPED.set(True)
    try:
        yield
    finally:
        _SKIPPED.reset(token)


def pretrained_weights_are_skipped() -> bool:
    """True within ``skip_pretrained_weights``."""
    return _SKIPPED.get()


def building_on_meta() -> bool:
    """True under ``torch.device("meta")``.

    The planner builds models this way to count parameters and operations. It reads no weight files, so it works on
    machines without these files.
    """
    return torch.get_default_device().type == "meta"


def require_file(path: Path, *, remedy: str) -> None:
    """Check that ``path`` is a file. Under ``torch.device("meta")`` there is no check, see ``building_on_meta``.

    Raises:
        InputError: there is no file; the message ends with ``remedy``.
    """
    if not building_on_meta() and not path.is_file():
        problem = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise InputError(f"{path.absolute()} {problem}; {remedy}")


def read_state_dict(path: Path, *, remedy: str) -> dict[str, Tensor]:
    """Read tensors by name from a ``.safetensors`` file or a PyTorch file, to the CPU.

    No code from the file runs. If the file holds a dictionary under ``state_dict`` or ``model``, the result is that
    dictionary.

    Raises:
        InputError: the file is missing, damaged, or holds other things than named tensors.
    """
    content = read_content(path, remedy=remedy)
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path.absolute()} holds no dictionary of tensors by name; {remedy}")
    return dict(content)


def read_content(path: Path, *, remedy: str) -> Any:
    """Read tensors and plain values from a ``.safetensors`` or PyTorch file, to the CPU. No code from the file runs.

    Raises:
        InputError: the file is missing, damaged, or holds objects that only code could restore.
    """
    require_file(path, remedy=remedy)
    try:
        if _is_safetensors(path):
            return load_file(path)
        with path.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of pickle protocols without tests
            return torch.load(stream, map_location="cpu", weights_only=True)
    except (SafetensorError, *_TORCH_FAULTS) as error:
        raise InputError(
            f"{path.absolute()} cannot be read as a file of weights ({_reason(error)}); {remedy}"
        ) from error


def _is_safetensors(path: Path) -> bool:
    """Check the first 9 bytes: the length of a JSON object and its brace. For shorter files, check the name."""
    with path.open("rb") as stream:
        start = stream.read(9)
    return start[8:] == b"{" if len(start) == 9 else path.suffix == ".safetensors"


def _reason(error: Exception) -> str:
    """The error of a loader in one line, without torch's advice to trust the file and run its code."""
    named = _CODE.search(str(error))
    if named:
        return f"it holds {named[1]}, which is code, and code from a file is never run"
    if not isinstance(error, RuntimeError | OSError | SafetensorError):
        return "it is damaged, or holds other things than tensors and plain values"
    return str(error).partition("\n")[0] or type(error).__name__


def select_weights(
    state: Mapping[str, Tensor], *, shapes: Mapping[str, torch.Size], path: Path, remedy: str
) -> dict[str, Tensor]:
    """The tensors of ``state`` with a name in ``shapes``, in float32.

    Raises:
        InputError: a tensor is missing, has another shape, or has values that are not finite; the message lists them.
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
    """The first items, separated by commas, and the number of the others."""
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
