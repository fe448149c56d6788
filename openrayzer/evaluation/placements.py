"""Ways to place the targets: whose pixels may have a say in which camera."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from openrayzer.geometry.similarity import similarity_between
from openrayzer.interfaces import InputError, Model, UnposedInputError
from openrayzer.types import Cameras, Views


@dataclass(frozen=True)
class PlacedViews:
    """Cameras of the context and of the target views, in one frame.

    Attributes:
        context: cameras with which the scene is reconstructed, (b, vc).
        target: cameras with which it is rendered, (b, vt).
        index: the contexts' places in the list in which their cameras were estimated together, for
            ``Model.reconstruct``.
    """

    context: Cameras
    target: Cameras
    index: Int[Tensor, "b vc"]


@dataclass(frozen=True)
class Placement:
    """A way to find the cameras of all views.

    Attributes:
        name: as it is asked for and written beside every number.
        description: what it does, in one line.
        uses_target_pixels: whether a target's pixels have a say in its own camera.
        mixes_target_pixels: whether they have a say in other cameras, too, and so in the reconstructed scene.
        posed: whether it is for models that are given poses, or for those that estimate them.
    """

    name: str
    description: str
    uses_target_pixels: bool
    mixes_target_pixels: bool
    posed: bool
    place: Callable[[Model, Views], PlacedViews]

    def __call__(self, model: Model, views: Views) -> PlacedViews:
        """The cameras of ``views``.

        Raises:
            InputError: this placement is not for such models.
            UnposedInputError: the model needs poses or intrinsics and ``views`` come without cameras.
        """
        if model.posed != self.posed:
            kind = "is given camera poses" if model.posed else "estimates camera poses"
            fitting = ", ".join(repr(name) for name, other in PLACEMENTS.items() if other.posed == model.posed)
            raise InputError(
                f"placement {self.name!r} does not fit {type(model).__name__}, which {kind}; take {fitting}"
            )
        return self.place(model, views)


def placements_for(model: Model, views_have_cameras: bool) -> tuple[str, ...]:
    """Names of the placements that work; none where the model needs poses or intrinsics that are not there."""
    if not views_have_cameras and (model.posed or model.needs_intrinsics):
        return ()
    return tuple(name for name, placement in PLACEMENTS.items() if placement.posed == model.posed)


def render_targets(model: Model, views: Views, placed: PlacedViews) -> Float[Tensor, "b vt 3 h w"]:
    """The targets as the model sees them from where they were placed; the scene is reconstructed once."""
    scene = model.reconstruct(views.context_images, placed.context, placed.index)
    return model.render(scene, placed.target)


def known_intrinsics(model: Model, views: Views) -> Float[Tensor, "b v 4"] | None:
    """The true intrinsics of all views, if the model must be given them; else None, which ``estimate`` takes.

    Raises:
        UnposedInputError: it must, and ``views`` come without cameras.
    """
    if not model.needs_intrinsics:
        return None
    if views.cameras is None:
        raise UnposedInputError(f"{type(model).__name__} needs intrinsics, and {views.scenes[0]!r} has none")
    return views.cameras.intrinsics


def estimate_in_order(
    model: Model, views: Views, rows: Int[Tensor, " n"], chosen: Int[Tensor, "n s"]
) -> tuple[Cameras, Int[Tensor, "n s"]]:
    """Cameras of some views of some clips, each list estimated by itself with its views as they follow in the clip.

    A model may count views, so their order matters; that of the view axis is the one the model would be given.

    Args:
        model: one that estimates cameras.
        views: the clips.
        rows: batch element of each list.
        chosen: positions on the view axis, in any order; the same view may be there twice.

    Returns:
        The cameras in the order of ``chosen``, and each view's place in its list as the model saw it.
    """
    ordered, order = chosen.sort(dim=1, stable=True)
    place = order.argsort(dim=1)
    intrinsics = known_intrinsics(model, views)
    given = None if intrinsics is None else intrinsics[rows[:, None], ordered]
    return model.estimate(views.images[rows[:, None], ordered], given).select(place), place


def _together(model: Model, views: Views) -> PlacedViews:
    cameras = model.cameras_of(views)
    return PlacedViews(cameras.select(views.context), cameras.select(views.target), views.context)


def _context_only(model: Model, views: Views) -> PlacedViews:
    """Contexts by themselves; then each other target among them, carried back to where the contexts were."""
    device = views.context.device
    rows = torch.arange(views.context.shape[0], device=device)
    context, index = estimate_in_order(model, views, rows, views.context)
    same = rearrange(views.target, "b vt -> b vt 1") == rearrange(views.context, "b vc -> b 1 vc")
    is_context = same.any(dim=-1)
    own = context.select(same.int().argmax(dim=-1))
    target = _located(model, views, context, others=~is_context)
    c2w = torch.where(is_context[..., None, None], own.c2w, target.c2w)
    intrinsics = torch.where(is_context[..., None], own.intrinsics, target.intrinsics)
    return PlacedViews(context, Cameras(c2w, intrinsics), index)


def _located(model: Model, views: Views, context: Cameras, *, others: Bool[Tensor, "b vt"]) -> Cameras:
    """Cameras of the targets that ``others`` names, each found with the contexts alone; zeros for the rest.

    As many lists of views go through the estimator at once as hold no more images than the batch does.
    """
    count = context.num_views + 1
    c2w = context.c2w.new_zeros(*others.shape, 4, 4)
    intrinsics = context.intrinsics.new_zeros(*others.shape, 4)
    at_once = max(1, views.images.shape[0] * views.images.shape[1] // count)
    pairs = others.nonzero()
    for start in range(0, len(pairs), at_once):
        rows, targets = pairs[start : start + at_once].unbind(dim=1)
        chosen = torch.cat([views.context[rows], views.target[rows, targets][:, None]], dim=1)
        seen, _ = estimate_in_order(model, views, rows, chosen)
        seen_poses, fixed_poses = seen.c2w.double(), context.c2w[rows].double()
        back = similarity_between(seen_poses[:, :-1], fixed_poses)
        c2w[rows, targets] = back.poses(seen_poses[:, -1:])[:, 0].to(c2w.dtype)
        intrinsics[rows, targets] = seen.intrinsics[:, -1].to(intrinsics.dtype)
    return Cameras(c2w, intrinsics)


PLACEMENTS: Mapping[str, Placement] = {
    placement.name: placement
    for placement in (
        Placement(
            name="given_poses",
            description="All cameras are the true ones.",
            uses_target_pixels=False,
            mixes_target_pixels=False,
            posed=True,
            place=_together,
        ),
        Placement(
            name="joint",
            description="All views go through the estimator together, as in the papers: target pixels reach the "
            "context cameras, and with them the scene.",
            uses_target_pixels=True,
            mixes_target_pixels=True,
            posed=False,
            place=_together,
        ),
        Placement(
            name="context_only",
            description="Context cameras come from the context images alone; each target is then located against "
            "them by itself, and nothing of its pixels but its own pose and focal length is used.",
            uses_target_pixels=True,
            mixes_target_pixels=False,
            posed=False,
            place=_context_only,
        ),
    )
}
"""Every placement by its name."""
