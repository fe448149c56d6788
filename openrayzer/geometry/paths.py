"""Camera paths: from the cameras of some views to those of the frames of a video.

Every function returns exactly ``num_frames`` cameras for each batch element, in float32 (in float64 if that is given).
A closed path does not repeat its first camera: the step from the last frame to the first is like any other.
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
"""Points per segment at which the length of a curve is measured."""

SPIRAL_QUANTILE = 0.9
"""Share of the views that lie inside the spiral, along each axis by itself."""

LONE_SHARE = 0.1
"""Radius of a spiral where all centres are equal, as a share of the distance to what is looked at."""


def interpolate_path(cameras: Cameras, num_frames: int, *, loop: bool = False, pace: Pace = "views") -> Cameras:
    """A smooth way through all views in their order; velocities of turning and moving do not jump.

    Centres follow cubic Hermite curves and rotations their counterpart on SO(3). The velocity at a view is the mean of
    the steps before and behind it, no longer than the shorter of them, so that the curve never overshoots; views with
    equal centres are passed without leaving them. Intrinsics change linearly. A single view is repeated.

    Args:
        cameras: of the views.
        num_frames: 1 or more.
        loop: there and back, so that nothing is shown from where no view was; the path is closed.
        pace: "views": all views are equally far apart in time, and each is met exactly if the number of steps is a
            multiple of the number of gaps. "speed": every step is equally long by ``camera_distance``.

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
    """A level circle about the point that the views look at, always looking at it.

    The axis is the mean upward direction; distance from it and height are the means over the views. A full circle
    starts beside the middle view and is closed; a shorter arc has the middle view in its middle.

    Args:
        cameras: of the views.
        num_frames: 1 or more.
        arc: how far around, in radians, above 0 and at most a full circle.
        loop: a shorter arc swings to both sides and back to the middle, slower at its ends; the path is closed.
    """
    _check(num_frames)
    if not 0 < arc <= math.tau:
        raise ValueError(f"arc must be above 0 and at most a full circle, got {math.degrees(arc):g} degrees")
    c2w = full_precision(cameras.c2w)
    up, pivot = mean_up(c2w), pivot_of(c2w)
    spoke = c2w[..., :3, 3] - pivot[:, None]  # (b, v, 3)
    height = (spoke * up[:, None]).sum(-1, keepdim=True)
    radius = (spoke - height * up[:, None]).norm(dim=-1).mean(dim=1)
    middle = F.normalize(spoke[:, cameras.num_views // 2], dim=-1)
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
    return _facing(cameras, look_at(centre, pivot[:, None], up[:, None]))


def wobble_path(cameras: Cameras, num_frames: int, *, share: float = 0.1, turns: int = 1) -> Cameras:
    """A small circle about the middle view, in its image plane, looking at what lies in the middle of its image.

    Args:
        cameras: of the views.
        num_frames: 1 or more.
        share: radius, as a share of the largest distance between two views; of the distance to what is looked at
            where all centres are equal.
        turns: how many circles; the path is closed.
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
    return _facing(cameras, _around(middle, radius[:, None, None] * circle, depth))


def spiral_path(cameras: Cameras, num_frames: int, *, share: float = 1.0, turns: int = 2) -> Cameras:
    """LLFF's spiral: circles about the mean camera while it moves forward, back, and to where it started.

    In the mean camera's axes the centre is (r_x cos a, r_y sin a, r_z sin(a / turns)), and the camera looks at a point
    straight ahead of the mean camera, as far away as what the views look at.

    Args:
        cameras: of the views.
        num_frames: 1 or more.
        share: the radii r, in those of the box about the mean camera that holds ``SPIRAL_QUANTILE`` of the centres
            along each axis; where all centres are equal, in ``LONE_SHARE`` times the distance to what is looked at.
        turns: how many circles; the path is closed.

    Source: Mildenhall et al. 2019, "Local Light Field Fusion", the published code's rendering path.
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
    return _facing(cameras, _around(mean, radii[:, None] * circle, depth))


@dataclass(frozen=True)
class _Curve:
    """A curve through cameras; segment i leads from camera i to camera i + 1, or back to camera 0.

    ``turn`` and ``step`` are a segment's whole change of rotation and centre; ``..._rate`` the velocity at each end of
    each segment, in change per segment. Turns are in the frame of the camera that turns.
    """

    rotation: Float[Tensor, "b s 3 3"]
    centre: Float[Tensor, "b s 3"]
    intrinsics: Float[Tensor, "b s 4"]
    step: Float[Tensor, "b s 3"]
    change: Float[Tensor, "b s 4"]
    turn_rate: tuple[Float[Tensor, "b s 3"], Float[Tensor, "b s 3"]]
    step_rate: tuple[Float[Tensor, "b s 3"], Float[Tensor, "b s 3"]]
    turn_between: Float[Tensor, "b s 3"]
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
        turn_rate, step_rate = _rates(so3_log(between), closed=closed), _rates(step, closed=closed)
        first, last = so3_exp(turn_rate[0] / 3), so3_exp(turn_rate[1] / 3)
        turn_between = so3_log(product(product(first.mT, between), last.mT))
        return cls(rotation, centre, intrinsics, step, other - intrinsics, turn_rate, step_rate, turn_between, extent)

    def at(self, position: Float[Tensor, "b f"]) -> Cameras:
        """Cameras at positions from 0 to the number of segments, by the cumulative cubic Bernstein basis."""
        segment = position.long().clamp(max=self.num_segments - 1)

        def of(values: Tensor) -> Tensor:
            return values[torch.arange(len(values), device=values.device)[:, None], segment]

        share = (position - segment)[..., None]
        first, second, third = 1 - (1 - share) ** 3, share**2 * (3 - 2 * share), share**3
        leave, arrive = of(self.step_rate[0]) / 3, of(self.step_rate[1]) / 3
        centre = of(self.centre) + first * leave + second * (of(self.step) - leave - arrive) + third * arrive
        rotation = of(self.rotation)
        turns = (first, self.turn_rate[0] / 3), (second, self.turn_between), (third, self.turn_rate[1] / 3)
        for weight, turn in turns:
            rotation = product(rotation, so3_exp(weight * of(turn)))
        return Cameras(pose_from(rotation, centre), of(self.intrinsics) + share * of(self.change))

    def at_equal_steps(self, share: Float[Tensor, " f"]) -> Float[Tensor, "b f"]:
        """Positions at shares of the curve's length; of that of time where it has none."""
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


def _rates(steps: Float[Tensor, "b s 3"], *, closed: bool) -> tuple[Tensor, Tensor]:
    """Velocity at the start and at the end of each segment."""
    before, after = (steps.roll(1, dims=1), steps) if closed else (steps[:, :-1], steps[:, 1:])
    mean = (before + after) / 2
    shorter = torch.minimum(before.norm(dim=-1, keepdim=True), after.norm(dim=-1, keepdim=True))
    length = mean.norm(dim=-1, keepdim=True)
    limited = mean * torch.where(length > shorter, shorter / torch.where(length > shorter, length, 1.0), 1.0)
    if closed:
        return limited, limited.roll(-1, dims=1)
    return torch.cat([steps[:, :1], limited], dim=1), torch.cat([limited, steps[:, -1:]], dim=1)


def _shares(num_frames: int, *, closed: bool) -> Float[Tensor, " f"]:
    """Shares of the way at which the frames are, from 0; float64, so that they are exact on any dtype."""
    if closed:
        return torch.arange(num_frames, dtype=torch.float64) / num_frames
    return torch.linspace(0, 1, num_frames, dtype=torch.float64)


def _depth(c2w: Float[Tensor, "b v 4 4"], pose: Float[Tensor, "b 4 4"]) -> Float[Tensor, " b"]:
    """How far ahead of a camera the pivot of all lies; its distance where that is behind."""
    spoke = pivot_of(c2w) - pose[:, :3, 3]
    ahead = (spoke * pose[:, :3, 2]).sum(-1)
    return torch.where(ahead > 0, ahead, spoke.norm(dim=-1).clamp(min=torch.finfo(spoke.dtype).tiny))


def _around(
    pose: Float[Tensor, "b 4 4"], offset: Float[Tensor, "b f 3"], depth: Float[Tensor, " b"]
) -> Float[Tensor, "b f 4 4"]:
    """Cameras at offsets in a camera's own axes, looking at the point ``depth`` ahead of it, upright as it is."""
    rotation, centre = pose[:, None, :3, :3], pose[:, None, :3, 3]
    target = centre + depth[:, None, None] * rotation[..., 2]
    return look_at(centre + transform(rotation, offset), target, -rotation[..., 1])


def _facing(cameras: Cameras, c2w: Float[Tensor, "b f 4 4"]) -> Cameras:
    """Poses with the mean intrinsics of the views."""
    mean = full_precision(cameras.intrinsics).mean(dim=1, keepdim=True)
    return Cameras(c2w, mean.expand(-1, c2w.shape[1], -1))


def _check(num_frames: int) -> None:
    if num_frames < 1:
        raise ValueError(f"num_frames must be 1 or more, got {num_frames}")
