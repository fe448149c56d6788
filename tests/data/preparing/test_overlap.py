"""Overlap of images, and tables of overlap."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from openrayzer.data.preparing.overlap import KeypointOverlap, TokenOverlap, overlap_table, overlap_tables
from openrayzer.data.sampling.overlap_tables import read_overlap_tables, write_overlap_tables
from openrayzer.data.sources.chunks import Chunks
from openrayzer.interfaces import Tokenizer, UnusableSceneError


def wall(seed: int = 0) -> np.ndarray:
    """A long textured wall, 128 x 768."""
    generator = np.random.default_rng(seed)
    layers = [
        cv2.resize(generator.random((n, 6 * n, 3)), (768, 128), interpolation=cv2.INTER_CUBIC) for n in (8, 16, 32)
    ]
    return (np.clip(np.mean(layers, axis=0), 0, 1) * 255).astype(np.uint8)


def window(wall: np.ndarray, left: int) -> np.ndarray:
    return np.ascontiguousarray(wall[:, left : left + 128])


@pytest.fixture(scope="module")
def measure() -> KeypointOverlap:
    return KeypointOverlap(short_side=128)


@pytest.fixture
def pan(write_root, make_scene) -> Chunks:
    """A camera that moves along the wall by 8 of 128 pixels per frame; frame 3 is broken."""
    images = [cv2.imencode(".png", window(wall(), 8 * frame)[..., ::-1])[1].tobytes() for frame in range(30)]
    images[3] = b"nothing"
    scenes = [replace(make_scene("pan", frames=30), images=images), make_scene("short", frames=2)]
    chunks = Chunks(root=write_root(scenes))
    chunks.open()
    return chunks


def test_overlap_is_the_share_that_both_show(measure):
    first = measure.describe(window(wall(), 0))
    for shift in (0, 32, 64, 96):
        other = measure.describe(window(wall(), shift))
        assert measure.overlap(first, other) == pytest.approx(1 - shift / 128, abs=0.1)  # a cell is 1 / 12
        assert measure.overlap(other, first) == pytest.approx(measure.overlap(first, other), abs=0.07)
        assert measure.overlap(first, other) == measure.overlap(first, other)


def test_unrelated_and_blank_images_do_not_overlap(measure):
    first, blank = measure.describe(window(wall(), 0)), measure.describe(np.full((128, 128, 3), 90, np.uint8))
    assert measure.overlap(first, measure.describe(window(wall(1), 0))) == 0
    assert measure.overlap(first, blank) == measure.overlap(blank, blank) == 0


def test_table_follows_the_camera_and_leaves_out_broken_frames(pan, measure):
    table = overlap_table(pan, 0, measure, samples=4)
    assert list(table) == [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14]
    assert table.pop(14) < 0.2  # one or two columns of cells are too few for a reliable match
    for interval, overlap in table.items():
        assert overlap == pytest.approx(1 - interval / 16, abs=0.11)
    assert table == overlap_table(pan, 0, measure, samples=4, max_interval=12)
    assert max(overlap_table(pan, 0, measure, samples=2, max_interval=4)) == 4


def test_scene_without_a_table_is_named_and_the_others_go_on(pan, measure, tmp_path):
    with pytest.raises(UnusableSceneError, match="'short' has 2 frames, and no three evenly spaced frames are usable"):
        overlap_table(pan, 1, measure)
    made = list(overlap_tables(pan, measure, samples=2, max_interval=6))
    assert [(row.scene, bool(row.table), bool(row.problem)) for row in made] == [
        ("pan", True, False),
        ("short", False, True),
    ]
    file = tmp_path / "new" / "overlap.json"
    write_overlap_tables(file, {row.scene: row.table for row in made if row.table})
    curve = read_overlap_tables(file)["pan"]
    assert dict(zip(curve.intervals.tolist(), curve.overlaps.tolist(), strict=True)) == pytest.approx(
        made[0].table, abs=1e-4
    )
    assert [path.name for path in file.parent.iterdir()] == ["overlap.json"]


class MeanColour(Tokenizer):
    """One token: the mean colour."""

    patch_size = 1

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, images):
        return (images.mean(dim=(3, 4)) * self.scale)[:, :, None]


def test_tokens_overlap_by_their_cosine():
    measure = TokenOverlap(MeanColour(), image_size=(8, 8))
    red, yellow, blue = (
        measure.describe(np.full((8, 12, 3), colour, np.uint8)) for colour in ((200, 0, 0), (90, 90, 0), (0, 0, 7))
    )
    assert measure.overlap(red, red) == pytest.approx(1)
    assert measure.overlap(red, yellow) == pytest.approx(0.5**0.5)
    assert measure.overlap(red, blue) == 0
