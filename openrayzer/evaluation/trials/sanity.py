"""The sanity battery: small changes of a clip that distinguish true poses from shortcuts.

A shortcut is a pose that depends on pixels or on the position of a view in the list, instead of the geometry.

Most changes keep the content of the views. A model with true poses then keeps its poses, up to a change of frame and
scale, and its renders. One change replaces the target's pose, so the renders must get worse.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.evaluation.metrics.camera_metrics import direction_errors, relative_centres, rotation_errors
from openrayzer.evaluation.metrics.image_baselines import nearest_contexts
from openrayzer.evaluation.metrics.image_metrics import PERFECT, psnr
from openrayzer.evaluation.placements import PlacedViews, Placement, render_targets
from openrayzer.evaluation.trials.view_changes import rearranged, recoloured, single_clip
from openrayzer.geometry.similarity import similarity_between
from openrayzer.interfaces import Model
from openrayzer.types import Views

TURNED = 5.0
"""Mean change in degrees of the relative rotations of pairs up to which poses count as kept."""

MOVED = 0.05
"""RMS shift of the aligned centres, over the largest distance between two, up to which poses count as kept."""

WORSE = 1.0
"""Loss of PSNR in dB from which on renders count as worse."""

SHORTEST_ORDER = 3
"""Smallest number of views that can be shuffled: two views can only be swapped."""


@dataclass(frozen=True)
class SanityCheck:
    """One change and its meaning.

    Attributes:
        name: name in tables and in metrics.json.
        change: the change.
        true_poses: behaviour of a model with true poses, which passes.
        shortcut: behaviour of a model with a shortcut, which fails.
        poses_stay: True if a model passes by keeping poses (``TURNED``, ``MOVED``) and PSNR (``WORSE``); False if it
            passes by losing ``WORSE`` dB or more.
    """

    name: str
    change: str
    true_poses: str
    shortcut: str
    poses_stay: bool


@dataclass(frozen=True)
class SanityResult:
    """The effect of a change on one clip.

    Attributes:
        check: name of the check.
        scene: name of the scene.
        psnr_change: mean over the targets in dB, after minus before.
        rotation_deg: mean change of the relative rotations of all pairs of views, in degrees.
        direction_deg: mean change, in degrees, of the direction in which the first view of each pair sees the second.
        centre_change: RMS shift of the camera centres after alignment, over the largest distance between two.
        passed: see ``SanityCheck.poses_stay``.
    """

    check: str
    scene: str
    psnr_change: float
    rotation_deg: float
    direction_deg: float
    centre_change: float
    passed: bool


@dataclass(frozen=True)
class _Outcome:
    """Cameras of one clip, and renders of the targets ``targets`` with them."""

    placed: PlacedViews
    images: Float[Tensor, "1 vt 3 h w"]
    targets: tuple[int, ...]


@dataclass(frozen=True)
class _Clip:
    """One clip, the model, and the placement that finds the cameras."""

    model: Model
    placement: Placement
    views: Views

    @property
    def all_targets(self) -> tuple[int, ...]:
        return tuple(range(self.views.target.shape[1]))

    def placed(self, changed: Views) -> PlacedViews:
        """Cameras estimated from a changed clip, without a scene: renders use the unchanged images of the clip."""
        return replace(self.placement(self.model, changed), scene=None)

    def outcome(self, placed: PlacedViews, targets: tuple[int, ...]) -> _Outcome:
        """Renders with ``placed``, of the scene of the unchanged clip."""
        return _Outcome(placed, render_targets(self.model, self.views, placed), targets)


@torch.no_grad()
def sanity_battery(model: Model, views: Views, *, placement: Placement) -> list[SanityResult]:
    """The results of all checks that apply, clip by clip; ``left_out`` names the others.

    Raises:
        InputError: the placement does not fit the model.
        UnposedInputError: the model needs poses or intrinsics, and ``views`` have no cameras.
    """
    results = []
    for row in range(len(views.scenes)):
        clip = _Clip(model, placement, single_clip(views, row))
        skipped = left_out(clip.views, placement=placement)
        before = clip.outcome(placement(model, clip.views), clip.all_targets)
        for name, check in CHECKS.items():
            if name not in skipped:
                results.append(_compared(check, clip.views, before, _CHANGES[name](clip, before)))
    return results


def left_out(views: Views, *, placement: Placement) -> dict[str, str]:
    """Checks that do not apply to some clip of a batch, each with the reason."""
    clips = [single_clip(views, row) for row in range(len(views.scenes))]
    reasons = {}
    if any(len(_without_every_second_target(clip)) == clip.images.shape[1] for clip in clips):
        reasons["dropped_views"] = "needs 2 targets or more that are not context views"
    if views.images.shape[1] < SHORTEST_ORDER:
        reasons["shuffled_order"] = f"needs {SHORTEST_ORDER} views or more"
    if any(bool((clip.context == target).all()) for clip in clips for target in clip.target[0]):
        reasons["nearest_context_pose"] = "needs a context view besides the target"
    if not placement.mixes_target_pixels:
        reasons["dropped_views"] = f"with placement {placement.name!r} no target influences another"
    if placement.posed:
        reasons |= {
            name: "poses are given, so they cannot change" for name, check in CHECKS.items() if check.poses_stay
        }
    return reasons


def _shuffled_order(clip: _Clip, before: _Outcome) -> _Outcome:
    count = clip.views.images.shape[1]
    order = [*range(1, count, 2), *range(0, count, 2)]
    return clip.outcome(clip.placed(rearranged(clip.views, order, clip.all_targets)), clip.all_targets)


def _dropped_views(clip: _Clip, before: _Outcome) -> _Outcome:
    targets = clip.all_targets[::2]
    changed = rearranged(clip.views, _without_every_second_target(clip.views), targets)
    return clip.outcome(clip.placed(changed), targets)


def _repeated_views(clip: _Clip, before: _Outcome) -> _Outcome:
    count, first = clip.views.images.shape[1], int(clip.views.context.min())
    positions = sorted([*range(count), *[first] * (count - 1)])
    changed = rearranged(clip.views, positions, clip.all_targets)
    copies = first + 1 + torch.arange(count - 1, device=changed.context.device)[None]
    placed = clip.placed(replace(changed, context=torch.cat([changed.context, copies], dim=1)))
    kept = torch.arange(changed.context.shape[1], device=changed.context.device)[None]
    once = PlacedViews(placed.context.select(kept), placed.target, placed.index[:, kept[0]])
    return clip.outcome(once, clip.all_targets)


def _nearest_context_pose(clip: _Clip, before: _Outcome) -> _Outcome:
    nearest = before.placed.context.select(nearest_contexts(clip.views, itself=False))
    return clip.outcome(replace(before.placed, target=nearest), clip.all_targets)


def _colour_change(clip: _Clip, before: _Outcome) -> _Outcome:
    changed = replace(clip.views, images=recoloured(clip.views.images))
    return clip.outcome(clip.placed(changed), clip.all_targets)


def _without_every_second_target(views: Views) -> list[int]:
    """Positions of one clip's views without targets 1, 3, 5, ..., unless they are context views."""
    needed = {*views.context[0].tolist(), *views.target[0, ::2].tolist()}
    return sorted(needed)


