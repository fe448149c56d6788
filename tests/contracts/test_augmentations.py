"""What every augmentation promises: consistent cameras, one source of randomness, no writing into its input."""

import pickle
from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pytest

from openrayzer.data.loading.clips import read_clip
from openrayzer.data.pixels.resizing import fit_image
from openrayzer.interfaces import AUGMENTATIONS, Augmentation, Clip, Dataset, Frames, ViewChoice
from registry import Registry

NAMES = [entry.name for entry in AUGMENTATIONS]
CHOICE = ViewChoice((10, 14, 20), (12, 14))
POINTS = np.array([[x, y, 5.0 + (x + 2 * y) % 3] for x in (-2.4, -0.8, 0.7, 2.2) for y in (-1.6, 0.1, 1.5)])
STORED, WANTED = (96, 128), (72, 80)


class Dots(Dataset):
    """White dots at known points on a dark background, with rotated cameras and off-centre principal points."""

    def __init__(self, *, posed: bool = True) -> None:
        self.posed = posed

    def open(self) -> None: ...

    def __len__(self) -> int:
        return 1

    def key(self, scene: int) -> str:
        return "dots"

    def num_frames(self, scene: int) -> int:
        return 30

    def read(self, scene: int, frames: Sequence[int]) -> Frames:
        c2w = np.stack([pose(frame) for frame in frames])
        intrinsics = np.array([[0.7 + 0.01 * frame, 0.95, 0.46, 0.55] for frame in frames], np.float32)
        images = [picture(camera, row) for camera, row in zip(c2w, intrinsics, strict=True)]
        return Frames(images, c2w, intrinsics) if self.posed else Frames(images, None, None)


def pose(frame: int) -> np.ndarray:
    angle = 0.02 * (frame - 15)
    c2w = np.eye(4)
    c2w[0, 0] = c2w[2, 2] = np.cos(angle)
    c2w[0, 2], c2w[2, 0] = np.sin(angle), -np.sin(angle)
    c2w[:3, 3] = [0.03 * frame, 0.01 * frame, 0.02 * frame]
    return c2w.astype(np.float32)


