"""RayDer, the code that its authors released."""

from collections.abc import Mapping
from typing import Protocol, get_args, runtime_checkable

import torch
from einops import rearrange, repeat
from torch import Tensor

from openrayzer.interfaces import InputError, Model
from openrayzer.layers.axial_rotary import Spread, axial_frequencies
from openrayzer.layers.weight_files import listed
from openrayzer.types import Cameras, Scene, select_views
from openrayzer.weights.interop.configuration import Configuration
from openrayzer.weights.interop.naming import depth_of, linear, paired, published_names, rename, shape_of
from openrayzer.weights.interop.system import Imported, System
from openrayzer.weights.interop.trunk import images_of, patch_size_of

PIXELS = "backbone.merges.0.proj.weight"
"""Linear layer from the pixels of a patch, each (red, green, blue, direction, moment), to the first token."""
SPATIAL, TEMPORAL = "pos_emb.spatial_freqs", "pos_emb.temporal_freqs"
"""Stored constants: rotary frequencies of rows and columns, and of time, which have no effect within a view."""
HALF_PRECISION = 4e-3
"""Relative rounding error of a frequency that was stored in bfloat16; neighbouring frequencies are further apart."""
POSE, FOCAL = "camera_pose_head", "intrinsics_head"


@runtime_checkable
class _RayDer(Protocol):
    """Methods of our model ``rayder`` beyond ``Model``; this package must not import models."""

    def observe(self, images: Tensor) -> tuple[Cameras, Tensor]: ...

    def reconstruct(self, images: Tensor, cameras: Cameras) -> Scene: ...

    def render(self, scene: Scene, cameras: Cameras, state: Tensor | None = None) -> Tensor: ...


class RayDerWeights(System):
    """Released RayDer: projected role gains, absolute poses, one focal length per view."""

    name = "rayder"
    experiment = "rayder_dl3dv.json"
    fingerprint = ("view_type_embedding.weight",)
    title = "RayDer (arXiv 2605.31535), the released code"
    license = "other"

    def read(self, state: Mapping[str, Tensor], configuration: Configuration) -> Imported:
        depth = configuration.agree("depth", depth_of(state, "backbone.mid_level"))
        fine = range(depth_of(state, "backbone.merges"))
        depths = [depth_of(state, f"backbone.down_levels.{number}", least=0) for number in fine]
        names = _names(depth, depths)
        constants = {name: name for name in _constants(depth, depths)}
        weights = rename(state, names | constants)
        width = configuration.agree("width", shape_of(state, "camera_tokens.weight")[1])
        state_width = configuration.agree("d_dynamic_state", shape_of(state, "dynamic_state_in_proj.weight")[1])
        levels = _levels(state, depths)
        published = [[level["width"], level["depth"], [1, level["patch"], level["patch"]]] for level in levels]
        configuration.agree("down_up_configs", published)
        (num_heads,) = shape_of(state, "backbone.mid_level.0.global_attn.scale", rank=1)
        if width % num_heads:
            raise InputError(
                f"{num_heads} heads (backbone.mid_level.0.global_attn.scale) do not divide a width of {width}"
            )
        head_width = width // num_heads
        model = {
            "type": "rayder",
            "width": width,
            "depth": depth,
            "levels": levels,
            "camera_head": {
                "type": "se3",
                "width": width,
                "initial_focal": 1.0,
                "max_log_focal": None,
                "focal_unit": "half_span",
                "focal_offset": 1e-6,
            },
            "attention": {"type": "auto"},
            "head_width": head_width,
            "middle_patch": patch_size_of(state, "backbone.mid_merge.proj.weight", channels=levels[-1]["width"]),
            "mlp_ratio": shape_of(state, "backbone.mid_level.0.ff.down_proj.weight")[1] / width,
            "state_width": state_width,
            "gains": "projection",
            "window_borders": "swapped",
            "frequency_spread": _spread(state, head_width),
        }
        configuration.check()
        kept = _converted({name: value for name, value in weights.items() if name not in constants})
        return Imported(model, kept, published_names(names))

    def reproduce(self, model: Model, inputs: Mapping[str, Tensor], configuration: Configuration) -> dict[str, Tensor]:
        """Compute R, t, f and state of all views, and the target views rendered in three ways.

        The first ``n_in`` views are context, the next ``n_target`` views are targets. ``render_nostate`` and
        ``render_state`` render the targets without and with their states. ``render_train_ar`` renders each view except
        the first from all views before it, as in training.
        """
        images = (rearrange(images_of(inputs), "b t h w c -> b t c h w") + 1) / 2
        height, width = images.shape[-2:]
        n_in, n_target = _counts(configuration, images.shape[1])
        if not isinstance(model, _RayDer):
            raise InputError(f"only our model 'rayder' can reproduce RayDer, this is a {type(model).__name__}")
        cameras, states = model.observe(images)

        def render(contexts: int, targets: range, *, with_state: bool) -> Tensor:
            first = _views(range(contexts), images)
            scene = model.reconstruct(select_views(images, first), cameras.select(first))
            rendered = _views(targets, images)
            given = select_views(states, rendered) if with_state else None
            return rearrange(2 * model.render(scene, cameras.select(rendered), given) - 1, "b t c h w -> b t h w c")

        targets = range(n_in, n_in + n_target)
        later = [render(view, range(view, view + 1), with_state=True) for view in range(1, images.shape[1])]
        return {
            "R": cameras.c2w[..., :3, :3],
            "t": cameras.c2w[..., :3, 3],
            "f": cameras.intrinsics[..., 0] * (2 * width / (min(height, width) - 1)),
            "state": states,
            "render_nostate": render(n_in, targets, with_state=False),
            "render_state": render(n_in, targets, with_state=True),
            "render_train_ar": torch.cat(later, dim=1),
        }


