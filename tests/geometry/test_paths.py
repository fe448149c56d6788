"""Camera paths: rigid poses, number of frames, smoothness, closed paths, degenerate views."""

import math

import pytest
import torch

from openrayzer.geometry.focus import camera_distance, extent_of, look_at, pivot_of
from openrayzer.geometry.paths import interpolate_path, orbit_path, spiral_path, wobble_path
from openrayzer.geometry.poses import interpolate_cameras
from openrayzer.geometry.rotations import geodesic_angle, pose_from, so3_exp
from openrayzer.types import Cameras

PATHS = {
    "interpolate": interpolate_path,
    "interpolate, speed": lambda cameras, n: interpolate_path(cameras, n, pace="speed"),
    "interpolate, loop": lambda cameras, n: interpolate_path(cameras, n, loop=True),
    "interpolate, loop, speed": lambda cameras, n: interpolate_path(cameras, n, loop=True, pace="speed"),
    "orbit": orbit_path,
    "arc": lambda cameras, n: orbit_path(cameras, n, arc=1.0),
    "swing": lambda cameras, n: orbit_path(cameras, n, arc=1.0, loop=True),
    "wobble": wobble_path,
    "spiral": spiral_path,
}
CLOSED = ["interpolate, loop", "interpolate, loop, speed", "orbit", "swing", "wobble", "spiral"]
UP = torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)


def some(views: int, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> Cameras:
    """Two clips of views with similar poses and different intrinsics."""
    generator = torch.Generator().manual_seed(seed)
    rotations = 0.4 * torch.randn(2, views, 3, generator=generator, dtype=torch.float64)
    centres = torch.randn(2, views, 3, generator=generator, dtype=torch.float64)
    intrinsics = 0.5 + torch.rand(2, views, 4, generator=generator, dtype=torch.float64)
    return Cameras(pose_from(so3_exp(rotations), centres).to(dtype), intrinsics.to(dtype))


def ring(views: int, *, radius: float = 2.0, height: float = 0.5) -> Cameras:
    """Views evenly around the point (1, 2, 3), all looking at it; the up direction of the world is -y."""
    target = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    angle = torch.arange(views, dtype=torch.float64) * math.tau / views
    offset = torch.stack([radius * angle.cos(), torch.full_like(angle, -height), radius * angle.sin()], dim=-1)
    intrinsics = torch.tensor([0.8, 0.9, 0.5, 0.5], dtype=torch.float64).expand(1, views, 4)
    return Cameras(look_at(target + offset, target, UP)[None], intrinsics)


def steps(path: Cameras, *, closed: bool = False) -> torch.Tensor:
    """Distances between the centres of consecutive cameras."""
    centre = path.c2w[..., :3, 3]
    following = centre.roll(-1, dims=1)
    gaps = (following - centre).norm(dim=-1)
    return gaps if closed else gaps[:, :-1]


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize(("views", "num_frames"), [(1, 1), (1, 11), (2, 2), (3, 11), (7, 1)])
def test_a_path_has_num_frames_rigid_finite_cameras(name: str, views: int, num_frames: int):
    cameras = some(views, dtype=torch.float32)
    path = PATHS[name](cameras, num_frames)
    assert (path.c2w.shape, path.intrinsics.shape) == ((2, num_frames, 4, 4), (2, num_frames, 4))
    assert path.c2w.dtype == torch.float32
    assert path.c2w.isfinite().all()
    rotation = path.c2w[..., :3, :3]
    assert torch.allclose(rotation @ rotation.mT, torch.eye(3), atol=1e-5)
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(2, num_frames), atol=1e-5)
    assert (path.c2w[..., 3, :] == torch.tensor([0.0, 0.0, 0.0, 1.0])).all()
    low, high = cameras.intrinsics.aminmax(dim=1, keepdim=True)
    assert ((path.intrinsics >= low - 1e-6) & (path.intrinsics <= high + 1e-6)).all()


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("equal", ["poses", "centres"])
def test_views_with_equal_poses_or_centres_give_a_finite_path(name: str, equal: str):
    cameras = some(4, dtype=torch.float32)
    c2w = cameras.c2w.clone()
    c2w[:, :, :3, 3] = c2w[:, :1, :3, 3]
    if equal == "poses":
        c2w = c2w[:, :1].expand(-1, 4, -1, -1)
    path = PATHS[name](Cameras(c2w, cameras.intrinsics), 9)
    assert path.c2w.isfinite().all()
    if name.startswith("interpolate"):
        assert torch.allclose(path.c2w[..., :3, 3], c2w[:, :1, :3, 3], atol=1e-6)


