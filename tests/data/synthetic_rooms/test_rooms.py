"""Synthetic rooms: images agree with the cameras, and a point has the same colour in every view."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from openrayzer.data.synthetic_rooms.atlas import build_atlas
from openrayzer.data.synthetic_rooms.faces import TEXTURES
from openrayzer.data.synthetic_rooms.lighting import Light, bake
from openrayzer.data.synthetic_rooms.painting import SIZE, hsv
from openrayzer.data.synthetic_rooms.renderer import Hits, trace
from openrayzer.data.synthetic_rooms.scenes import FilmPlan, FilmSettings, plan_film
from openrayzer.data.synthetic_rooms.surfaces import CYLINDER, ELLIPSE, RECTANGLE, SPHERE, Collector, Frame, Look
from openrayzer.data.synthetic_rooms.textures import TILED
from openrayzer.geometry.rays import project, ray_directions
from openrayzer.types import Cameras

SETTINGS = FilmSettings(4, 2, 12, (72, 96), 1.0, 0, focal_range=(0.65, 0.9), exposure=0.0)


@pytest.fixture(scope="module")
def clip() -> FilmPlan:
    return plan_film(SETTINGS, 0)


def hits_of(clip: FilmPlan, frame: int, size: tuple[int, int] = SETTINGS.image_size) -> Hits:
    return trace(clip.room.surfaces, clip.c2w[frame], clip.intrinsics, size=size)


def cameras_of(clip: FilmPlan, frame: int) -> Cameras:
    c2w, intrinsics = torch.from_numpy(clip.c2w[frame]), torch.from_numpy(clip.intrinsics)
    return Cameras(c2w[None, None].float(), intrinsics[None, None].float())


def points_of(clip: FilmPlan, frame: int, hits: Hits) -> np.ndarray:
    """World points (h, w, 3) that a view sees, computed with the rays of the geometry package."""
    height, width = hits.surface.shape
    rays = ray_directions(cameras_of(clip, frame), (height, width))[0, 0].permute(1, 2, 0).numpy()
    along = rays @ clip.c2w[frame, :3, 2]
    return clip.c2w[frame, :3, 3] + rays / (along * hits.inverse_depth)[..., None]


def land(clip: FilmPlan, points: np.ndarray, frame: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image positions (n, 2) in [0, 1] of points (n, 3), their depths, and whether they lie inside the image."""
    at = project(torch.from_numpy(points[None, None]).float(), cameras_of(clip, frame))[0, 0].numpy()
    depth = (points - clip.c2w[frame, :3, 3]) @ clip.c2w[frame, :3, 2]
    return at, depth, (depth > 0) & (at > 0.01).all(axis=-1) & (at < 0.99).all(axis=-1)


def test_every_ray_meets_something(clip):
    for frame in range(SETTINGS.num_frames):
        hits = hits_of(clip, frame)
        assert (hits.surface >= 0).all()
        assert np.isfinite(hits.inverse_depth).all()
        for place in (hits.u, hits.v):
            assert place.min() >= 0
            assert place.max() <= 1


def test_hits_lie_on_the_surfaces_they_name(clip):
    seen = set()
    for film, frame in product((clip, plan_film(SETTINGS, 1), plan_film(SETTINGS, 3)), (0, 11)):
        hits = hits_of(film, frame)
        points = points_of(film, frame, hits).reshape(-1, 3)
        on_surface, _ = film.room.surfaces.points(hits.surface.ravel(), hits.u.ravel(), hits.v.ravel())
        assert np.abs(points - on_surface).max() < 5e-3
        seen |= set(film.room.surfaces.kind[hits.surface].ravel().tolist())
    assert seen == {RECTANGLE, ELLIPSE, SPHERE, CYLINDER}


def one_ray(clip: FilmPlan, frame: int, at: np.ndarray) -> float:
    """Exact depth of a view at the image position ``at``, from a picture of one pixel that is moved there."""
    intrinsics = clip.intrinsics.copy()
    intrinsics[2:] += 0.5 - at
    return 1 / float(trace(clip.room.surfaces, clip.c2w[frame], intrinsics, size=(1, 1)).inverse_depth[0, 0])


def test_a_point_of_one_view_is_drawn_or_hidden_in_another(clip):
    points = points_of(clip, 0, hits_of(clip, 0)).reshape(-1, 3)
    points = points[np.random.default_rng(0).permutation(len(points))[:400]]
    at, depth, inside = land(clip, points, 11)
    drawn = np.array([one_ray(clip, 11, place) for place in at[inside]])
    assert (drawn < depth[inside] + 5e-3).mean() > 0.995  # nothing shows through
    visible = np.abs(drawn - depth[inside]) < 5e-3
    assert 0.3 < visible.mean() < 1.0  # and something is hidden


def test_a_point_has_the_same_colour_in_every_view(clip):
    size = (288, 384)
    first, second = (clip.room.view(clip.c2w[frame], clip.intrinsics, size=size) for frame in (0, 6))
    hits, other = hits_of(clip, 0, size), hits_of(clip, 6, size)
    at, depth, inside = land(clip, points_of(clip, 0, hits).reshape(-1, 3), 6)
    columns, rows = (at[inside] * (size[1], size[0])).astype(int).T
    visible = np.abs(1 / other.inverse_depth[rows, columns] - depth[inside]) < 0.02
    seen = first.reshape(-1, 3)[inside][visible].astype(float)
    found = second[rows, columns][visible].astype(float)
    error = np.abs(seen - found).mean(axis=-1)
    assert visible.mean() > 0.3
    assert np.median(error) < 6  # of 255: texture is sampled at other places and mip levels
    shuffled = np.random.default_rng(0).permutation(len(found))
    assert np.median(np.abs(seen - found[shuffled]).mean(axis=-1)) > 5 * np.median(error)


