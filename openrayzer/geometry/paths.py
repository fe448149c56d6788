"""Camera paths for videos: interpolation through views, orbit, wobble, spiral.

Each function takes the cameras of some views and returns ``num_frames`` cameras for each batch element, in float32, or
float64 if the input is float64. A closed path does not repeat its first camera, so a video of it loops smoothly.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from openrayzer.geometry.focus import camera_distance, extent_of, look_at, mean_up, pivot_of
from openrayzer.geometry.poses import invert, mean_pose
from openrayzer.geometry.precision import full_precision, product, transform
from openrayzer.geometry.rotations import pose_from, rotation_from_6d, so3_exp, so3_log
from openrayzer.types import Cameras

Pace = Literal["views", "speed"]

_SAMPLES = 64
"""Points per segment for the measurement of a curve's length."""

SPIRAL_QUANTILE = 0.9
"""Share of the views inside the spiral, for each axis separately."""

LONE_SHARE = 0.1
"""Radius of a spiral if all centres are equal, as a share of the distance to the pivot."""


def interpolate_path(cameras: Cameras, num_frames: int, *, loop: bool = False, pace: Pace = "views") -> Cameras:
    """A smooth path through all views in order, with continuous linear and angular velocity.

    Centres follow cubic Hermite curves, and rotations follow the corresponding curves on SO(3). The velocity at a view
    is the mean of the steps before and after it, shortened to the shorter of the two; so the curve does not overshoot.
    Between views with equal centres, the centre does not move. Intrinsics change linearly. If there is one view, all
    frames show it.

    Args:
        cameras: cameras of the views.
        num_frames: number of frames, 1 or more.
        loop: True for a closed path that goes to the last view and back through the same views.
        pace: "views" spaces the views evenly in time; the path passes exactly through each view if the number of steps
            is a multiple of the number of gaps between views. "speed" makes all steps equally long by
            ``camera_distance``.

    Raises:
        ValueError: ``num_frames`` is below 1.

    Source: Kim, Kim and Shin 1995, "A General Construction Scheme for Unit Quaternion Curves with Simple High Order
    Derivatives", section 4.
    """
    _check(num_frames)
    stops = list(range(cameras.num_views))
    if loop:
        stops += stops[-2:0:-1]
    stops = stops if len(stops) > 1 else stops * 2
    closed = loop and len(stops) > 1
    curve = _Curve.through(Cameras(cameras.c2w[:, stops], cameras.intrinsics[:, stops]), closed=closed)
    share = _shares(num_frames, closed=closed).to(curve.centre)
    position = (share * curve.num_segments).expand(curve.centre.shape[0], -1)
    return curve.at(position if pace == "views" else curve.at_equal_steps(share))


def orbit_path(cameras: Cameras, num_frames: int, *, arc: float = math.tau, loop: bool = False) -> Cameras:
    """A horizontal circle around the pivot of the views; all cameras look at the pivot.

    The axis of the circle is the mean upward direction of the views. The radius and the height are means over the
    views. A full circle is closed and starts at the angle of the middle view. A shorter arc is centred on this angle.

    Args:
        cameras: cameras of the views.
        num_frames: number of frames, 1 or more.
        arc: angle of the arc in radians, above 0 and at most a full circle.
        loop: True makes a shorter arc swing to both sides and back to its centre, as a closed path.

    Raises:
        ValueError: ``num_frames`` or ``arc`` is out of range.
    """
    _check(num_frames)
    if not 0 < arc <= math.tau:
        raise ValueError(f"arc must be above 0 and at most a full circle, got {math.degrees(arc):g} degrees")
    c2w = full_precision(cameras.c2w)
    up, pivot = mean_up(c2w), pivot_of(c2w)
    offset = c2w[..., :3, 3] - pivot[:, None]  # (b, v, 3)
    height = (offset * up[:, None]).sum(-1, keepdim=True)
    radius = (offset - height * up[:, None]).norm(dim=-1).mean(dim=1)
    middle = F.normalize(offset[:, cameras.num_views // 2], dim=-1)
    axis, ahead, aside = rotation_from_6d(torch.cat([up, middle], dim=-1)).unbind(-1)  # each (b, 3)
    if arc == math.tau:
        angle = arc * _shares(num_frames, closed=True)
    elif loop:
        angle = arc / 2 * torch.sin(math.tau * _shares(num_frames, closed=True))
    else:
        angle = arc * (_shares(num_frames, closed=False) - 0.5) if num_frames > 1 else torch.zeros(1)
    angle = angle.to(c2w)[None, :, None]
    circle = angle.cos() * ahead[:, None] + angle.sin() * aside[:, None]
    centre = pivot[:, None] + height.mean(dim=1, keepdim=True) * axis[:, None] + radius[:, None, None] * circle
    return _with_mean_intrinsics(look_at(centre, pivot[:, None], up[:, None]), cameras)


def wobble_path(cameras: Cameras, num_frames: int, *, share: float = 0.1, turns: int = 1) -> Cameras:
    """Small circles around the middle view, parallel to its image plane; all cameras look at one point on its axis.

    Args:
        cameras: cameras of the views.
        num_frames: number of frames, 1 or more.
        share: radius, as a share of the largest distance between two views. If all centres are equal, it is a share
            of the distance to the pivot.
        turns: number of circles; the path is closed.

    Raises:
        ValueError: ``num_frames`` is below 1.
    """
    _check(num_frames)
    c2w = full_precision(cameras.c2w)
    middle = c2w[:, cameras.num_views // 2]
    depth = _depth(c2w, middle)
    centres = c2w[..., :3, 3]
    baseline = (centres[:, :, None] - centres[:, None]).norm(dim=-1).amax(dim=(1, 2))
    radius = share * torch.where(baseline > 0, baseline, depth)
    angle = (math.tau * turns * _shares(num_frames, closed=True)).to(c2w)
    circle = torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)], dim=-1)
    return _with_mean_intrinsics(_around(middle, radius[:, None, None] * circle, depth), cameras)


