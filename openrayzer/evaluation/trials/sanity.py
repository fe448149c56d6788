"""A battery of small changes that tell true poses from shortcuts, clip by clip.

Most changes take nothing from what a view shows, so true poses stay where they are, up to the frame and scale that the
model is free to choose, and so do the renders. One takes the target's pose away, so the renders must get worse.
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
"""Degrees by which the relative rotations of pairs may change on average and still have stayed."""

MOVED = 0.05
"""Root mean square way of the centres, aligned, over the largest distance between two; more have not stayed."""

WORSE = 1.0
"""dB of PSNR that count as a loss."""

SHORTEST_ORDER = 3
"""Views below which an order can only be turned round."""


@dataclass(frozen=True)
class SanityCheck:
    """One change and what it tells.

    Attributes:
        name: as it is written beside every number.
        change: what is changed.
        true_poses: what a model with true poses does, which is to pass.
        shortcut: what fails.
        poses_stay: whether to pass is to keep poses (``TURNED``, ``MOVED``) and PSNR (``WORSE``), or to lose ``WORSE``
            dB or more.
    """

    name: str
    change: str
    true_poses: str
    shortcut: str
    poses_stay: bool


@dataclass(frozen=True)
class SanityResult:
    """What a change did to one clip.

    Attributes:
        check: name of the check.
        scene: name of the clip's scene.
        psnr_change: mean over the targets in dB, after less before.
        rotation_deg: mean change of the relative rotations of all pairs of views.
        direction_deg: mean change of the direction in which the first view of each pair sees the second.
        centre_change: root mean square way of the centres after alignment, over the largest distance between two.
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
    """Cameras of one clip's contexts and of some of its targets, and these as they are rendered with them."""

    placed: PlacedViews
    images: Float[Tensor, "1 vt 3 h w"]
    targets: tuple[int, ...]


@dataclass(frozen=True)
class _Clip:
    """One clip, and how cameras are found."""

    model: Model
    placement: Placement
    views: Views

    @property
    def all_targets(self) -> tuple[int, ...]:
        return tuple(range(self.views.target.shape[1]))

    def placed(self, views: Views) -> PlacedViews:
        return self.placement(self.model, views)

    def outcome(self, placed: PlacedViews, targets: tuple[int, ...]) -> _Outcome:
        """The scene is made of the clip's own images, whatever the cameras were found from."""
        return _Outcome(placed, render_targets(self.model, self.views, placed), targets)


@torch.no_grad()
def sanity_battery(model: Model, views: Views, *, placement: Placement) -> list[SanityResult]:
    """Every check that means something, on every clip by itself; see ``left_out`` for the others.

    Raises:
        InputError: the placement is not for such models.
        UnposedInputError: the model needs poses or intrinsics and ``views`` come without cameras.
    """
    results = []
    for row in range(len(views.scenes)):
        clip = _Clip(model, placement, single_clip(views, row))
        skipped = left_out(clip.views, placement=placement)
        before = clip.outcome(clip.placed(clip.views), clip.all_targets)
        for name, check in CHECKS.items():
            if name not in skipped:
                results.append(_compared(check, clip.views, before, _CHANGES[name](clip, before)))
    return results


def left_out(views: Views, *, placement: Placement) -> dict[str, str]:
    """Checks that would say nothing about some clip of a batch, with the reason."""
    clips = [single_clip(views, row) for row in range(len(views.scenes))]
    reasons = {}
    if any(len(_without_every_second_target(clip)) == clip.images.shape[1] for clip in clips):
        reasons["dropped_views"] = "needs 2 targets or more that are no contexts"
    if views.images.shape[1] < SHORTEST_ORDER:
        reasons["shuffled_order"] = f"needs {SHORTEST_ORDER} views or more"
    if any(bool((clip.context == target).all()) for clip in clips for target in clip.target[0]):
        reasons["nearest_context_pose"] = "needs a context view besides the target"
    if not placement.mixes_target_pixels:
        reasons["dropped_views"] = f"with placement {placement.name!r} targets never meet, so none can miss another"
    if placement.posed:
        reasons |= {name: "poses are given and cannot move" for name, check in CHECKS.items() if check.poses_stay}
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
    again = count - 1
    places = sorted([*range(count), *[first] * again])
    changed = rearranged(clip.views, places, clip.all_targets)
    copies = first + 1 + torch.arange(again, device=changed.context.device)[None]
    placed = clip.placed(replace(changed, context=torch.cat([changed.context, copies], dim=1)))
    kept = torch.arange(changed.context.shape[1], device=changed.context.device)[None]
    once = PlacedViews(placed.context.select(kept), placed.target, placed.index[:, kept[0]])
    return clip.outcome(once, clip.all_targets)


