"""Exposure of the frames of a room."""

import numpy as np

from openrayzer.data.synthetic_rooms.exposures import CONSTANT, Exposure, exposures
from openrayzer.data.synthetic_rooms.room import make_room

POSE = np.array([[0.0, 0.0, 1.0, 0.5], [-1.0, 0.0, 0.0, 1.8], [0.0, -1.0, 0.0, 1.4], [0.0, 0.0, 0.0, 1.0]])
INTRINSICS = np.array([0.8, 0.8, 0.5, 0.5])


def test_a_constant_exposure_has_no_effect():
    assert exposures(np.random.default_rng(0), num_frames=3, changing=False) == [CONSTANT] * 3
    assert (CONSTANT.table == np.arange(256)).all()


def test_changing_exposures_drift_and_seldom_jump():
    jumps = 0
    for seed in range(60):
        frames = exposures(np.random.default_rng(seed), num_frames=24, changing=True)
        gains = np.stack([exposure.gain for exposure in frames])
        stops = np.abs(np.diff(np.log2(gains.mean(axis=1)))) * 2.2
        jumps += int((stops > 0.28).any())
        assert 0.5 < gains.min() < gains.max() < 2
        assert (stops > 0.28).sum() <= 1
        assert np.median(stops) < 0.15
        assert all(0.9 < exposure.gamma < 1.1 for exposure in frames)
    assert 5 < jumps < 30


def test_gain_brightens_and_balance_tints_the_picture():
    room = make_room(np.random.default_rng(0))

    def mean(exposure: Exposure) -> np.ndarray:
        return room.view(POSE, INTRINSICS, size=(24, 24), exposure=exposure).mean(axis=(0, 1))

    plain = mean(CONSTANT)
    assert (mean(Exposure(np.full(3, 0.7), 1.0)) < 0.85 * plain).all()
    warm = mean(Exposure(np.array([1.0, 1.0, 0.8]), 1.0))
    assert warm[0] == plain[0]
    assert warm[2] < 0.9 * plain[2]
    assert (mean(Exposure(np.ones(3), 1.1)) < plain).all()