def _counts(configuration: Configuration, num_views: int) -> tuple[int, int]:
    """Return the numbers of context and target views in a recording.

    Raises:
        InputError: the configuration does not give them, or the recording has fewer views.
    """
    n_target = configuration.get("n_target", 0)
    n_in = configuration.get("n_in", num_views - n_target)
    n_target = n_target or num_views - n_in
    if min(n_in, n_target) < 1 or n_in + n_target > num_views:
        raise InputError(
            f"n_in {n_in} and n_target {n_target} do not fit the {num_views} recorded views; configure n_target"
        )
    return n_in, n_target


def _views(chosen: range, images: Tensor) -> Tensor:
    return repeat(torch.tensor(chosen, device=images.device), "v -> b v", b=images.shape[0])


def _levels(state: Mapping[str, Tensor], depths: list[int]) -> list[dict[str, int]]:
    """Return width, depth and patch side of each fine level."""
    levels: list[dict[str, int]] = []
    for number, depth in enumerate(depths):
        name = f"backbone.merges.{number}.proj.weight"
        channels = levels[-1]["width"] if levels else 9
        levels.append(
            {"width": shape_of(state, name)[0], "depth": depth, "patch": patch_size_of(state, name, channels=channels)}
        )
    return levels


def _spread(state: Mapping[str, Tensor], head_width: int) -> Spread:
    """Find the layout of rotary frequencies over heads that matches all stored frequencies.

    Raises:
        InputError: no known layout matches.
    """
    stored = {name: value for name, value in state.items() if name.endswith(SPATIAL)}
    wrong: dict[Spread, list[str]] = {
        spread: [name for name, value in stored.items() if not _agrees(value, head_width, spread)]
        for spread in get_args(Spread)
    }
    for spread, names in wrong.items():
        if not names:
            return spread
    raise InputError(
        "the rotary frequencies match no known layout of RayDer: "
        + "; ".join(f"{spread!r} does not match {listed(names)}" for spread, names in wrong.items())
    )


def _agrees(stored: Tensor, head_width: int, spread: Spread) -> bool:
    if stored.ndim != 3:
        return False
    expected = axial_frequencies(stored.shape[1], head_width, spread, stored.device)
    same_shape = stored.shape == (2, *expected.shape)
    return same_shape and torch.allclose(stored, expected.expand_as(stored), rtol=HALF_PRECISION)