def project(points: np.ndarray, c2w: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixel positions (k, 2) as (column, row); pixel centres lie at +0.5."""
    local = (points - c2w[:3, 3]) @ c2w[:3, :3]
    normalised = intrinsics[:2] * local[:, :2] / local[:, 2:] + intrinsics[2:]
    return normalised * [size[1], size[0]]


def picture(c2w: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    row, column = np.mgrid[: STORED[0], : STORED[1]] + 0.5
    places = project(POINTS, c2w, intrinsics, STORED)
    distance = [(column - x) ** 2 + (row - y) ** 2 for x, y in places]
    light = np.exp(-np.min(distance, axis=0) / (2 * 1.8**2))
    return np.round(60 + 180 * light[..., None] * np.ones(3)).astype(np.uint8)


def augmented(augmentation: Augmentation, seed: int, **dataset: bool) -> Clip:
    changes = [(augmentation, np.random.default_rng(seed))]
    return read_clip(Dots(**dataset), 0, CHOICE, image_size=WANTED, changes=changes)


def equal(one: Clip, other: Clip) -> bool:
    return all(np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(Clip))


@pytest.fixture(params=NAMES)
def augmentation(request, small) -> Augmentation:
    registry: Registry = AUGMENTATIONS
    return small(registry, request.param)


@pytest.mark.parametrize("seed", range(6))
def test_points_are_where_the_cameras_say(augmentation, seed):
    """In the true images of targets; input images may have other changes."""
    clip = augmented(augmentation, seed)
    images = (clip.images if clip.clean is None else clip.clean).mean(axis=1)
    mirrored = np.linalg.det(clip.c2w[0, :3, :3] @ pose(int(clip.frames[0]))[:3, :3].T)
    assert mirrored == pytest.approx(1, abs=1e-5)
    worlds = [POINTS, POINTS * [-1, 1, 1]]
    errors = [max(_misses(images, clip, points)) for points in worlds]
    assert min(errors) < 0.4  # pixels
    plain = read_clip(Dots(), 0, CHOICE, image_size=WANTED)
    if np.array_equal(clip.c2w[np.argsort(clip.frames)], plain.c2w):
        assert errors[0] < 0.4


def _misses(images: np.ndarray, clip: Clip, points: np.ndarray) -> list[float]:
    """Distance in pixels from each projected point, except near the border, to the centre of light around it."""
    radius, misses = 4, []
    for image, c2w, intrinsics in zip(images, clip.c2w, clip.intrinsics, strict=True):
        for x, y in project(points, c2w, intrinsics, WANTED):
            left, top = int(x) - radius, int(y) - radius
            part = image[max(0, top) : top + 2 * radius + 1, max(0, left) : left + 2 * radius + 1]
            if part.shape != (2 * radius + 1,) * 2 or min(left, top) < 0:
                continue
            light = np.maximum(part - (part.min() + 0.5 * (part.max() - part.min())), 0)
            if part.max() - part.min() < 0.1:
                misses.append(float("inf"))
                continue
            row, column = np.mgrid[top : top + 2 * radius + 1, left : left + 2 * radius + 1] + 0.5
            centre = np.array([(light * column).sum(), (light * row).sum()]) / light.sum()
            misses.append(float(np.linalg.norm(centre - [x, y])))
    assert len(misses) > 8
    return misses


@pytest.mark.parametrize("posed", [True, False])
def test_a_clip_keeps_its_shapes_types_and_frames(augmentation, posed):
    for seed in range(5):
        clip, plain = augmented(augmentation, seed, posed=posed), read_clip(Dots(), 0, CHOICE, image_size=WANTED)
        for images in (clip.images, *(() if clip.clean is None else (clip.clean,))):
            assert images.shape == plain.images.shape
            assert images.dtype == np.float32
            assert images.flags.c_contiguous
            assert 0 <= images.min() <= images.max() <= 1
        assert sorted(clip.frames) == sorted(plain.frames)
        assert [np.array_equal(clip.context, plain.context), np.array_equal(clip.target, plain.target)] == [True] * 2
        assert [values is not None for values in (clip.c2w, clip.intrinsics)] == [posed] * 2
        if posed:
            rotations = clip.c2w[:, :3, :3].astype(np.float64)
            np.testing.assert_allclose(
                rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (4, 1, 1)), atol=1e-6
            )
            assert np.linalg.det(rotations) == pytest.approx(1, abs=1e-6)
            assert clip.c2w.dtype == clip.intrinsics.dtype == np.float32


def test_the_generator_alone_decides(augmentation):
    np.random.seed(1)
    clips = [augmented(augmentation, seed) for seed in range(8)]
    np.random.seed(2)
    again = [augmented(pickle.loads(pickle.dumps(augmentation)), seed) for seed in reversed(range(8))]
    assert all(equal(one, other) for one, other in zip(clips, reversed(again), strict=True))
    assert not all(equal(clips[0], clip) for clip in clips[1:])


def test_input_arrays_are_never_written(augmentation):
    plain = read_clip(Dots(), 0, CHOICE, image_size=WANTED)
    for values in (plain.images, plain.frames, plain.context, plain.target, plain.c2w, plain.intrinsics):
        values.setflags(write=False)
    stored = Dots().read(0, CHOICE.frames)
    for values in (*stored.images, stored.c2w, stored.intrinsics):
        values.setflags(write=False)
    for seed in range(6):
        augmentation.apply(plain, np.random.default_rng(seed))
        cut = augmentation.cut(stored, WANTED, np.random.default_rng(seed))
        assert {image.dtype for image in cut.images} == {np.dtype(np.uint8)}
        assert fit_image(cut.images[0], WANTED).shape == (3, *WANTED)


def test_clean_images_change_like_input_images(augmentation):
    """So augmentations can follow each other in any order, and ``clean`` stays free of changes to the input alone."""
    plain = read_clip(Dots(), 0, CHOICE, image_size=WANTED)
    for seed in range(6):
        one = augmentation.apply(plain, np.random.default_rng(seed))
        if one.clean is None:
            other = augmentation.apply(
                Clip(**{**vars(plain), "clean": plain.images.copy()}), np.random.default_rng(seed)
            )
            np.testing.assert_array_equal(other.images, one.images)
            np.testing.assert_array_equal(other.clean, one.images)
