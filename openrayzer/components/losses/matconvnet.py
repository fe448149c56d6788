"""Reads MatConvNet's VGG-19 from the published ``.mat`` file or from a converted one."""

import hashlib
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from openrayzer.interfaces import InputError
from openrayzer.layers.weight_files import read_state_dict, select_weights

REMEDY = (
    "get https://www.vlfeat.org/matconvnet/models/imagenet-vgg-verydeep-19.mat and give its path as 'weights' "
    "(torchvision's ImageNet VGG-19 is a different model with different features and does not stand in for it)"
)
"""What to do without a usable file."""

_TORCHVISION_SHA256 = "dcbd9e9d"
"""Beginning of the SHA-256 of torchvision's vgg19-dcbd9e9d.pth, by torchvision's naming rule."""
_LAYOUT_FAULTS = (IndexError, KeyError, AttributeError, TypeError, ValueError)


def read_vgg19(path: Path, *, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Weights by torchvision's names, ``features.N.weight`` and ``features.N.bias``, as many as ``shapes`` names.

    Raises:
        InputError: the file is damaged, of another layout or network, or torchvision's.
    """
    if path.suffix == ".mat":
        indices = sorted({int(name.split(".")[1]) for name in shapes})
        state = _read_mat(path, indices)
    else:
        _refuse_torchvision(path)
        state = read_state_dict(path, remedy=REMEDY)
    return select_weights(state, shapes=shapes, path=path, remedy=REMEDY)


def _read_mat(path: Path, indices: list[int]) -> dict[str, Tensor]:
    """Layer numbers in the file are torchvision's, because both list convolutions, ReLUs and poolings in order."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    faults = (MatReadError, OSError, EOFError, zlib.error, struct.error, NotImplementedError, MemoryError)
    try:
        content = loadmat(path, variable_names=["layers"])
    except (*faults, *_LAYOUT_FAULTS) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path.absolute()} cannot be read as a .mat file ({reason}); {REMEDY}") from error
    if "layers" not in content:
        raise InputError(f"{path.absolute()} has no variable 'layers'; {REMEDY}")
    layers, state = content["layers"].reshape(-1), {}
    for index in indices:
        try:
            kernel, bias = layers[index].reshape(-1)[0]["weights"].reshape(-1)
            state[f"features.{index}.weight"] = rearrange(_tensor(kernel), "y x i o -> o i y x").contiguous()
            state[f"features.{index}.bias"] = _tensor(bias).flatten()
        except (*_LAYOUT_FAULTS, RuntimeError) as error:  # einops raises a RuntimeError
            raise InputError(f"{path.absolute()}: layer {index} holds no kernel and bias; {REMEDY}") from error
    return state


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _refuse_torchvision(path: Path) -> None:
    """Same names and shapes, other features: only the content tells."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest.startswith(_TORCHVISION_SHA256):
        raise InputError(f"{path.absolute()} is torchvision's ImageNet VGG-19; {REMEDY}")
