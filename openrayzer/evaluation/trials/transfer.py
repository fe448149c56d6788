"""Transfer: the cameras of one clip drive the scene of another clip, and an oracle compares the motions.

A model with true poses shows the scene along the path of the driver. A model with poses that mean "this far between
these two context views" shows the scene along its own path. A model with poses that contain pixels shows the colours of
the driver.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.evaluation.metrics.camera_metrics import direction_errors, rotation_errors
from openrayzer.evaluation.placements import PlacedViews, Placement, known_intrinsics
from openrayzer.geometry.poses import invert
from openrayzer.geometry.precision import product
from openrayzer.interfaces import InputError, Model
from openrayzer.types import Cameras, Views, select_views

ACCURACY_THRESHOLDS = (3, 5, 10, 15, 20, 30)
"""Error in degrees below which a pair of views counts as moved in the same way."""

AREA_THRESHOLDS = (20, 30)
"""Upper ends, in degrees, of the area under the accuracy curve."""

QUANTILES = 64
"""Number of quantiles of each channel by which the colours of two images are compared."""

Oracle = Callable[[Float[Tensor, "b v 3 h w"]], Cameras]
"""Estimates the cameras of some views of a scene, in any frame and scale."""


@dataclass(frozen=True)
class TransferResult:
    """How closely a scene moves like the clip that drives it.

    ``trajectory_error`` is the mean absolute difference of the coordinates of the camera centres, in the frame of the
    middle target of each motion, after one scale factor for all of them. Its unit is that of the driver's motion.
    ``rotation@t`` and ``translation@t`` are the shares of pairs of targets with an error below t degrees, in the
    relative rotation and in the direction of the translation (folded). ``auc@t`` is the area under the accuracy curve
    of the larger of both errors. ``like_scene`` is the share of renders with colours nearer to an image of the scene
    than to all images of the driver; a model that returns the images of the driver fails only there.

    Attributes:
        driver: name of the clip that gives the cameras.
        scene: name of the rendered clip.
        metrics: scores of the renders.
        undriven: the same scores, without ``like_scene``, of the scene's own targets: the result without any transfer.
    """

    driver: str
    scene: str
    metrics: dict[str, float]
    undriven: dict[str, float]


@torch.no_grad()
def transfer(
    model: Model, drivers: Views, scenes: Views, *, placement: Placement, oracle: Oracle | None = None
) -> list[TransferResult]:
    """Each clip of ``drivers`` drives the clip of ``scenes`` at the same position in the batch.

    Args:
        model: renders the scenes.
        drivers: clips with 2 targets or more.
        scenes: the same number of clips, with the same number of targets.
        placement: finds the cameras of both.
        oracle: estimates the motion; None for the model. A model that reads poses from the order of the views estimates
            the same motion in all clips; then ``undriven`` is as good as ``metrics``.

    Raises:
        InputError: the batches do not fit each other, or the model is posed and there is no oracle.
        UnposedInputError: the model needs poses or intrinsics, and the clips have no cameras.

    Source: XFactor, True Self-Supervised Novel View Synthesis is Transferable: an oracle compares the relative poses of
    the driver's targets and of the renders.
    """
    _check(model, drivers, scenes, oracle)
    see = partial(_motion, model, oracle)
    renders, cameras = transferred_views(model, drivers, scenes, placement=placement)
    renders = renders.float().clamp(0, 1)
    wanted = see(drivers.target_images, _target_lens(model, drivers))
    driven = _alike(see(renders, cameras.intrinsics), wanted)
    for scores, share in zip(driven, _like_scene(renders, drivers, scenes), strict=True):
        scores["like_scene"] = share
    undriven = _alike(see(scenes.target_images, _target_lens(model, scenes)), wanted)
    rows = zip(drivers.scenes, scenes.scenes, driven, undriven, strict=True)
    return [TransferResult(*row) for row in rows]


def transferred_views(
    model: Model, drivers: Views, scenes: Views, *, placement: Placement
) -> tuple[Float[Tensor, "b vt 3 h w"], Cameras]:
    """The scenes rendered with the target cameras of the drivers, and those cameras in the frames of the scenes.

    The pose of a camera relative to the middle context view is the same in both clips, in the model's own scale. The
    intrinsics are those of the scene.
    """
    driver, scene = placement(model, drivers), placement(model, scenes)
    driver_middle, scene_middle = _middle(driver, drivers), _middle(scene, scenes)
    motion = product(invert(driver_middle.c2w), driver.target.c2w)
    intrinsics = scene_middle.intrinsics.expand(-1, driver.target.num_views, -1)
    cameras = Cameras(product(scene_middle.c2w, motion), intrinsics)
    return model.render(scene.scene_of(model, scenes), cameras), cameras


def _middle(placed: PlacedViews, views: Views) -> Cameras:
    """The camera of the context view in the middle of the view axis, (b, 1)."""
    order = views.context.argsort(dim=1, stable=True)
    return placed.context.select(order[:, order.shape[1] // 2][:, None])


def _motion(
    model: Model,
    oracle: Oracle | None,
    images: Float[Tensor, "b v 3 h w"],
    intrinsics: Float[Tensor, "b v 4"] | None,
) -> Float[Tensor, "b v 4 4"]:
    """Poses that the oracle, or else the model, estimates from images."""
    if oracle is not None:
        return oracle(images).c2w.double()
    return model.estimate(images, intrinsics if model.needs_intrinsics else None).c2w.double()


def _target_lens(model: Model, views: Views) -> Float[Tensor, "b vt 4"] | None:
    intrinsics = known_intrinsics(model, views)
    return None if intrinsics is None else select_views(intrinsics, views.target)


def _alike(motion: Float[Tensor, "b v 4 4"], wanted: Float[Tensor, "b v 4 4"]) -> list[dict[str, float]]:
    """Scores of each clip: the agreement of two sets of poses."""
    rotation, direction = rotation_errors(motion, wanted), direction_errors(motion, wanted)
    direction = torch.minimum(direction, 180 - direction)
    paths = trajectory_errors(motion, wanted).tolist()
    rows = zip(rotation, direction, paths, strict=True)
    return [_scores(*errors) | {"trajectory_error": path} for *errors, path in rows]


def trajectory_errors(motion: Float[Tensor, "b v 4 4"], wanted: Float[Tensor, "b v 4 4"]) -> Float[Tensor, " b"]:
    """Mean absolute difference of camera centres, relative to the middle view, after the best scale of ``motion``.

    Source: XFactor's scale-invariant trajectory error: frame 0 is the middle one, the scale is <t, p> / <p, p>, and
    there is no further alignment.
    """
    own, true = (_centres_from_the_middle(poses) for poses in (motion, wanted))
    squares = (own * own).sum(dim=(1, 2), keepdim=True)
    scale = (own * true).sum(dim=(1, 2), keepdim=True) / squares.clamp(min=1e-12)  # a motionless prediction stays
    return (scale * own - true).abs().mean(dim=(1, 2))


def _centres_from_the_middle(poses: Float[Tensor, "b v 4 4"]) -> Float[Tensor, "b v 3"]:
    middle = poses.shape[1] // 2
    return product(invert(poses[:, middle : middle + 1]), poses)[..., :3, 3]


def _scores(rotation: Float[Tensor, " pairs"], direction: Float[Tensor, " pairs"]) -> dict[str, float]:
    named = {"rotation": rotation, "translation": direction}
    shares = {
        f"{name}@{limit}": float((errors < limit).double().mean())
        for name, errors in named.items()
        for limit in ACCURACY_THRESHOLDS
    }
    both = torch.maximum(rotation, direction)
    return shares | {f"auc@{limit}": histogram_area(both, limit) for limit in AREA_THRESHOLDS}


def histogram_area(errors: Float[Tensor, " pairs"], limit: int) -> float:
    """Mean of the cumulative shares of a histogram with ``limit`` + 1 equal bins from 0 to ``limit``.

    ``camera_metrics.accuracy_area`` has steps of whole degrees; the two differ by at most 1 / (``limit`` + 1).

    Source: the published figures of XFactor are computed so, with 31 bins up to 30 degrees.
    """
    counts = torch.histc(errors.nan_to_num(nan=180.0), bins=limit + 1, min=0, max=limit)
    return float((counts.cumsum(dim=0) / errors.numel()).mean())


def _like_scene(renders: Float[Tensor, "b vt 3 h w"], drivers: Views, scenes: Views) -> list[float]:
    """Share of the renders of each clip with colours nearer to an image of the scene than to all of the driver."""
    colours = _colours(renders)
    scene, driver = (
        torch.cdist(colours, _colours(clips.images), p=1).amin(dim=2) for clips in (scenes, drivers)
    )  # (b, vt)
    return (scene < driver).double().mean(dim=1).tolist()


def _colours(images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v quantiles"]:
    """Quantiles of each channel, which hardly change when the camera moves.

    The mean difference of the quantiles of two images is the Wasserstein distance of their colours.
    """
    values = images.float().flatten(3).sort(dim=3).values
    positions = torch.linspace(0, values.shape[3] - 1, QUANTILES, device=values.device).round().long()
    return values[..., positions].flatten(2)


def _check(model: Model, drivers: Views, scenes: Views, oracle: Oracle | None) -> None:
    if model.posed and oracle is None:
        raise InputError(f"{type(model).__name__} estimates no cameras and cannot judge the motion; give an oracle")
    if drivers.target.shape != scenes.target.shape or drivers.target.shape[1] < 2:
        raise InputError(
            "a transfer needs as many scenes as drivers, with equal numbers of targets, 2 or more: got "
            f"{tuple(drivers.target.shape)} and {tuple(scenes.target.shape)} (clips, targets)"
        )
    if drivers.images.shape[2:] != scenes.images.shape[2:]:
        raise InputError(
            f"a transfer needs images of one size: got {tuple(drivers.images.shape[3:])} and "
            f"{tuple(scenes.images.shape[3:])}"
        )