def _compared(check: SanityCheck, views: Views, before: _Outcome, after: _Outcome) -> SanityResult:
    targets = list(after.targets)
    true = views.target_images[:, targets]
    quality = [_quality(images, true) for images in (before.images[:, targets], after.images)]
    poses, moved = (
        torch.cat([placed.context.c2w, target], dim=1).double()
        for placed, target in (
            (before.placed, before.placed.target.c2w[:, targets]),
            (after.placed, after.placed.target.c2w),
        )
    )
    change = quality[1] - quality[0]
    turned = float(rotation_errors(moved, poses).mean())
    shift = _centre_change(moved, poses)
    stayed = turned <= TURNED and shift <= MOVED and change >= -WORSE
    return SanityResult(
        check=check.name,
        scene=views.scenes[0],
        psnr_change=change,
        rotation_deg=turned,
        direction_deg=_direction_change(moved, poses),
        centre_change=shift,
        passed=stayed if check.poses_stay else change <= -WORSE,
    )


def _quality(images: Float[Tensor, "1 vt 3 h w"], true: Float[Tensor, "1 vt 3 h w"]) -> float:
    return float(psnr(images, true).clamp(max=PERFECT).double().mean())


def _direction_change(moved: Float[Tensor, "1 v 4 4"], poses: Float[Tensor, "1 v 4 4"]) -> float:
    """Mean change of directions in degrees; 0 for two views with equal centres before and after."""
    together = ~(relative_centres(moved) != 0).any(dim=-1) & ~(relative_centres(poses) != 0).any(dim=-1)
    return float(direction_errors(moved, poses).masked_fill(together, 0.0).mean())


def _centre_change(moved: Float[Tensor, "1 v 4 4"], poses: Float[Tensor, "1 v 4 4"]) -> float:
    """RMS shift of the aligned centres; 0 if all centres are equal before and after, infinite if only before."""
    extent, extent_now = (relative_centres(cameras).norm(dim=-1).amax() for cameras in (poses, moved))
    aligned = similarity_between(moved, poses).poses(moved)
    shift = (aligned - poses)[..., :3, 3].square().sum(dim=-1).mean().sqrt()
    together = (extent == 0) & (extent_now == 0) & shift.isfinite()
    return float(torch.where(together, 0.0, shift / extent))


CHECKS: Mapping[str, SanityCheck] = {
    check.name: check
    for check in (
        SanityCheck(
            name="shuffled_order",
            change="The estimator gets the views in another order: the odd ones first, then the even ones.",
            true_poses="Each view keeps its pose.",
            shortcut="Poses that depend on the position of a view in the list change.",
            poses_stay=True,
        ),
        SanityCheck(
            name="dropped_views",
            change="Every second target is left out.",
            true_poses="The poses and renders of the other views stay the same.",
            shortcut="Poses that are fractions of the path through the list change.",
            poses_stay=True,
        ),
        SanityCheck(
            name="repeated_views",
            change="The estimator gets copies of the first context view, so that the number of views nearly doubles.",
            true_poses="Poses and renders stay the same.",
            shortcut="Poses that depend on the position of a view in the list change. So do the poses of a model that "
            "was trained with only one number of views.",
            poses_stay=True,
        ),
        SanityCheck(
            name="nearest_context_pose",
            change="Each target is rendered with the camera of the context view nearest to it in frame number.",
            true_poses=f"Renders lose {WORSE:g} dB or more, because they show the scene from another position.",
            shortcut="The renders of a model that ignores its cameras are as good as before.",
            poses_stay=False,
        ),
        SanityCheck(
            name="colour_change",
            change="Only the estimator gets every second image darker, with more contrast and less saturation.",
            true_poses="Poses and the colours of renders stay the same.",
            shortcut="Poses that contain pixels change, and so do the colours of renders.",
            poses_stay=True,
        ),
    )
}
"""All checks by name."""

_CHANGES: Mapping[str, Callable[[_Clip, _Outcome], _Outcome]] = {
    "shuffled_order": _shuffled_order,
    "dropped_views": _dropped_views,
    "repeated_views": _repeated_views,
    "nearest_context_pose": _nearest_context_pose,
    "colour_change": _colour_change,
}