@pytest.mark.parametrize("name", PATHS)
def test_clips_of_a_batch_do_not_mix(name: str):
    cameras = some(5)
    both = PATHS[name](cameras, 8)
    for clip in range(2):
        alone = PATHS[name](Cameras(cameras.c2w[clip : clip + 1], cameras.intrinsics[clip : clip + 1]), 8)
        assert torch.allclose(alone.c2w[0], both.c2w[clip], atol=1e-9)


@pytest.mark.parametrize("name", PATHS)
def test_a_path_is_equivariant_to_the_world_frame_and_scale(name: str):
    cameras = some(5)
    motion = pose_from(so3_exp(torch.tensor([0.3, -1.0, 0.7]).double()), torch.tensor([4.0, -2.0, 1.0]).double())
    moved = cameras.c2w.clone()
    moved[..., :3, 3] *= 3
    expected = PATHS[name](cameras, 8).c2w.clone()
    expected[..., :3, 3] *= 3
    path = PATHS[name](Cameras(motion @ moved, cameras.intrinsics), 8)
    assert torch.allclose(path.c2w, motion @ expected, atol=1e-7)


@pytest.mark.parametrize("loop", [False, True])
def test_interpolation_passes_through_every_view(loop: bool):
    cameras = some(4)
    segments = 6 if loop else 3
    path = interpolate_path(cameras, 5 * segments + (not loop), loop=loop)
    assert torch.allclose(path.c2w[:, : 5 * 3 + 1 : 5], cameras.c2w, atol=1e-7)
    assert torch.allclose(path.intrinsics[:, : 5 * 3 + 1 : 5], cameras.intrinsics, atol=1e-7)
    if loop:  # the way back has the same centres
        assert torch.allclose(path.c2w[:, 1:, :3, 3], path.c2w[:, 1:, :3, 3].flip(1), atol=1e-7)
        assert torch.allclose(path.c2w[:, 20::5], cameras.c2w[:, [2, 1]], atol=1e-7)


def test_interpolation_of_two_views_is_the_geodesic():
    cameras = some(2)
    smooth, straight = interpolate_path(cameras, 9), interpolate_cameras(cameras, 9)
    assert torch.allclose(smooth.c2w, straight.c2w, atol=1e-7)
    assert torch.allclose(smooth.intrinsics, straight.intrinsics, atol=1e-7)


def test_interpolation_has_no_corners():
    """Velocities just before and just after a view are equal; those of piecewise geodesics are not."""
    cameras, fine = some(5), 3000

    def jump(c2w: torch.Tensor) -> float:
        view, between = 2 * fine, c2w[:, :-1, :3, :3].mT @ c2w[:, 1:, :3, :3]
        moves = torch.cat([between.flatten(2), c2w[:, 1:, :3, 3] - c2w[:, :-1, :3, 3]], dim=-1) * fine
        return float((moves[:, view] - moves[:, view - 1]).abs().max())

    assert jump(interpolate_path(cameras, 4 * fine + 1).c2w) < 0.02
    assert jump(interpolate_cameras(cameras, 4 * fine + 1).c2w) > 0.2


def test_interpolation_never_overshoots_views_on_a_line():
    """With uneven gaps, one of them 0, the path never moves backwards."""
    cameras = some(6)
    c2w = torch.eye(4, dtype=torch.float64).repeat(2, 6, 1, 1)
    c2w[:, :, 0, 3] = torch.tensor([0.0, 0.1, 5.0, 5.0, 5.2, 9.0], dtype=torch.float64)
    path = interpolate_path(Cameras(c2w, cameras.intrinsics), 501)
    assert (path.c2w[:, :, 0, 3].diff(dim=1) >= -1e-12).all()


