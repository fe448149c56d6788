"""Reader of MatConvNet's VGG-19 weights, from the published ``.mat`` file or a converted file."""

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
    "(torchvision's ImageNet VGG-19 is a different model with different features and cannot replace it)"
)
"""Advice at the end of each error message."""

_TORCHVISION_SHA256 = "dcbd9e9d"
"""Beginning of the SHA-256 of torchvision's vgg19-dcbd9e9d.pth; torchvision puts it into the file name."""
_LAYOUT_FAULTS = (IndexError, KeyError, AttributeError, TypeError, ValueError)


def read_vgg19(path: Path, *, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Read the weights with names in ``shapes``, which are torchvision's: ``features.N.weight``, ``features.N.bias``.

    Raises:
        InputError: the file is damaged, has another layout, or holds weights of another network or of torchvision.
    """
    if path.suffix == ".mat":
        indices = sorted({int(name.split(".")[1]) for name in shapes})
        state = _read_mat(path, indices)
    else:
        _refuse_torchvision(path)
        state = read_state_dict(path, remedy=REMEDY)
    return select_weights(state, shapes=shapes, path=path, remedy=REMEDY)


def _read_mat(path: Path, indices: list[int]) -> dict[str, Tensor]:
    """Layer numbers in the file equal torchvision's, because both list convolutions, ReLUs and poolings in order."""
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
    """Refuse torchvision's weights by their hash, because names and shapes are the same."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest.startswith(_TORCHVISION_SHA256):
        raise InputError(f"{path.absolute()} is torchvision's ImageNet VGG-19; {REMEDY}")
