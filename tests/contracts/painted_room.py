"""Clips of empty rooms with painted walls, exact and made in no time: for models that find cameras by geometry."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.geometry.rays import ray_directions
from openrayzer.geometry.rotations import pose_from, so3_exp
from openrayzer.types import Cameras, Views

HALF = torch.tensor([2.0, 1.2, 2.0])
"""Half of the width, height and length of a room; the world's origin is its centre."""
NUM_WAVES = 24
"""Number of waves of each colour channel."""


def painted_rooms(num_clips: int, *, image_size: tuple[int, int], num_views: int = 6) -> Views:
    """One clip per room: a hand-held camera moves sideways and turns a little; every second view is a target."""
    generator = torch.Generator().manual_seed(11)
    cameras = _walk(num_clips, num_views, generator)
    images = torch.stack([_painted(points, generator) for points in _walls(cameras, image_size)])
    return Views(
        images=images.movedim(-1, 2).contiguous(),
        frames=torch.arange(num_views).repeat(num_clips, 1),
        context=torch.arange(0, num_views, 2).repeat(num_clips, 1),
        target=torch.arange(1, num_views, 2).repeat(num_clips, 1),
        scenes=tuple(f"room {number}" for number in range(num_clips)),
        cameras=cameras,
    )


def _walk(num_clips: int, num_views: int, generator: torch.Generator) -> Cameras:
    """Steps to the right or left, with steps and turns of random size; the rooms differ in the first direction."""

    def some(*shape: int) -> Tensor:
        return torch.randn(num_clips, *shape, generator=generator)

    side = torch.where(some(1) > 0, 1.0, -1.0)
    along = side * (torch.linspace(-0.3, 0.3, num_views) + 0.02 * some(num_views))
    centres = torch.stack([along, 0.05 * some(num_views), 0.05 * some(num_views)], dim=-1)
    turns = 0.03 * some(num_views, 3)
    turns[..., 1] += 0.5 * some(1) - 0.2 * along
    return Cameras(
        pose_from(so3_exp(turns), centres), torch.tensor([1.0, 1.0, 0.5, 0.5]).expand(num_clips, num_views, 4)
    )


def _walls(cameras: Cameras, image_size: tuple[int, int]) -> Float[Tensor, "b v h w 3"]:
    """The point of a wall, the floor or the ceiling that each pixel sees."""
    rays = ray_directions(cameras, image_size).movedim(2, -1)
    centres = cameras.c2w[:, :, None, None, :3, 3]
    distance = ((HALF * rays.sign() - centres) / rays).amin(dim=-1, keepdim=True)
    return centres + distance * rays


def _painted(points: Float[Tensor, "v h w 3"], generator: torch.Generator) -> Float[Tensor, "v h w 3"]:
    """Colours in [0, 1]: sums of waves with random directions, and lengths from 0.3 to 3."""
    directions = torch.nn.functional.normalize(torch.randn(3, NUM_WAVES, 3, generator=generator), dim=-1)
    lengths = 0.3 * 10 ** torch.rand(3, NUM_WAVES, 1, generator=generator)
    phases = torch.einsum("vhwk, cnk -> vhwcn", points, 2 * math.pi * directions / lengths)
    waves = (phases + 2 * math.pi * torch.rand(3, NUM_WAVES, generator=generator)).sin()
    return (0.5 + 0.35 * (2 / NUM_WAVES) ** 0.5 * waves.sum(dim=-1)).clamp(0, 1)
