"""The published systems whose weights run here."""

from collections.abc import Mapping

from torch import Tensor

from openrayzer.interfaces import InputError
from openrayzer.layers.weight_files import listed
from openrayzer.weights.interop.lvsm_d import LVSMDecoderOnlyWeights
from openrayzer.weights.interop.lvsm_ed import LVSMEncoderDecoderWeights
from openrayzer.weights.interop.open_rayzer import OpenRayZer
from openrayzer.weights.interop.rayder import RayDerWeights
from openrayzer.weights.interop.rayzer_official import RayZerOfficial
from openrayzer.weights.interop.system import System
from registry import did_you_mean

SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        OpenRayZer(), RayZerOfficial(), LVSMEncoderDecoderWeights(), LVSMDecoderOnlyWeights(), RayDerWeights(),
    )
}  # fmt: skip
"""By the name that ``--arch`` takes."""


def system_named(name: str) -> System:
    """A published system.

    Raises:
        InputError: nothing is known under this name.
    """
    if name not in SYSTEMS:
        raise InputError(f"no published system named {name!r}{did_you_mean(name, list(SYSTEMS))}")
    return SYSTEMS[name]


def check_belongs(state: Mapping[str, Tensor], system: System) -> None:
    """Refuse weights of another system, and say whose they are.

    Raises:
        InputError: they are not this system's.
    """
    if system.fingerprint in state:
        return
    others = [other.name for other in SYSTEMS.values() if other.fingerprint in state]
    if others:
        raise InputError(f"these are weights of {others[0]!r}, not of {system.name!r}: take --arch {others[0]}")
    raise InputError(
        f"these are no weights of {system.name!r}: there is no {system.fingerprint} among {len(state)} names: "
        f"{listed(sorted(state))}"
    )
