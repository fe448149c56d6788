"""Shared by LVSM, RayZer and Open-RayZer: transformer blocks, recorded views, and outputs to compare."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor

from openrayzer.geometry.intrinsics import from_pixels
from openrayzer.interfaces import InputError, Model
from openrayzer.types import Cameras, Prediction, Views
from openrayzer.weights.interop.configuration import Configuration
from openrayzer.weights.interop.naming import paired, shape_of
from openrayzer.weights.interop.recorded_loss import recorded_loss

PACKED, OUT = "to_qkv", "fc"
"""Published names of the linear layers of the attention in LVSM and RayZer."""


@dataclass(frozen=True)
class BlockNames:
    """Names of the weights in a transformer block.

    Attributes:
        normed: True if queries and keys are normalised.
        packed: published name of the linear layer that computes queries, keys and values.
        out: published name of the linear layer after the attention.
    """

    normed: bool
    packed: str = PACKED
    out: str = OUT

    def of(self, published: str, ours: str, depth: int) -> dict[str, str]:
        """Return published name -> our name for a stack of ``depth`` blocks."""
        leaves = {
            "norm1.weight": "attention_norm.weight",
            f"attn.{self.packed}.weight": "attention.query_key_value.weight",
            f"attn.{self.out}.weight": "attention.out.weight",
            "norm2.weight": "mlp_norm.weight",
            "mlp.mlp.0.weight": "mlp.layers.0.weight",
            "mlp.mlp.2.weight": "mlp.layers.2.weight",
        }
        if self.normed:
            leaves |= {f"attn.{kind[0]}_norm.weight": f"attention.{kind}_norm.weight" for kind in ("query", "key")}
        blocks = [paired(f"{published}.{number}", f"{ours}.{number}", leaves) for number in range(depth)]
        return {name: own for block in blocks for name, own in block.items()}


def is_normed(state: Mapping[str, Tensor]) -> bool:
    """Return True if queries or keys are normalised."""
    return any(name.endswith((".attn.q_norm.weight", ".attn.k_norm.weight")) for name in state)


@dataclass(frozen=True)
class Trunk:
    """Sizes of all transformer blocks.

    Attributes:
        width: token width.
        num_heads: attention heads.
        mlp_ratio: hidden width of the feed-forward layers divided by the token width.
        normed: True if queries and keys are normalised.
    """

    width: int
    num_heads: int
    mlp_ratio: float
    normed: bool

    def qk_norm_eps(self, eps: float) -> float | None:
        """Return ``eps``, or None if queries and keys are not normalised."""
        return eps if self.normed else None


def read_trunk(state: Mapping[str, Tensor], block: str, configuration: Configuration) -> Trunk:
    """Read the sizes from the weights of one block, e.g. ``transformer_encoder.0``.

    Raises:
        InputError: a weight is missing or has another number of dimensions.
    """
    hidden, width = shape_of(state, f"{block}.mlp.mlp.0.weight")
    normed = is_normed(state)
    configuration.agree("model.transformer.use_qk_norm", normed)
    if normed:
        (head,) = shape_of(state, f"{block}.attn.q_norm.weight", rank=1)
        configuration.agree("model.transformer.d_head", head)
    else:
        head = configuration.count("model.transformer.d_head", "width of one attention head")
    configuration.agree("model.transformer.d", width)
    if width % head:
        configuration.problem(f"model.transformer.d_head: {head} does not divide the width {width} of the weights")
        head = width
    return Trunk(width, width // head, hidden / width, normed)


def patch_size_of(state: Mapping[str, Tensor], name: str, *, channels: int) -> int:
    """Return the side of a tokenizer's square patches in pixels, from the number of its columns.

    Raises:
        InputError: the number of columns does not fit square patches.
    """
    columns = shape_of(state, name)[1]
    side = round((columns / channels) ** 0.5)
    if side < 1 or channels * side**2 != columns:
        raise InputError(f"weight {name} has {columns} columns, which do not fit square patches of {channels} channels")
    return side


def images_of(inputs: Mapping[str, Tensor]) -> Float[Tensor, "b v x y z"]:
    """Return the recorded images, with the axes in the order of their system.

    Raises:
        InputError: there are no images, or they do not have five axes.
    """
    if "image" not in inputs:
        raise InputError("the recording has no in/image")
    images = inputs["image"]
    if images.ndim != 5 or not images.is_floating_point():
        raise InputError(f"in/image is {images.dtype} of shape {tuple(images.shape)}, expected five axes of floats")
    return images


def views_of(
    inputs: Mapping[str, Tensor], context: Int[Tensor, "rows vc"], target: Int[Tensor, "rows vt"], *, posed: bool
) -> Views:
    """Convert recorded inputs to views.

    Args:
        inputs: ``image``, and if ``posed``, ``c2w`` and ``fxfycxcy`` (in pixels).
        context: indices of the context views, one row for all scenes or one row for each scene.
        target: indices of the target views, likewise.
        posed: True if the model needs cameras.

    Raises:
        InputError: an input is missing or has a wrong shape, or an index is out of range.
    """
    images = images_of(inputs)
    missing = [f"in/{name}" for name in ("c2w", "fxfycxcy") if posed and name not in inputs]
    if missing:
        raise InputError(f"the recording has no {' nor '.join(missing)}")
    if images.shape[2] != 3:
        raise InputError(f"in/image has shape {tuple(images.shape)}, expected (b, v, 3, h, w)")
    batch, num_views, _, height, width = images.shape
    for places in (context, target):
        if (
            places.is_floating_point()
            or places.shape[0] not in (1, batch)
            or not ((places >= 0) & (places < num_views)).all()
        ):
            raise InputError(f"{places.tolist()} are not indices of views for {batch} clip(s) of {num_views} views")
    cameras = None
    if posed:
        for name, shape in {"c2w": (batch, num_views, 4, 4), "fxfycxcy": (batch, num_views, 4)}.items():
            if tuple(inputs[name].shape) != shape:
                raise InputError(f"in/{name} has shape {tuple(inputs[name].shape)}, expected {shape} to match in/image")
        cameras = Cameras(inputs["c2w"], from_pixels(inputs["fxfycxcy"], (height, width)))
    return Views(
        images=images,
        frames=repeat(torch.arange(num_views), "v -> b v", b=batch),
        context=context.expand(batch, -1),
        target=target.expand(batch, -1),
        scenes=tuple(f"recording {row}" for row in range(batch)),
        cameras=cameras,
    )


def first_and_last(configuration: Configuration, num_views: int) -> tuple[Int[Tensor, "1 vc"], Int[Tensor, "1 vt"]]:
    """Return the indices of the context views, which come first, and of the target views, which come last."""
    num_context = configuration.count("training.num_input_views", "number of context views")
    num_target = configuration.count("training.num_target_views", "number of target views")
    if max(num_context, num_target) > num_views:
        configuration.problem(
            f"{num_context} context and {num_target} target views do not fit {num_views} recorded views"
        )
    configuration.check()
    return torch.arange(num_context)[None], torch.arange(num_views - num_target, num_views)[None]


def recorded_roles(inputs: Mapping[str, Tensor]) -> tuple[Int[Tensor, "rows vc"], Int[Tensor, "rows vt"]]:
    """Return the recorded indices of context and target views, one row for all scenes or one row for each scene.

    Raises:
        InputError: there are none.
    """
    missing = [f"in/{name}" for name in ("input_idx", "target_idx") if name not in inputs]
    if missing:
        raise InputError(f"the recording has no {' nor '.join(missing)}, the indices of context and target views")
    return torch.atleast_2d(inputs["input_idx"]), torch.atleast_2d(inputs["target_idx"])


def predicted(
    model: Model, views: Views, configuration: Configuration
) -> tuple[Prediction, dict[str, Float[Tensor, "..."]]]:
    """Return the prediction of ``model`` and the outputs that all these systems record: ``render`` and ``loss``."""
    prediction = model(views)
    loss = recorded_loss(prediction.images, views.target_images, configuration)
    return prediction, {"render": prediction.images, "loss": loss}


def view_counts(configuration: Configuration) -> tuple[str, ...]:
    """Return overrides of the base experiment with the configured numbers of context and target views."""
    counts = {"num_context": "training.num_input_views", "num_target": "training.num_target_views"}
    found = {ours: configuration.get(key, 0) for ours, key in counts.items()}
    sections = ("data", "evaluation")
    return tuple(
        f"{section}.view_sampler.{ours}={count}" for section in sections for ours, count in found.items() if count
    )
