"""Paths of a hand-held camera through a room: several kinds of motion, away from furniture, with views that overlap."""

import numpy as np
from jaxtyping import Float

from openrayzer.data.synthetic_rooms.motions import MOTIONS, Course, Motion, wave
from openrayzer.data.synthetic_rooms.path_checks import is_free, shows_the_room
from openrayzer.data.synthetic_rooms.room import Room

_TRIES = 400
_PACE = (0.6, 2.4)
"""Slowest and fastest speed at ``motion`` 1, relative to the speeds of ``motions``."""
_REVERSALS = (9.0, 24.0)
"""Shortest and longest period in frames of a path that goes back and forth."""


class NoPathError(RuntimeError):
    """No camera path was found in a room."""


def camera_path(
    generator: np.random.Generator,
    room: Room,
    *,
    intrinsics: Float[np.ndarray, " 4"],
    num_frames: int,
    kind: Motion,
    motion: float,
) -> Float[np.ndarray, "f 4 4"]:
    """Camera to world of each frame, OpenCV axes, world z up, metres.

    Speeds are proportional to ``motion`` and to a factor from 0.6 to 2.4 of each path. Turns, and steps across the line
    of sight, are proportional to the field of view, so that neighbouring frames share as much with any focal length.
    If a path does not fit into the room or its views overlap too little, another path is drawn; paths get slower with
    the number of attempts.

    Args:
        generator: source of all randomness.
        room: the room; the camera keeps clear of its walls and obstacles.
        intrinsics: fx, fy, cx, cy divided by width, height, width, height.
        num_frames: number of frames.
        kind: kind of motion.
        motion: speed of the camera.

    Raises:
        NoPathError: the room has no space for a path.
    """
    scale = motion * float(np.exp(generator.uniform(*np.log(_PACE))))
    view = float(1 / intrinsics[:2].min())
    for attempt in range(_TRIES):
        poses = _draw(generator, room, num_frames, kind, scale, view)
        if is_free(poses[:, :3, 3], room.size, room.obstacles):
            if shows_the_room(poses, room.surfaces, intrinsics):
                return poses
            scale *= 0.95
        scale *= 0.9 if attempt % 20 == 19 else 1.0
    raise NoPathError(f"no free path in a room of {room.size} m with {len(room.obstacles)} obstacles")


def _draw(
    generator: np.random.Generator, room: Room, num_frames: int, kind: Motion, scale: float, view: float
) -> Float[np.ndarray, "f 4 4"]:
    """The poses of one attempt; ``scale`` is the speed."""
    time = np.arange(num_frames) - (num_frames - 1) / 2
    reversing = kind == "back_and_forth"
    progress = _back_and_forth(generator, time) if reversing else _onwards(generator, time)
    base = str(generator.choice(list(MOTIONS))) if reversing else kind
    course = Course(generator, progress, scale, view)
    track = MOTIONS[base](course)
    strength = min(1.0, scale)
    rise = generator.uniform(-0.5, 0.5) * np.linalg.norm(track.floor[-1] - track.floor[0])
    height = generator.uniform(0.95, 1.75) + rise * time / max(num_frames - 1, 1)
    height = height + wave(generator, time, 0.06 * strength)
    middle = room.size[:2] * generator.uniform(0.1, 0.9, 2)
    shake = 0.012 * strength * track.shake * course.angle
    yaw = track.yaw + generator.uniform(0, 2 * np.pi) + wave(generator, time, shake)
    pitch = generator.uniform(-0.1, 0.4) + wave(generator, time, 0.1 * strength * course.angle)
    roll = generator.normal(0, 0.05) + wave(generator, time, 0.06 * strength * course.angle)
    turned = yaw[num_frames // 2] - track.yaw[num_frames // 2]
    cosine, sine = np.cos(turned), np.sin(turned)
    floor = track.floor @ np.array([[cosine, sine], [-sine, cosine]])
    poses = np.tile(np.eye(4), (num_frames, 1, 1))
    poses[:, :3, :3] = _rotations(yaw, pitch, roll)
    poses[:, :2, 3], poses[:, 2, 3] = floor - floor.mean(axis=0) + middle, height
    return poses


def _onwards(generator: np.random.Generator, time: np.ndarray) -> Float[np.ndarray, " f"]:
    """Progress that only grows, at a speed that varies a little."""
    speed = 1 + wave(generator, time, 0.25)
    progress = np.cumsum(speed) - speed[0]
    return progress - progress.mean()


def _back_and_forth(generator: np.random.Generator, time: np.ndarray) -> Float[np.ndarray, " f"]:
    """Progress that grows and shrinks; the mean of its absolute speed is 1.5."""
    period = generator.uniform(*_REVERSALS)
    return 1.5 * period / 4 * np.sin(2 * np.pi * time / period + generator.uniform(0, 2 * np.pi))


def _rotations(yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> Float[np.ndarray, "f 3 3"]:
    """Camera-to-world rotations: ``yaw`` about the z axis from x, ``pitch`` downwards, ``roll`` about the view axis."""
    flat = np.cos(pitch)
    forward = np.stack([flat * np.cos(yaw), flat * np.sin(yaw), -np.sin(pitch)], axis=-1)
    right = np.stack([np.sin(yaw), -np.cos(yaw), np.zeros_like(yaw)], axis=-1)
    down = np.cross(forward, right)
    cosine, sine = np.cos(roll)[:, None], np.sin(roll)[:, None]
    return np.stack([cosine * right + sine * down, cosine * down - sine * right, forward], axis=-1)