def _nearest_context_pose(clip: _Clip, before: _Outcome) -> _Outcome:
    context = before.placed.context
    nearest = context.select(nearest_contexts(clip.views, itself=False))
    return clip.outcome(PlacedViews(context, nearest, before.placed.index), clip.all_targets)


def _colour_change(clip: _Clip, before: _Outcome) -> _Outcome:
    changed = replace(clip.views, images=recoloured(clip.views.images))
    return clip.outcome(clip.placed(changed), clip.all_targets)


def _without_every_second_target(views: Views) -> list[int]:
    """Places of one clip's views but for targets 1, 3, 5, ..., as far as they are no contexts."""
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
    way = _centre_change(moved, poses)
    stayed = turned <= TURNED and way <= MOVED and change >= -WORSE
    return SanityResult(
        check=check.name,
        scene=views.scenes[0],
        psnr_change=change,
        rotation_deg=turned,
        direction_deg=_direction_change(moved, poses),
        centre_change=way,
        passed=stayed if check.poses_stay else change <= -WORSE,
    )


def _quality(images: Float[Tensor, "1 vt 3 h w"], true: Float[Tensor, "1 vt 3 h w"]) -> float:
    return float(psnr(images, true).clamp(max=PERFECT).double().mean())


def _direction_change(moved: Float[Tensor, "1 v 4 4"], poses: Float[Tensor, "1 v 4 4"]) -> float:
    """Two views that share a centre before and after have not moved."""
    together = ~(relative_centres(moved) != 0).any(dim=-1) & ~(relative_centres(poses) != 0).any(dim=-1)
    return float(direction_errors(moved, poses).masked_fill(together, 0.0).mean())


def _centre_change(moved: Float[Tensor, "1 v 4 4"], poses: Float[Tensor, "1 v 4 4"]) -> float:
    """0 where all views share a centre before and after; infinite where they share one before only."""
    extent, extent_now = (relative_centres(cameras).norm(dim=-1).amax() for cameras in (poses, moved))
    aligned = similarity_between(moved, poses).poses(moved)
    way = (aligned - poses)[..., :3, 3].square().sum(dim=-1).mean().sqrt()
    together = (extent == 0) & (extent_now == 0) & way.isfinite()
    return float(torch.where(together, 0.0, way / extent))


CHECKS: Mapping[str, SanityCheck] = {
    check.name: check
    for check in (
        SanityCheck(
            name="shuffled_order",
            change="The views go through the estimator in another order: the odd ones first, then the even ones.",
            true_poses="Poses follow their views, and nothing else changes.",
            shortcut="Poses that are read from a view's place in the list move.",
            poses_stay=True,
        ),
        SanityCheck(
            name="dropped_views",
            change="Every second target is left out.",
            true_poses="The other views' poses and renders stay.",
            shortcut="Poses that are shares of the way through the list move.",
            poses_stay=True,
        ),
        SanityCheck(
            name="repeated_views",
            change="The first context view goes through the estimator as often as there are views, one copy behind the "
            "other.",
            true_poses="Poses and renders stay.",
            shortcut="Poses that are read from a view's place in the list move, and so do those of a model that "
            "has only ever seen one number of views.",
            poses_stay=True,
        ),
        SanityCheck(
            name="nearest_context_pose",
            change="Each target is rendered with the camera of the context view nearest to it in frame number.",
            true_poses=f"Renders are worse by {WORSE:g} dB or more, as they are seen from elsewhere.",
            shortcut="A renderer that does not heed its camera is as good as before.",
            poses_stay=False,
        ),
        SanityCheck(
            name="colour_change",
            change="The estimator, and only it, gets every second image darker, of more contrast and paler.",
            true_poses="Poses stay, and so do the renders' colours.",
            shortcut="Poses that carry pixels move, and colours change with them.",
            poses_stay=True,
        ),
    )
}
"""Every check by its name."""

_CHANGES: Mapping[str, Callable[[_Clip, _Outcome], _Outcome]] = {
    "shuffled_order": _shuffled_order,
    "dropped_views": _dropped_views,
    "repeated_views": _repeated_views,
    "nearest_context_pose": _nearest_context_pose,
    "colour_change": _colour_change,
}