def spiral_path(cameras: Cameras, num_frames: int, *, share: float = 1.0, turns: int = 2) -> Cameras:
    """LLFF's spiral: circles around the mean camera with one forward and backward movement.

    In the axes of the mean camera the centre is (r_x cos a, r_y sin a, r_z sin(a / turns)). All cameras look at one
    point on the axis of the mean camera, at the depth of the pivot.

    Args:
        cameras: cameras of the views.
        num_frames: number of frames, 1 or more.
        share: factor of the radii r. With 1, the radius along each axis is the ``SPIRAL_QUANTILE`` quantile of the
            distances of the centres from the mean camera along this axis. If all centres are equal, it is
            ``LONE_SHARE`` times the distance to the pivot.
        turns: number of circles; the path is closed.

    Raises:
        ValueError: ``num_frames`` is below 1.

    Source: the render path in the code of Mildenhall et al. 2019, "Local Light Field Fusion".
    """
    _check(num_frames)
    c2w = full_precision(cameras.c2w)
    mean = mean_pose(c2w)[:, 0]
    depth = _depth(c2w, mean)
    offset = transform(invert(mean)[:, None, :3, :3], c2w[..., :3, 3] - mean[:, None, :3, 3])
    radii = torch.quantile(offset.abs(), SPIRAL_QUANTILE, dim=1)  # (b, 3)
    alone = extent_of(c2w) == 0
    radii = share * torch.where(alone[:, None], LONE_SHARE * depth[:, None], radii)
    angle = (math.tau * turns * _shares(num_frames, closed=True)).to(c2w)
    circle = torch.stack([angle.cos(), angle.sin(), (angle / turns).sin()], dim=-1)
    return _with_mean_intrinsics(_around(mean, radii[:, None] * circle, depth), cameras)


@dataclass(frozen=True)
class _Curve:
    """A curve through cameras. Segment i leads from camera i to camera i + 1; a closed curve ends at camera 0.

    Attributes:
        rotation: rotation at the start of each segment.
        centre: centre at the start of each segment.
        intrinsics: intrinsics at the start of each segment.
        step: change of the centre over each segment.
        change: change of the intrinsics over each segment.
        angular_velocity: at the start and at the end of each segment, per segment, in the frame of the camera.
        velocity: of the centre, at the start and at the end of each segment, per segment.
        rotation_between: second of the three factors of the cubic curve on SO(3), as axis times angle.
        extent: extent of the cameras, for distances.
    """

    rotation: Float[Tensor, "b s 3 3"]
    centre: Float[Tensor, "b s 3"]
    intrinsics: Float[Tensor, "b s 4"]
    step: Float[Tensor, "b s 3"]
    change: Float[Tensor, "b s 4"]
    angular_velocity: tuple[Float[Tensor, "b s 3"], Float[Tensor, "b s 3"]]
    velocity: tuple[Float[Tensor, "b s 3"], Float[Tensor, "b s 3"]]
    rotation_between: Float[Tensor, "b s 3"]
    extent: Float[Tensor, " b"]

    @property
    def num_segments(self) -> int:
        return self.centre.shape[1]

    @classmethod
    def through(cls, cameras: Cameras, *, closed: bool) -> "_Curve":
        c2w, intrinsics = full_precision(cameras.c2w), full_precision(cameras.intrinsics)
        start = slice(None) if closed else slice(-1)
        after, other = c2w.roll(-1, dims=1)[:, start], intrinsics.roll(-1, dims=1)[:, start]
        extent, c2w, intrinsics = extent_of(c2w), c2w[:, start], intrinsics[:, start]
        rotation, centre = c2w[..., :3, :3], c2w[..., :3, 3]
        step = after[..., :3, 3] - centre
        between = product(rotation.mT, after[..., :3, :3])
        angular, linear = _velocities(so3_log(between), closed=closed), _velocities(step, closed=closed)
        first, last = so3_exp(angular[0] / 3), so3_exp(angular[1] / 3)
        rotation_between = so3_log(product(product(first.mT, between), last.mT))
        return cls(rotation, centre, intrinsics, step, other - intrinsics, angular, linear, rotation_between, extent)

    def at(self, position: Float[Tensor, "b f"]) -> Cameras:
        """Cameras at positions from 0 to the number of segments, with the cumulative cubic Bernstein basis."""
        segment = position.long().clamp(max=self.num_segments - 1)

        def of(values: Tensor) -> Tensor:
            return values[torch.arange(len(values), device=values.device)[:, None], segment]

        share = (position - segment)[..., None]
        first, second, third = 1 - (1 - share) ** 3, share**2 * (3 - 2 * share), share**3
        start, end = of(self.velocity[0]) / 3, of(self.velocity[1]) / 3
        centre = of(self.centre) + first * start + second * (of(self.step) - start - end) + third * end
        rotation = of(self.rotation)
        factors = (
            (first, self.angular_velocity[0] / 3),
            (second, self.rotation_between),
            (third, self.angular_velocity[1] / 3),
        )
        for weight, omega in factors:
            rotation = product(rotation, so3_exp(weight * of(omega)))
        return Cameras(pose_from(rotation, centre), of(self.intrinsics) + share * of(self.change))

    def at_equal_steps(self, share: Float[Tensor, " f"]) -> Float[Tensor, "b f"]:
        """Positions at fractions of the curve's length, or at fractions of time if the length is 0."""
        batch, last = self.centre.shape[0], self.num_segments
        position = torch.linspace(0, last, last * _SAMPLES + 1).to(self.centre)
        c2w = self.at(position.expand(batch, -1)).c2w
        steps = camera_distance(c2w[:, :-1], c2w[:, 1:], self.extent[:, None])
        length = F.pad(steps.cumsum(dim=1), (1, 0))
        length = torch.where(length[:, -1:] > 0, length, position)
        wanted = share * length[:, -1:]
        before = (torch.searchsorted(length, wanted, right=True) - 1).clamp(0, len(position) - 2)
        low, high = length.gather(1, before), length.gather(1, before + 1)
        inside = torch.where(high > low, (wanted - low) / torch.where(high > low, high - low, 1.0), 0.0)
        return (before + inside.clamp(0, 1)) / _SAMPLES