def test_rooms_repeat_by_seed_and_number_only(clip):
    more = replace(SETTINGS, num_train=900, num_test=5)
    again = plan_film(more, 0)
    picture = clip.room.view(clip.c2w[3], clip.intrinsics, size=(72, 96))
    np.testing.assert_array_equal(picture, again.room.view(again.c2w[3], again.intrinsics, size=(72, 96)))
    for other in (plan_film(SETTINGS, 5), plan_film(replace(SETTINGS, seed=1), 0)):
        assert other.c2w.shape == clip.c2w.shape
        assert not np.allclose(other.c2w, clip.c2w)
        assert len(other.room.surfaces) != len(clip.room.surfaces)


def test_pictures_show_a_room_and_not_a_blank_wall():
    for number in range(3):
        film = plan_film(SETTINGS, number)
        picture = film.room.view(film.c2w[0], film.intrinsics, size=(72, 96))
        assert picture.shape == (72, 96, 3)
        assert picture.std(axis=(0, 1)).mean() > 15
        assert len(np.unique(hits_of(film, 0).surface)) > 10
        assert 20 < picture.mean() < 235


def test_every_kind_of_surface_is_met_where_geometry_says():
    room, frame, look = Collector(np.random.default_rng(0)), Frame(), Look(0)
    room.box(frame, (3.0, 0.0, 0.0), (0.4, 0.6, 0.6), look)
    room.sphere(frame, (0.0, 3.0, 0.0), 0.5, look)
    room.cylinder(frame, (-3.0, 0.0, 0.0), 0.25, 1.0, look)
    room.lying(frame, (0.0, 0.0, -2.0), (1.0, 1.0), look, kind=ELLIPSE)
    surfaces = room.surfaces()
    expected = {0: ((1, 0, 0), RECTANGLE, 2.8), 1: ((0, 1, 0), SPHERE, 2.5), 2: ((-1, 0, 0), CYLINDER, 2.75),
                3: ((0, 0, -1), ELLIPSE, 2.0)}  # fmt: skip
    for direction, kind, distance in expected.values():
        forward = np.array(direction, float)
        right = np.array([0.0, 0.0, 1.0]) if abs(forward[2]) < 0.5 else np.array([1.0, 0.0, 0.0])
        c2w = np.eye(4)
        c2w[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=-1)
        hits = trace(surfaces, c2w, np.array([4.0, 4.0, 0.5, 0.5]), size=(9, 9))
        assert surfaces.kind[hits.surface[4, 4]] == kind
        assert 1 / hits.inverse_depth[4, 4] == pytest.approx(distance, abs=1e-4)


def test_light_falls_off_into_corners_and_shadows():
    room = Collector(np.random.default_rng(0))
    floor = Look(0)
    room.lying(Frame((2.0, 2.0, 0.0)), (0, 0, 0), (4.0, 4.0), floor, kind=RECTANGLE)
    room.box(Frame((2.0, 2.0, 0.0)), (0, 0, 1.0), (1.0, 1.0, 0.1), floor)  # a board that floats above the floor
    lamp = Light(np.array([[2.0, 2.0, 2.4]]), np.ones(3), np.zeros(3))
    surfaces = room.surfaces()
    corners = np.array([[0.0, 0.0, 0.0], [4.0, 4.0, 2.5]])
    light = bake(surfaces, room, [lamp], room=corners, ambient=np.full(3, 0.1), exposure=0.7)
    rows, columns = int(light.height[0]), int(light.width[0])
    ground = light.picture[:rows, :columns].mean(axis=-1)
    assert ground[rows // 2, columns // 2] < 0.8 * ground[rows // 2, columns // 8]  # below the board
    assert ground[0, 0] < ground[rows // 6, columns // 6]  # the corner
    assert np.isfinite(light.picture).all()


def test_textures_are_colours_and_tiled_ones_have_no_seam():
    generator = np.random.default_rng(0)
    for name, recipe in TEXTURES.items():
        texture = recipe(generator, hsv(0.1, 0.4, 0.6))
        assert texture.shape == (SIZE, SIZE, 3), name
        assert texture.dtype == np.float32, name
        assert np.isfinite(texture).all(), name
        assert texture.std() > 0.005, name
        if name in ("plaster", "carpet", "wood", "marble", "terrazzo", "stones", "blobs"):
            inside = np.abs(np.diff(texture, axis=1)).mean()
            seam = np.abs(texture[:, 0] - texture[:, -1]).mean()
            assert seam < 3 * inside, name
    assert TEXTURES.keys() > TILED.keys()


def test_the_atlas_returns_each_texture_at_each_level():
    colours = [hsv(hue, 0.5, 0.8) for hue in (0.0, 0.3, 0.6)]
    atlas = build_atlas([np.tile(colour, (SIZE, SIZE, 1)) for colour in colours], [True, False, True])
    for number, colour in enumerate(colours):
        for level in range(7):
            for u in (0.0, 0.5, 1.0):
                x, y = atlas.coordinates(
                    np.array([[number]]), np.array([[level]]), np.float32([[u]]), np.float32([[u]])
                )
                texel = atlas.picture[int(np.floor(y[0, 0])), int(np.floor(x[0, 0]))]
                np.testing.assert_allclose(texel, colour * 255, atol=1)


def test_the_fastest_motion_of_the_settings_has_paths():
    for number in range(2):
        fast = plan_film(replace(SETTINGS, motion=10.0, num_frames=40), number)
        assert np.isfinite(fast.c2w).all()