@pytest.mark.parametrize("loop", [False, True])
def test_interpolation_at_constant_speed_takes_equal_steps(loop: bool):
    cameras = ring(12)
    uneven = [0, 1, 2, 4, 7, 8]
    cameras = Cameras(cameras.c2w[:, uneven], cameras.intrinsics[:, uneven])
    path = interpolate_path(cameras, 240, loop=loop, pace="speed").c2w
    extent = extent_of(cameras.c2w)[:, None]
    taken = camera_distance(path[:, :-1], path[:, 1:], extent)
    inside = taken if not loop else taken[:, torch.arange(239) % 120 != 119]  # steps around the reversal are shorter
    assert (inside.amax(1) / inside.amin(1) < 1.03).all()
    usual = interpolate_path(cameras, 240, loop=loop).c2w
    uneven = camera_distance(usual[:, :-1], usual[:, 1:], extent)
    assert (uneven.amax(1) / uneven.amin(1) > 1.3).all()


@pytest.mark.parametrize("name", CLOSED)
def test_a_closed_path_continues_from_its_last_frame_to_its_first(name: str):
    """The step from the last frame to the first is above 0 and no larger than the other steps."""
    taken = steps(PATHS[name](some(5), 200), closed=True)
    assert (taken[:, -1] <= taken[:, :-1].amax(1) * 1.01).all()
    assert (taken[:, -1] > 0).all()


