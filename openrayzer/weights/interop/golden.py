"""Golden files: compare recorded outputs of published systems with ours for the same weights and inputs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openrayzer.composer import construct, plan
from openrayzer.interfaces import REGISTRIES, InputError, Model
from openrayzer.layers.stack import Stack
from openrayzer.layers.weight_files import listed, read_content
from openrayzer.weights.interop.configuration import Configuration
from openrayzer.weights.interop.published_files import read_metadata, unwrapped
from openrayzer.weights.interop.system import Imported, System
from openrayzer.weights.interop.systems import check_belongs, system_named
from openrayzer.weights.weight_folder import fill

INPUT, OUTPUT = "in/", "out/"
ABSOLUTE, RELATIVE = 1e-4, 1e-3
"""Tolerances of the absolute difference, and of the relative difference of outputs in ``BY_RATIO``."""
BY_RATIO = ("loss", "grad_norm")
"""Outputs that are compared by relative difference."""


@dataclass(frozen=True)
class GoldenComparison:
    """Comparison of one recorded output with ours.

    Attributes:
        name: name of the output.
        difference: largest absolute difference, or relative difference for outputs in ``BY_RATIO``; NaN if the output
            cannot be compared.
        tolerance: largest difference that passes.
        remark: the reason why the output cannot be compared; empty if it can.
    """

    name: str
    difference: float
    tolerance: float
    remark: str = ""

    @property
    def passed(self) -> bool:
        """True if the difference is within the tolerance; NaN is not."""
        return self.difference <= self.tolerance


def build_imported(imported: Imported, *, source: Path) -> Model:
    """Build our model with the published weights, in evaluation mode.

    Raises:
        InputError: the model cannot be built, or the weights do not fit it.
    """
    model: Model = construct(plan(imported.model, Model, registries=REGISTRIES, path="model"))
    fill_imported(model, imported, source=source)
    return model.eval()


def fill_imported(model: Model, imported: Imported, *, source: Path) -> None:
    """Set every weight of ``model``.

    Raises:
        InputError: lists the weights that do not fit, by their published names if only their shapes differ.
    """
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in imported.weights.items()}
    wrong = [
        f"{imported.published.get(name, name)} has shape {shape} instead of {wanted[name]}"
        for name, shape in found.items()
        if wanted.get(name, shape) != shape
    ]
    if wrong:
        raise InputError(f"{len(wrong)} weight(s) in {source} do not fit the model: {listed(wrong)}")
    fill(model, imported.weights, source=source)


def compare(
    file: str | Path, *, attention: str = "auto", activation_checkpointing: int = 0
) -> tuple[str, list[GoldenComparison]]:
    """Compute the outputs in a golden file with our model and compare them with the recorded ones.

    Args:
        file: a safetensors file with tensors ``state/*``, ``in/*`` and ``out/*``, and ``config`` in its metadata.
        attention: attention backend.
        activation_checkpointing: recompute every n-th block in the backward pass; 0 recomputes none.

    Returns:
        The name of the system and one comparison for each recorded output.

    Raises:
        InputError: the file is damaged, belongs to an unknown system, or contradicts itself.
    """
    file = Path(file)
    tensors = read_content(file, remedy="give a golden file in safetensors form")
    system, configuration = read_setting(file)
    published = unwrapped(tensors, file)
    check_belongs(published.state, system)
    imported = system.read(published.state, configuration)
    backend: dict[str, Any] = {"attention": {"type": attention}, "activation_checkpointing": activation_checkpointing}
    model = build_imported(replace(imported, model=imported.model | backend), source=file)
    for stack in model.modules() if activation_checkpointing else ():
        if isinstance(stack, Stack):
            stack.train()  # blocks are recomputed in training only
    inputs, recorded = _part(tensors, INPUT), _part(tensors, OUTPUT)
    if not recorded:
        raise InputError(f"{file} has no {OUTPUT}* to compare with")
    try:
        computed = dict(_computed(system, model, inputs, configuration, names=recorded))
    except (RuntimeError, ValueError) as error:  # unsuitable inputs, or a backend that cannot run here
        raise InputError(f"the recorded inputs cannot be computed: {error}") from error
    return system.name, [_compared(name, value, computed) for name, value in recorded.items()]


def read_setting(file: Path) -> tuple[System, Configuration]:
    """Read the system and the configuration of a golden file.

    Raises:
        InputError: the file has none, or the system is unknown.
    """
    metadata = read_metadata(file)
    return system_named(metadata["arch"]), Configuration(metadata["config"], source="the file's config", whole=True)


def _computed(
    system: System,
    model: Model,
    inputs: Mapping[str, Tensor],
    configuration: Configuration,
    *,
    names: Mapping[str, Any],
) -> Iterator[tuple[str, Tensor]]:
    with torch.set_grad_enabled("grad_norm" in names):
        outputs = system.reproduce(model, inputs, configuration)
    yield from outputs.items()
    if "grad_norm" in names and "loss" in outputs:
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        gradients = torch.autograd.grad(outputs["loss"], weights, allow_unused=True)
        squares = [gradient.double().square().sum() for gradient in gradients if gradient is not None]
        yield "grad_norm", torch.stack(squares).sum().sqrt()


def _compared(name: str, recorded: Tensor, computed: Mapping[str, Tensor]) -> GoldenComparison:
    tolerance = RELATIVE if name in BY_RATIO else ABSOLUTE
    if name not in computed:
        return GoldenComparison(name, torch.nan, tolerance, "not computed by our model")
    ours, theirs = computed[name].detach().double(), recorded.double()
    if name in BY_RATIO:
        ours, theirs = ours.flatten(), theirs.flatten()
    if ours.shape != theirs.shape:
        return GoldenComparison(
            name, torch.nan, tolerance, f"shape {tuple(ours.shape)}, recorded {tuple(theirs.shape)}"
        )
    difference = (ours - theirs).abs()
    if name in BY_RATIO:
        difference = difference / theirs.abs()
    return GoldenComparison(name, float(difference.max()), tolerance)


def _part(tensors: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
