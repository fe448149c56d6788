"""Whether a camera path is usable: away from furniture, with views that show the room and overlap."""

import numpy as np
from jaxtyping import Bool, Float

from openrayzer.data.synthetic_rooms.renderer import Hits, trace
from openrayzer.data.synthetic_rooms.surfaces import Surfaces

_CLEARANCE = 0.4
"""Smallest distance in metres between the camera and furniture or walls."""
_GRID = 12
"""Rows and columns of rays of a check."""
_DEPTH = 1.2
"""Smallest median depth of a view in metres."""
_NEAREST = 0.3
"""Smallest depth in metres that a check may meet."""
_SURFACES = 8
"""Smallest number of surfaces in a view, so that no view shows a blank wall."""
_GAP = 9
"""Distance in frames of the views that must overlap; the demos draw their views from windows of this length."""
_OVERLAP = 0.35
"""Smallest share of the points of a view that lie inside the other view."""


def is_free(
    positions: Float[np.ndarray, "f 3"], room_size: Float[np.ndarray, " 3"], obstacles: Float[np.ndarray, "o 2 3"]
) -> bool:
    """Whether all positions keep clear of the walls and of the boxes ``obstacles`` (lowest, highest corner)."""
    margin = np.array([_CLEARANCE, _CLEARANCE, 0.3])
    if (positions < margin).any() or (positions > room_size - margin).any():
        return False
    low, high = obstacles[:, 0] - margin, obstacles[:, 1] + margin
    inside = (positions[:, None] > low) & (positions[:, None] < high)
    return not inside.all(axis=-1).any()


def shows_the_room(poses: Float[np.ndarray, "f 4 4"], surfaces: Surfaces, intrinsics: Float[np.ndarray, " 4"]) -> bool:
    """Whether views along the path show several surfaces at a distance, and views nine frames apart overlap."""
    gap = min(_GAP, len(poses) - 1)
    firsts = np.unique(np.linspace(0, len(poses) - 1 - gap, 3).round().astype(int))
    for first in firsts:
        pair = poses[first], poses[first + gap]
        hits = []
        for pose in pair:
            found = trace(surfaces, pose, intrinsics, size=(_GRID, _GRID))
            if not _is_a_view(found):
                return False
            hits.append(found)
        if (
            min(
                _inside(hits[0], pair[0], pair[1], intrinsics).mean(),
                _inside(hits[1], pair[1], pair[0], intrinsics).mean(),
            )
            < _OVERLAP
        ):
            return False
    return True


def _is_a_view(hits: Hits) -> bool:
    return (
        float(np.median(hits.inverse_depth)) < 1 / _DEPTH
        and float(hits.inverse_depth.max()) < 1 / _NEAREST
        and len(np.unique(hits.surface)) >= _SURFACES
    )


def _inside(
    hits: Hits, pose: np.ndarray, other: np.ndarray, intrinsics: Float[np.ndarray, " 4"]
) -> Bool[np.ndarray, "h w"]:
    """Whether each point that a view sees lies in front of another camera and inside its picture."""
    steps = (np.arange(_GRID) + 0.5) / _GRID
    x, y = np.meshgrid((steps - intrinsics[2]) / intrinsics[0], (steps - intrinsics[3]) / intrinsics[1])
    rays = np.stack([x, y, np.ones_like(x)], axis=-1)
    points = rays / np.maximum(hits.inverse_depth, 1e-6)[..., None] @ pose[:3, :3].T + pose[:3, 3]
    local = (points - other[:3, 3]) @ other[:3, :3]
    at = local[..., :2] / np.maximum(local[..., 2:], 1e-6) * intrinsics[:2] + intrinsics[2:]
    return (local[..., 2] > 0) & ((at > 0) & (at < 1)).all(axis=-1)
