"""Camera paths: kinds of motion, clearance, overlap, and speeds that follow the settings."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from openrayzer.data.synthetic_rooms.camera_paths import NoPathError, camera_path
from openrayzer.data.synthetic_rooms.motions import MOTIONS, Motion
from openrayzer.data.synthetic_rooms.room import Room, make_room

FOCAL = np.array([1.0, 1.0, 0.5, 0.5])


@pytest.fixture(scope="module")
def rooms() -> list[Room]:
    return [make_room(np.random.default_rng(number)) for number in range(4)]


def path(room: Room, kind: Motion, *, seed: int = 0, motion: float = 1.0, focal: float = 1.0, frames: int = 16):
    """c2w (f, 4, 4)."""
    generator = np.random.default_rng(seed)
    intrinsics = FOCAL * (focal, focal, 1, 1)
    return camera_path(generator, room, intrinsics=intrinsics, num_frames=frames, kind=kind, motion=motion)


def turned(c2w: np.ndarray) -> np.ndarray:
    """Angle in degrees between neighbouring frames, (f - 1,)."""
    cosine = (np.einsum("fij, fij -> f", c2w[:-1, :3, :3], c2w[1:, :3, :3]) - 1) / 2
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def moved(c2w: np.ndarray) -> np.ndarray:
    """Steps between neighbouring frames in the axes of the first camera, (f - 1, 3)."""
    return np.diff(c2w[:, :3, 3], axis=0) @ c2w[0, :3, :3]


def test_every_motion_has_a_name_for_the_settings():
    assert {*MOTIONS, "back_and_forth"} == set(get_args(Motion))


@pytest.mark.parametrize("kind", get_args(Motion))
def test_the_camera_keeps_clear_upright_and_smooth(rooms, kind):
    for seed, room in enumerate(rooms):
        c2w = path(room, kind, seed=seed)
        rotations = c2w[:, :3, :3]
        np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (16, 1, 1)), atol=1e-9)
        np.testing.assert_allclose(np.linalg.det(rotations), 1)
        assert (rotations[:, 2, 1] < -0.7).all()  # the picture's down is the world's down
        depth = np.stack([room.depth(pose, FOCAL, size=(24, 24)) for pose in c2w])
        assert depth.min() > 0.15
        steps = np.diff(c2w[:, :3, 3], axis=0)
        assert np.linalg.norm(np.diff(steps, axis=0), axis=-1).max() < np.linalg.norm(steps, axis=-1).max()


def test_a_turn_moves_less_than_other_motions(rooms):
    lengths = {
        kind: np.mean([np.linalg.norm(moved(path(room, kind, seed=seed)), axis=1) for seed, room in enumerate(rooms)])
        for kind in ("turn", "sideways", "forward")
    }
    assert 3 * lengths["turn"] < min(lengths["sideways"], lengths["forward"])


def test_forward_and_sideways_move_along_and_across_the_line_of_sight(rooms):
    for seed, room in enumerate(rooms):
        along = np.abs(moved(path(room, "forward", seed=seed, frames=6)).sum(axis=0))
        across = np.abs(moved(path(room, "sideways", seed=seed, frames=6)).sum(axis=0))
        assert along[2] > 1.5 * along[0]
        assert across[0] > 1.5 * across[2]


def test_an_arc_looks_at_one_point(rooms):
    for seed, room in enumerate(rooms):
        c2w = path(room, "arc", seed=seed)
        positions, ahead = c2w[:, :2, 3], c2w[:, :2, 2] / np.linalg.norm(c2w[:, :2, 2], axis=1, keepdims=True)
        across = np.eye(2) - ahead[:, :, None] * ahead[:, None]  # for the point that is nearest to all lines of sight
        centre = np.linalg.solve(across.sum(axis=0), (across @ positions[..., None]).sum(axis=0))[:, 0]
        missed = np.linalg.norm((across @ (centre - positions)[..., None])[..., 0], axis=1)
        assert missed.max() < 0.12
        assert turned(c2w).sum() > 5


def test_back_and_forth_returns(rooms):
    for seed, room in enumerate(rooms):
        c2w = path(room, "back_and_forth", seed=seed, frames=30)
        steps = np.diff(c2w[:, :2, 3], axis=0)
        assert np.linalg.norm(steps.sum(axis=0)) < 0.75 * np.linalg.norm(steps, axis=1).sum()


def test_motion_scales_the_path_and_zero_keeps_still(rooms):
    lengths = []
    for motion in (0.0, 0.3, 0.9):
        paths = [path(room, "sideways", seed=seed, motion=motion, frames=8) for seed, room in enumerate(rooms)]
        lengths.append(np.mean([np.linalg.norm(moved(c2w), axis=1) for c2w in paths]))
    assert lengths[0] < 1e-9
    assert lengths[2] > 2 * lengths[1] > 0.01


def test_a_long_focal_length_turns_less(rooms):
    wide, long = (
        np.mean([turned(path(room, "turn", seed=seed, focal=focal)) for seed, room in enumerate(rooms)])
        for focal in (0.7, 2.2)
    )
    assert 1.8 < wide / long < 4.5  # the fields of view are 71 and 26 degrees


def test_a_room_without_space_has_no_path(rooms):
    full = replace(rooms[0], obstacles=np.array([[[0.0, 0.0, 0.0], [6.0, 6.0, 3.0]]]))
    with pytest.raises(NoPathError, match="no free path"):
        path(full, "walk")
