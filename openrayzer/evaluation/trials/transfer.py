"""Transfer: the cameras of one clip drive another clip's scene, and an oracle says whether it moves alike.

A model whose poses are true shows the scene along the driver's path. One whose poses mean "this much between those two
contexts" shows the scene along its own path; one whose poses carry pixels shows the driver's colours.
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

ACCURACY_THRESHOLDS = (10, 20, 30)
"""Degrees below which a pair of views counts as moved alike."""

AREA_THRESHOLDS = (20, 30)
"""Degrees up to which the area under the accuracy curve is taken."""

QUANTILES = 64
"""Of each channel, by which the colours of two images are compared."""

Oracle = Callable[[Float[Tensor, "b v 3 h w"]], Cameras]
"""Cameras of some views of a scene, in any frame and scale."""


@dataclass(frozen=True)
class TransferResult:
    """How alike one scene moves when another clip's cameras drive it.

    ``rotation@t`` and ``translation@t``: share of pairs of targets whose relative rotation, or direction of translation
    (folded), is less than t degrees off that of the driver. ``auc@t``: of the larger of the two errors.
    ``like_scene``: share of renders whose colours are nearer to those of an image of the scene than to all of the
    driver; whoever returns the driver's own images gets the other numbers right and this one wrong.

    Attributes:
        driver: name of the clip whose cameras are used.
        scene: name of the clip that is rendered.
        metrics: of the renders.
        undriven: the same of the scene's own targets, without ``like_scene``: what is right without any transfer.
    """

    driver: str
    scene: str
    metrics: dict[str, float]
    undriven: dict[str, float]


@torch.no_grad()
def transfer(
    model: Model, drivers: Views, scenes: Views, *, placement: Placement, oracle: Oracle | None = None
) -> list[TransferResult]:
    """Each clip of ``drivers`` drives the clip of ``scenes`` at the same place of the batch.

    Args:
        model: renders.
        drivers: clips with 2 targets or more.
        scenes: as many clips, with as many targets.
        placement: how the cameras of both are found.
        oracle: judges the motion; the model itself by default. One that counts views sees the same motion in all clips
            and deceives itself: then ``undriven`` is as good as ``metrics``.

    Raises:
        InputError: the batches do not fit each other, or the model is posed and there is no oracle.
        UnposedInputError: the model needs poses or intrinsics that are not there.

    Source: XFactor, True Self-Supervised Novel View Synthesis is Transferable: relative poses of the driver's targets
    against those of the renders, by an oracle.
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
    """The scenes rendered with the drivers' targets' cameras, and those cameras in the scenes' frames.

    A camera is carried over by its pose relative to the middle context view, in the model's own scale; the lens is that
    of the scene.
    """
    driver, scene = placement(model, drivers), placement(model, scenes)
    driver_middle, scene_middle = _middle(driver, drivers), _middle(scene, scenes)
    motion = product(invert(driver_middle.c2w), driver.target.c2w)
    intrinsics = scene_middle.intrinsics.expand(-1, driver.target.num_views, -1)
    cameras = Cameras(product(scene_middle.c2w, motion), intrinsics)
    memory = model.reconstruct(scenes.context_images, scene.context, scene.index)
    return model.render(memory, cameras), cameras


def _middle(placed: PlacedViews, views: Views) -> Cameras:
    """The context camera in the middle of the view axis, one view."""
    order = views.context.argsort(dim=1, stable=True)
    return placed.context.select(order[:, order.shape[1] // 2][:, None])


def _motion(
    model: Model,
    oracle: Oracle | None,
    images: Float[Tensor, "b v 3 h w"],
    intrinsics: Float[Tensor, "b v 4"] | None,
) -> Float[Tensor, "b v 4 4"]:
    """Poses as the oracle sees them."""
    if oracle is not None:
        return oracle(images).c2w.double()
    return model.estimate(images, intrinsics if model.needs_intrinsics else None).c2w.double()


def _target_lens(model: Model, views: Views) -> Float[Tensor, "b vt 4"] | None:
    intrinsics = known_intrinsics(model, views)
    return None if intrinsics is None else select_views(intrinsics, views.target)


def _alike(motion: Float[Tensor, "b v 4 4"], wanted: Float[Tensor, "b v 4 4"]) -> list[dict[str, float]]:
    """Scores of each clip."""
    rotation, direction = rotation_errors(motion, wanted), direction_errors(motion, wanted)
    direction = torch.minimum(direction, 180 - direction)
    return [_scores(*errors) for errors in zip(rotation, direction, strict=True)]


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

    It differs from ``camera_metrics.accuracy_area``, whose steps are whole degrees, by at most 1 / (``limit`` + 1),
    in either direction.

    Source: XFactor's published figures are of this kind (31 bins up to 30 degrees).
    """
    counts = torch.histc(errors.nan_to_num(nan=180.0), bins=limit + 1, min=0, max=limit)
    return float((counts.cumsum(dim=0) / errors.numel()).mean())


def _like_scene(renders: Float[Tensor, "b vt 3 h w"], drivers: Views, scenes: Views) -> list[float]:
    """Share of each clip's renders whose colours are nearer to an image of the scene than to all of the driver."""
    colours = _colours(renders)
    scene, driver = (
        torch.cdist(colours, _colours(clips.images), p=1).amin(dim=2) for clips in (scenes, drivers)
    )  # (b, vt)
    return (scene < driver).double().mean(dim=1).tolist()


def _colours(images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v quantiles"]:
    """Quantiles of each channel, which stay alike when the camera moves; mean differences are Wasserstein distances."""
    values = images.float().flatten(3).sort(dim=3).values
    places = torch.linspace(0, values.shape[3] - 1, QUANTILES, device=values.device).round().long()
    return values[..., places].flatten(2)


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
