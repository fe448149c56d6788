"""The cameras of one scene: their pose metrics beside the baselines, and the numbers that reports plot."""

import math
from collections.abc import Mapping
from typing import Any

from openrayzer.evaluation.metrics.camera_baselines import CAMERA_BASELINES
from openrayzer.evaluation.metrics.camera_metrics import pose_metrics
from openrayzer.geometry.similarity import Similarity, similarity_between
from openrayzer.types import Cameras, Views

_DIGITS = 6  # significant digits of written cameras, enough for plots


def judged_poses(estimated: Mapping[str, Cameras], true: Cameras, baselines: Mapping[str, Cameras]) -> dict[str, Any]:
    """Method -> pose metric -> value of one scene: the placements, then the baselines.

    Args:
        estimated: cameras of the scene (1, v) by placement. All metrics of cameras that are not finite are NaN.
        true: the true cameras.
        baselines: ``camera_baselines`` of the same views.
    """
    return {name: pose_row(cameras, true) for name, cameras in {**estimated, **baselines}.items()}


def pose_row(cameras: Cameras, true: Cameras) -> dict[str, float]:
    """The pose metrics of one method on one scene; all are NaN if a camera is not finite."""
    metrics = pose_metrics(cameras, true)
    return metrics if is_finite(cameras) else dict.fromkeys(metrics, math.nan)


def camera_baselines(views: Views) -> dict[str, Cameras]:
    """The cameras of all baselines for the views of a batch."""
    return {name: baseline(views) for name, baseline in CAMERA_BASELINES.items()}


def is_finite(cameras: Cameras) -> bool:
    """Whether all numbers of the cameras are finite."""
    return bool(cameras.c2w.isfinite().all() and cameras.intrinsics.isfinite().all())


def alignment(cameras: Cameras, true: Cameras | None) -> Similarity | None:
    """The similarity to the true cameras of the same views; None without true cameras, and for broken cameras."""
    return None if true is None or not is_finite(cameras) else similarity_between(cameras.c2w, true.c2w)


def written_cameras(estimated: Mapping[str, Cameras], true: Cameras | None, frames: list[int]) -> dict[str, Any]:
    """The cameras of one scene as plain numbers; a similarity aligns estimated cameras with the true ones, if any."""
    written: dict[str, Any] = {"frames": frames, "true": None if true is None else _plain(true)}
    for name, cameras in estimated.items():
        if not is_finite(cameras):
            written[name] = None
        else:
            similarity = alignment(cameras, true)
            placed = cameras if similarity is None else similarity.cameras(cameras)
            written[name] = _plain(placed) | {"aligned": similarity is not None}
    return written


def _plain(cameras: Cameras) -> dict[str, Any]:
    return {"c2w": _rounded(cameras.c2w[0].tolist()), "intrinsics": _rounded(cameras.intrinsics[0].tolist())}


def _rounded(value: Any) -> Any:
    return [_rounded(item) for item in value] if isinstance(value, list) else float(f"{value:.{_DIGITS}g}")