def _converted(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert the weights that have another form in our model: the first linear layer and the learned tokens."""
    pixels = rearrange(weights.pop(PIXELS), "d (cells c) -> d cells c", c=9)
    colours, direction, moment = pixels.split(3, dim=-1)
    patches = {"image": colours, "ray": torch.cat([moment, direction], dim=-1)}
    weights |= {f"backbone.{kind}_patches.linear.weight": value.flatten(1) for kind, value in patches.items()}
    for token in ("camera_token", "view_token"):
        weights[token] = weights[token][0]
    return weights


def _constants(depth: int, depths: list[int]) -> list[str]:
    """Return the names of the stored rotary frequencies."""
    attentions = [f"backbone.mid_level.{block}.local_attn" for block in range(depth)]
    for half in ("down", "up"):
        for number, blocks in enumerate(depths):
            attentions += [f"backbone.{half}_levels.{number}.{block}.self_attn" for block in range(blocks)]
    return [f"{attention}.{kind}" for attention in attentions for kind in (SPATIAL, TEMPORAL)]


def _names(depth: int, depths: list[int]) -> dict[str, str]:
    """Return published name -> our name; weights that ``_converted`` changes keep their published name."""
    names = {
        "camera_tokens.weight": "camera_token",
        "nvs_tokens.weight": "view_token",
        "view_type_embedding.weight": "codes.roles",
        "token_type_embedding.weight": "codes.kinds",
        "dynamic_state_head.norm.scale": "state_norm.weight",
        "dynamic_state_in_proj.weight": "state_token.weight",
        "backbone.splits.0.norm.scale": "backbone.colours.norm.weight",
        "backbone.splits.0.proj.weight": "backbone.colours.linear.weight",
        f"{POSE}.norm.scale": "camera_head.pose_norm.weight",
        f"{FOCAL}.norm.scale": "camera_head.focal_norm.weight",
        PIXELS: PIXELS,
        **linear("dynamic_state_head.out_proj", "state"),
        **linear(f"{POSE}.out_proj", "camera_head.twist"),
        **linear(f"{FOCAL}.out_proj", "camera_head.log_focal"),
    }
    for number, blocks in enumerate(depths):
        last = number == len(depths) - 1
        for kind, extra in (("merge", {}), ("split", {"fac": "share"})):
            published = f"backbone.mid_{kind}" if last else f"backbone.{kind}s.{number + 1}"
            names |= paired(published, f"backbone.{kind}s.{number}", {"proj.weight": "linear.weight", **extra})
        for half in ("down", "up"):
            for block in range(blocks):
                published, ours = f"backbone.{half}_levels.{number}.{block}", f"backbone.{half}.{number}.blocks.{block}"
                names |= _attention(f"{published}.self_attn", f"{ours}.attention")
                names |= _feed_forward(f"{published}.ff", f"{ours}.mlp")
                norms = {
                    "self_attn.norm.linear.weight": "attention_norm.weight",
                    "ff.norm.linear.weight": "mlp_norm.weight",
                }
                names |= paired(published, ours, norms)
    for block in range(depth):
        published, ours = f"backbone.mid_level.{block}", f"backbone.middle.blocks.{block}"
        names |= _feed_forward(f"{published}.ff", f"{ours}.mlp")
        for part, own in (("global_attn", "global"), ("local_attn", "local"), ("ff", "mlp")):
            norms = {"norm.linear.weight": "patches.weight", "register_norm.linear.weight": "register.weight"}
            names |= paired(f"{published}.{part}", f"{ours}.{own}_norm", norms)
            if part != "ff":
                names |= _attention(f"{published}.{part}", f"{ours}.{own}_attention")
    return names


def _attention(published: str, ours: str) -> dict[str, str]:
    leaves = {"qkv_proj.weight": "query_key_value.weight", "scale": "scale", "out_proj.weight": "out.weight"}
    return paired(published, ours, leaves)


def _feed_forward(published: str, ours: str) -> dict[str, str]:
    return paired(published, ours, {"up_proj.weight": "values_gates.weight", "down_proj.weight": "out.weight"})
