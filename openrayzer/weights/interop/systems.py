"""The published systems that can be imported."""

from collections.abc import Mapping

from torch import Tensor

from openrayzer.interfaces import InputError
from openrayzer.layers.weight_files import listed
from openrayzer.weights.interop.efficient import EfficientLVSMWeights
from openrayzer.weights.interop.erayzer_released import ERayZerWeights
from openrayzer.weights.interop.less3depend import PTLVSMWeights, UPLVSMWeights
from openrayzer.weights.interop.lvsm import LVSMDecoderOnlyWeights, LVSMEncoderDecoderWeights
from openrayzer.weights.interop.open_rayzer import OpenRayZer
from openrayzer.weights.interop.rayder import RayDerWeights
from openrayzer.weights.interop.rayzer_official import RayZerOfficial
from openrayzer.weights.interop.system import System
from registry import did_you_mean

SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        OpenRayZer(), RayZerOfficial(), LVSMEncoderDecoderWeights(), LVSMDecoderOnlyWeights(), RayDerWeights(),
        EfficientLVSMWeights(), UPLVSMWeights(), PTLVSMWeights(), ERayZerWeights(),
    )
}  # fmt: skip
"""Systems by the value of the option ``--arch``."""
XFACTOR_WEIGHT = "PoseEnc.global_embed"
"""The name of a weight of XFactor that no other system has."""
XFACTOR_REASON = (
    "XFactor's weights are not imported: a camera of XFactor is a list of 256 numbers relative to another view, "
    "without rotation, position and focal length; its training objective works with the models here: "
    'train.objective={"type": "mask_swap"}'
)
NOT_IMPORTED = {
    "xfactor": XFACTOR_REASON,
    "gsplat-1.4.0": "gsplat is a rasteriser and has no weights; "
    "tests/components/rasterisers compares its recorded images and gradients with ours",
}
"""For each known system without an importer, the reason."""


class NotImportedError(InputError):
    """The system is known, and its weights are not imported."""


def system_named(name: str) -> System:
    """Return a published system by its name.

    Raises:
        NotImportedError: the system is known, and its weights are not imported.
        InputError: there is no system of this name.
    """
    if name in NOT_IMPORTED:
        raise NotImportedError(NOT_IMPORTED[name])
    if name not in SYSTEMS:
        raise InputError(f"no published system named {name!r}{did_you_mean(name, list(SYSTEMS))}")
    return SYSTEMS[name]


def check_belongs(state: Mapping[str, Tensor], system: System) -> None:
    """Check that weights belong to ``system``.

    Raises:
        NotImportedError: they belong to XFactor.
        InputError: they do not; the message names the system that they belong to if it is known.
    """
    if system.owns(state):
        return
    if XFACTOR_WEIGHT in state:
        raise NotImportedError(XFACTOR_REASON)
    others = [other.name for other in SYSTEMS.values() if other.owns(state)]
    if others:
        raise InputError(f"these are weights of {others[0]!r}, not of {system.name!r}: use --arch {others[0]}")
    missing = next(name for name in system.fingerprint if name not in state)
    raise InputError(
        f"these are not weights of {system.name!r}: {missing} is not among their {len(state)} names: "
        f"{listed(sorted(state))}"
    )
