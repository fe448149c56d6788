"""Placements: ways to find the cameras of the target views, and the influence of target pixels on the cameras."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from openrayzer.interfaces import InputError, Model, UnposedInputError
from openrayzer.types import Cameras, Scene, Views, select_views


@dataclass(frozen=True)
class PlacedViews:
    """Cameras of the context and target views, in one frame.

    Attributes:
        context: cameras of the context views, (b, vc); the scene is reconstructed with them.
        target: cameras of the target views, (b, vt).
        index: positions of the context views in the list of views that were estimated together, for
            ``Model.reconstruct``.
        scene: the scene of the context views, if the placement has reconstructed it to locate targets.
    """

    context: Cameras
    target: Cameras
    index: Int[Tensor, "b vc"]
    scene: Scene | None = None

    def scene_of(self, model: Model, views: Views) -> Scene:
        """The scene of the context views of ``views``, reconstructed here unless the placement has done so."""
        if self.scene is not None:
            return self.scene
        return model.reconstruct(views.context_images, self.context, self.index)


@dataclass(frozen=True)
class Placement:
    """A way to find the cameras of all views.

    Attributes:
        name: name of the option's value, of rows in tables and of keys in metrics.json.
        description: one or two sentences.
        uses_target_pixels: whether the camera of a target depends on the target's own pixels.
        mixes_target_pixels: whether other cameras, and so the reconstructed scene, also depend on these pixels.
        posed: True for models that need true poses, False for models that estimate poses.
        place: finds the cameras.
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
            InputError: the placement does not fit the model.
            UnposedInputError: the model needs poses or intrinsics, and ``views`` have no cameras.
        """
        if model.posed != self.posed:
            kind = "is given camera poses" if model.posed else "estimates camera poses"
            fitting = ", ".join(repr(name) for name, other in PLACEMENTS.items() if other.posed == model.posed)
            raise InputError(
                f"placement {self.name!r} does not fit {type(model).__name__}, which {kind}; take {fitting}"
            )
        return self.place(model, views)


def placements_for(model: Model, views_have_cameras: bool) -> tuple[str, ...]:
    """Names of the placements that work; empty if the model needs poses or intrinsics and the views have none."""
    if not views_have_cameras and (model.posed or model.needs_intrinsics):
        return ()
    return tuple(name for name, placement in PLACEMENTS.items() if placement.posed == model.posed)


def render_targets(model: Model, views: Views, placed: PlacedViews) -> Float[Tensor, "b vt 3 h w"]:
    """The target views, rendered with their placed cameras."""
    return model.render(placed.scene_of(model, views), placed.target)


def known_intrinsics(model: Model, views: Views) -> Float[Tensor, "b v 4"] | None:
    """The true intrinsics of all views for a model that needs them; None for another model.

    Raises:
        UnposedInputError: the model needs intrinsics, and ``views`` have no cameras.
    """
    if not model.needs_intrinsics:
        return None
    if views.cameras is None:
        raise UnposedInputError(f"{type(model).__name__} needs intrinsics, and {views.scenes[0]!r} has none")
    return views.cameras.intrinsics


def _together(model: Model, views: Views) -> PlacedViews:
    cameras = model.cameras_of(views)
    return PlacedViews(cameras.select(views.context), cameras.select(views.target), views.context)


def _context_only(model: Model, views: Views) -> PlacedViews:
    """Estimate the cameras of the context views alone, then locate each other target in their scene."""
    if model.locates_in_scene:
        return _together(model, views)  # does the same, and keeps the order of the context views
    context, index = _context_cameras(model, views)
    scene = model.reconstruct(views.context_images, context, index)
    same = rearrange(views.target, "b vt -> b vt 1") == rearrange(views.context, "b vc -> b 1 vc")
    is_context = same.any(dim=-1)
    own = context.select(same.int().argmax(dim=-1))
    target = _located(model, views, scene, context, others=~is_context)
    c2w = torch.where(is_context[..., None, None], own.c2w, target.c2w)
    intrinsics = torch.where(is_context[..., None], own.intrinsics, target.intrinsics)
    return PlacedViews(context, Cameras(c2w, intrinsics), index, scene)


def _context_cameras(model: Model, views: Views) -> tuple[Cameras, Int[Tensor, "b vc"]]:
    """Cameras of the context views, estimated in their order in the clip, and the position of each in that order."""
    ordered, order = views.context.sort(dim=1, stable=True)
    index = order.argsort(dim=1)
    known = known_intrinsics(model, views)
    known = None if known is None else select_views(known, ordered)
    return model.estimate(select_views(views.images, ordered), known).select(index), index


def _located(model: Model, views: Views, scene: Scene, context: Cameras, *, others: Bool[Tensor, "b vt"]) -> Cameras:
    """Cameras of the targets marked by ``others``, each located by itself; zeros for the other targets.

    One call of ``locate`` takes few targets: with their contexts, they are at most as many images as the batch has.
    """
    c2w = context.c2w.new_zeros(*others.shape, 4, 4)
    intrinsics = context.intrinsics.new_zeros(*others.shape, 4)
    known = known_intrinsics(model, views)
    at_once = max(1, views.images.shape[0] * views.images.shape[1] // (context.num_views + 1))
    pairs = others.nonzero()
    for start in range(0, len(pairs), at_once):
        rows, targets = pairs[start : start + at_once].unbind(dim=1)
        positions = views.target[rows, targets]
        located = model.locate(
            scene.select(rows),
            views.images[rows, positions][:, None],
            Cameras(context.c2w[rows], context.intrinsics[rows]),
            views.images[rows[:, None], views.context[rows]],
            intrinsics=None if known is None else known[rows, positions][:, None],
            index=positions[:, None],
            context_index=views.context[rows],
        )
        c2w[rows, targets] = located.c2w[:, 0].to(c2w.dtype)
        intrinsics[rows, targets] = located.intrinsics[:, 0].to(intrinsics.dtype)
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
            description="The cameras of all views are estimated together, as in the papers: the pixels of the targets "
            "influence the context cameras and the scene.",
            uses_target_pixels=True,
            mixes_target_pixels=True,
            posed=False,
            place=_together,
        ),
        Placement(
            name="context_only",
            description="The context cameras are estimated from the context views alone. Each target is then located "
            "by itself, and its pixels influence only its own pose and focal length.",
            uses_target_pixels=True,
            mixes_target_pixels=False,
            posed=False,
            place=_context_only,
        ),
    )
}
"""All placements by name."""

SAME = (
    "The model reconstructs the scene from the context views alone, and finds the camera of each view in it from the "
    "view's own image. The placements 'joint' and 'context_only' are therefore the same."
)
"""Description of both placements of a model with ``locates_in_scene``."""


def placement_of(name: str, *, locates_in_scene: bool) -> Placement:
    """The placement of this name as it works with a model; see ``Model.locates_in_scene``."""
    placement = PLACEMENTS[name]
    if placement.posed or not locates_in_scene:
        return placement
    return replace(placement, mixes_target_pixels=False, description=SAME)
