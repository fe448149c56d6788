"""Paths of a hand-held camera through a room: smooth, slightly shaky, away from furniture."""

import numpy as np
from jaxtyping import Float

_CLEARANCE = 0.4
"""Smallest distance in metres between the camera and furniture or walls."""
_VIEW = 2.0
"""Smallest distance in metres from the camera to a wall or tall furniture in the middle of a picture."""
_TRIES = 500


class NoPathError(RuntimeError):
    """No camera path was found in a room."""


def camera_path(
    generator: np.random.Generator,
    *,
    room_size: Float[np.ndarray, " 3"],
    obstacles: Float[np.ndarray, "o 2 3"],
    num_frames: int,
    motion: float,
) -> Float[np.ndarray, "f 4 4"]:
    """Camera to world of each frame, OpenCV axes, world z up, metres.

    At ``motion`` 1 the camera moves 2.5 to 8 cm and turns 1 to 3.2 degrees per frame; both are proportional to
    ``motion``. If a path does not fit into the room, another path is drawn; after every 20 attempts paths get shorter.

    Args:
        generator: source of all randomness.
        room_size: extents along x, y and z in metres.
        obstacles: boxes (lowest corner, highest corner) that the camera avoids.
        num_frames: number of frames.
        motion: speed of the camera.

    Raises:
        NoPathError: the room has no space for a path.
    """
    scale = motion
    for attempt in range(_TRIES):
        positions, yaw = _walk(generator, room_size, num_frames, scale)
        if _is_free(positions, room_size, obstacles) and _looks_inside(positions, yaw, room_size, obstacles):
            break
        scale *= 0.9 if attempt % 20 == 19 else 1.0
    else:
        raise NoPathError(f"no free path in a room of {room_size} m with {len(obstacles)} obstacles")
    time = np.arange(num_frames)
    shake = 0.012 * min(1.0, motion)
    yaw = yaw + _wobble(generator, time, shake)
    pitch = generator.uniform(0.05, 0.35) + _wobble(generator, time, 2.5 * shake)
    roll = _wobble(generator, time, 1.5 * shake)
    poses = np.tile(np.eye(4), (num_frames, 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = _rotations(yaw, pitch, roll), positions
    return poses


def _walk(
    generator: np.random.Generator, room_size: np.ndarray, num_frames: int, scale: float
) -> tuple[Float[np.ndarray, "f 3"], Float[np.ndarray, " f"]]:
    """Positions and viewing directions (yaw) of one attempt."""
    time = np.arange(num_frames) - (num_frames - 1) / 2
    turn = np.deg2rad(generator.uniform(1.0, 3.2)) * generator.choice([-1, 1]) * scale
    yaw = generator.uniform(0, 2 * np.pi) + turn * time + _wobble(generator, time, 0.06 * scale)
    # 0 degrees moves forwards, +-90 degrees sideways. Moving against the turn gives an arc around the scene.
    sideways = -np.sign(turn) if generator.uniform() < 0.65 else np.sign(turn)
    heading = yaw + sideways * np.deg2rad(generator.choice([90, 75, 45, 15, 165]) + generator.uniform(-15, 15))
    speed = generator.uniform(0.025, 0.08) * scale * (1 + _wobble(generator, time, 0.25))
    steps = speed[:, None] * np.stack([np.cos(heading), np.sin(heading)], axis=-1)
    floor = np.cumsum(steps, axis=0)
    middle = room_size[:2] * generator.uniform(0.1, 0.9, 2)
    floor += middle - floor.mean(axis=0)
    height = generator.uniform(1.05, 1.65) + _wobble(generator, time, 0.06 * min(1.0, scale))
    return np.concatenate([floor, height[:, None]], axis=-1), yaw


def _wobble(generator: np.random.Generator, time: np.ndarray, size: float) -> Float[np.ndarray, " f"]:
    """A sum of three slow waves with periods of 10 to 40 frames."""
    periods, phases = generator.uniform(10, 40, 3), generator.uniform(0, 2 * np.pi, 3)
    weights = generator.uniform(0.3, 1.0, 3)
    return size * np.sin(2 * np.pi * time[:, None] / periods + phases) @ weights / weights.sum() * 1.5


def _is_free(positions: np.ndarray, room_size: np.ndarray, obstacles: np.ndarray) -> bool:
    margin = np.array([_CLEARANCE, _CLEARANCE, 0.3])
    if (positions < margin).any() or (positions > room_size - margin).any():
        return False
    low, high = obstacles[:, 0] - margin, obstacles[:, 1] + margin
    inside = (positions[:, None] > low) & (positions[:, None] < high)
    return not inside.all(axis=-1).any()


def _looks_inside(positions: np.ndarray, yaw: np.ndarray, room_size: np.ndarray, obstacles: np.ndarray) -> bool:
    """Whether the middle of every picture is far enough from walls and tall furniture to show the room."""
    tall = obstacles[(obstacles[:, 1, 2] > 1.5) & (obstacles[:, 0, 2] < 1.0), :, :2]
    for distance, sideways in ((0.6, -0.4), (0.6, 0.4), (1.3, 0.0), (_VIEW, 0.0)):
        angle = yaw + sideways
        ahead = positions[:, :2] + distance * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        if (ahead < 0).any() or (ahead > room_size[:2]).any():
            return False
        if ((ahead[:, None] > tall[:, 0]) & (ahead[:, None] < tall[:, 1])).all(axis=-1).any():
            return False
    return True


def _rotations(yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> Float[np.ndarray, "f 3 3"]:
    """Camera-to-world rotations: ``yaw`` about the z axis from x, ``pitch`` downwards, ``roll`` about the view axis."""
    flat = np.cos(pitch)
    forward = np.stack([flat * np.cos(yaw), flat * np.sin(yaw), -np.sin(pitch)], axis=-1)
    right = np.stack([np.sin(yaw), -np.cos(yaw), np.zeros_like(yaw)], axis=-1)
    down = np.cross(forward, right)
    cosine, sine = np.cos(roll)[:, None], np.sin(roll)[:, None]
    return np.stack([cosine * right + sine * down, cosine * down - sine * right, forward], axis=-1)