@pytest.mark.parametrize("views", [3, 4, 12])
def test_an_orbit_through_a_ring_of_views_is_the_ring(views: int):
    cameras = ring(views)
    path = orbit_path(cameras, 4 * views)
    expected = cameras.c2w.roll(-(views // 2), dims=1)
    both = [path.c2w[:, ::4], path.c2w[:, ::4].flip(1).roll(1, dims=1)]  # the direction is free
    assert min(float((c2w - expected).abs().max()) for c2w in both) < 1e-9
    taken = steps(path, closed=True)
    assert torch.allclose(taken, taken[:, :1].expand_as(taken))


def test_an_orbit_has_constant_height_and_looks_at_the_pivot():
    cameras = some(5)
    path, pivot = orbit_path(cameras, 24).c2w, pivot_of(cameras.c2w)
    offset = pivot[:, None] - path[..., :3, 3]
    assert torch.allclose(path[..., :3, 2], offset / offset.norm(dim=-1, keepdim=True), atol=1e-9)
    up = -cameras.c2w[..., :3, 1].mean(dim=1, keepdim=True)
    height = (path[..., :3, 3] * up).sum(-1)
    assert torch.allclose(height, height[:, :1].expand_as(height))
    assert ((path[..., :3, 0] * up).sum(-1).abs() < 1e-9).all()
    assert ((path[..., :3, 1] * up).sum(-1) < 0).all()


def test_an_arc_is_centred_on_the_middle_view():
    path = orbit_path(ring(12), 31, arc=math.radians(60))
    assert torch.allclose(path.c2w[0, 15], ring(12).c2w[0, 6], atol=1e-9)
    assert math.isclose(float(geodesic_angle(path.c2w[0, 0, :3, :3], path.c2w[0, -1, :3, :3])), math.radians(60))
    swing = orbit_path(ring(12), 40, arc=math.radians(60), loop=True)
    assert torch.allclose(swing.c2w[0, [10, 30]].sum(0), path.c2w[0, [0, 30]].sum(0), atol=1e-9)


@pytest.mark.parametrize("arc", [0.0, -1.0, 7.0])
def test_an_arc_of_no_angle_or_more_than_a_circle_is_refused(arc: float):
    with pytest.raises(ValueError, match="arc must be above 0"):
        orbit_path(some(3), 4, arc=arc)


@pytest.mark.parametrize("name", PATHS)
def test_a_path_without_frames_is_refused(name: str):
    with pytest.raises(ValueError, match="num_frames must be 1 or more"):
        PATHS[name](some(3), 0)


def test_a_wobble_is_a_circle_around_the_middle_view():
    cameras = some(5)
    path = wobble_path(cameras, 12, share=0.05).c2w
    middle, centres = cameras.c2w[:, 2], cameras.c2w[..., :3, 3]
    offset = path[..., :3, 3] - middle[:, None, :3, 3]
    baseline = torch.cdist(centres, centres).amax(dim=(1, 2))
    assert torch.allclose(offset.norm(dim=-1), 0.05 * baseline[:, None].expand(-1, 12))
    assert torch.allclose((offset * middle[:, None, :3, 2]).sum(-1), torch.zeros(2, 12).double(), atol=1e-9)
    taken = steps(wobble_path(cameras, 12, turns=3), closed=True)
    assert torch.allclose(taken, taken[:, :1].expand_as(taken))


def test_a_spiral_moves_forward_and_back_while_it_circles():
    """The radii are those of a box of views, and the depth changes its sign once during two circles."""
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3)
    box = corners * torch.tensor([0.3, 0.2, 0.1], dtype=torch.float64)
    c2w = torch.eye(4, dtype=torch.float64).repeat(1, 8, 1, 1)
    c2w[0, :, :3, 3] = box
    path = spiral_path(Cameras(c2w, some(8).intrinsics[:1]), 80).c2w[0, :, :3, 3]
    assert torch.allclose(path.abs().amax(0), torch.tensor([0.3, 0.2, 0.1]).double(), atol=1e-3)
    crossings = (path.sign().diff(dim=0).abs() > 1).sum(0)
    assert crossings[0] > crossings[2] >= 1


def test_the_radius_of_a_wobble_of_one_view_is_a_share_of_the_distance_to_the_pivot():
    one_view = Cameras(torch.eye(4)[None, None], torch.ones(1, 1, 4))
    radius = wobble_path(one_view, 8, share=0.1).c2w[0, :, :3, 3].norm(dim=-1)
    assert torch.allclose(radius, torch.full((8,), 0.1))


def test_a_spiral_encloses_nine_tenths_of_the_views():
    c2w = torch.eye(4).repeat(1, 21, 1, 1)
    c2w[0, :, 0, 3] = torch.arange(-10.0, 11)
    spiral = spiral_path(Cameras(c2w, torch.ones(1, 21, 4)), 8)
    assert torch.allclose(spiral.c2w[0, 0, :3, 3], torch.tensor([9.0, 0, 0]), atol=1e-5)


def test_the_pivot_is_the_point_that_all_views_look_at():
    assert torch.allclose(pivot_of(ring(5).c2w), torch.tensor([[1.0, 2.0, 3.0]]).double())


@pytest.mark.parametrize("kind", ["parallel", "outward", "one view"])
def test_without_a_common_point_the_pivot_lies_in_front_of_the_mean_camera(kind: str):
    cameras = ring(5).c2w.clone()
    if kind == "parallel":
        cameras[..., :3, :3] = cameras[:, :1, :3, :3]
    if kind == "outward":  # on a circle, looking away from its centre
        angle = torch.linspace(-0.3, 0.3, 5, dtype=torch.float64)
        cameras[..., :3, :3] = so3_exp(torch.stack([torch.zeros(5).double(), angle, torch.zeros(5).double()], -1))[None]
        cameras[..., :3, 3] = 2 * cameras[..., :3, 2]
    if kind == "one view":
        cameras = cameras[:, :1]
    offset = pivot_of(cameras) - cameras[..., :3, 3].mean(dim=1)
    expected = 1.0 if kind == "one view" else 3 * float(extent_of(cameras))
    assert torch.allclose(offset.norm(dim=-1), torch.tensor([expected]).double())
    assert ((offset * cameras[..., :3, 2].mean(dim=1)).sum(-1) > 0).all()


def test_a_camera_that_looks_along_the_up_direction_is_rigid():
    pose = look_at(torch.zeros(1, 3), torch.tensor([[0.0, -2.0, 0.0]]), torch.tensor([[0.0, -1.0, 0.0]]))
    assert pose.isfinite().all()
    assert torch.allclose(torch.linalg.det(pose[..., :3, :3]), torch.ones(1))