def _velocities(steps: Float[Tensor, "b s 3"], *, closed: bool) -> tuple[Tensor, Tensor]:
    """Velocity at the start and at the end of each segment, from the step of each segment."""
    before, after = (steps.roll(1, dims=1), steps) if closed else (steps[:, :-1], steps[:, 1:])
    mean = (before + after) / 2
    shorter = torch.minimum(before.norm(dim=-1, keepdim=True), after.norm(dim=-1, keepdim=True))
    length = mean.norm(dim=-1, keepdim=True)
    limited = mean * torch.where(length > shorter, shorter / torch.where(length > shorter, length, 1.0), 1.0)
    if closed:
        return limited, limited.roll(-1, dims=1)
    return torch.cat([steps[:, :1], limited], dim=1), torch.cat([limited, steps[:, -1:]], dim=1)


def _shares(num_frames: int, *, closed: bool) -> Float[Tensor, " f"]:
    """Fraction of the path at each frame, from 0, in float64."""
    if closed:
        return torch.arange(num_frames, dtype=torch.float64) / num_frames
    return torch.linspace(0, 1, num_frames, dtype=torch.float64)


def _depth(c2w: Float[Tensor, "b v 4 4"], pose: Float[Tensor, "b 4 4"]) -> Float[Tensor, " b"]:
    """Depth of the pivot of all cameras in the camera ``pose``; if the pivot lies behind this camera, its distance."""
    offset = pivot_of(c2w) - pose[:, :3, 3]
    ahead = (offset * pose[:, :3, 2]).sum(-1)
    return torch.where(ahead > 0, ahead, offset.norm(dim=-1).clamp(min=torch.finfo(offset.dtype).tiny))


def _around(
    pose: Float[Tensor, "b 4 4"], offset: Float[Tensor, "b f 3"], depth: Float[Tensor, " b"]
) -> Float[Tensor, "b f 4 4"]:
    """Cameras at offsets in the axes of the camera ``pose``, with its up direction; they look at a point on its axis.

    Args:
        pose: camera to world of the reference camera.
        offset: offsets of the centres.
        depth: depth of the point.
    """
    rotation, centre = pose[:, None, :3, :3], pose[:, None, :3, 3]
    target = centre + depth[:, None, None] * rotation[..., 2]
    return look_at(centre + transform(rotation, offset), target, -rotation[..., 1])


def _with_mean_intrinsics(c2w: Float[Tensor, "b f 4 4"], cameras: Cameras) -> Cameras:
    """Cameras with these poses and the mean intrinsics of ``cameras``."""
    mean = full_precision(cameras.intrinsics).mean(dim=1, keepdim=True)
    return Cameras(c2w, mean.expand(-1, c2w.shape[1], -1))


def _check(num_frames: int) -> None:
    if num_frames < 1:
        raise ValueError(f"num_frames must be 1 or more, got {num_frames}")
