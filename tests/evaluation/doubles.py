"""A world with camera poses written into its images, a model that reads them, and models with shortcuts.

Every image shows the inside of a painted sphere. Its first row is grey and holds the true camera as numbers, between
two grey values of known brightness, so that it can still be read when brightness, contrast or saturation have changed.
"""

import hashlib

import torch
from einops import rearrange, repeat
from torch import Tensor

from openrayzer.geometry.rays import ray_directions
from openrayzer.geometry.rotations import pose_from, se3_exp
from openrayzer.geometry.similarity import Similarity, similarity_between
from openrayzer.interfaces import Model
from openrayzer.models.token_scene import TokenScene
from openrayzer.types import Cameras, Views

SIZE = (16, 24)
INTRINSICS = torch.tensor([0.8, 1.2, 0.5, 0.5])
RADIUS, REACH = 4.0, 8.0
DARK, BRIGHT = 0.35, 0.65
"""Range of the written numbers, inside of which changes of colour clip nothing."""


def draw(c2w: Tensor, world: Tensor) -> Tensor:
    """Images (b, v, 3, h, w) of the worlds with numbers ``world`` (b,), float32."""
    cameras = Cameras(c2w.double(), INTRINSICS.double().expand(*c2w.shape[:2], 4))
    direction = rearrange(ray_directions(cameras, SIZE), "b v xyz y x -> b v y x xyz")
    origin = cameras.c2w[:, :, None, None, :3, 3]
    along = (origin * direction).sum(-1, keepdim=True)
    distance = -along + (along.square() - origin.square().sum(-1, keepdim=True) + RADIUS**2).clamp(min=0).sqrt()
    waves = torch.tensor([[1.3, 0.4, -0.9], [-0.6, 1.5, 0.8], [0.9, -1.1, 1.2]], dtype=torch.float64)
    phase = world.double()[:, None, None, None, None] * torch.tensor([1.0, 2.3, 3.1], dtype=torch.float64)
    paint = 0.5 + 0.3 * (((origin + distance * direction) @ waves) + phase).sin() + 0.15 * (2 * phase).cos()
    images = rearrange(paint, "b v y x c -> b v c y x")
    images[..., 0, :] = _written(cameras.c2w, world)[:, :, None]
    return images.float()


def _written(c2w: Tensor, world: Tensor) -> Tensor:
    """The first row: dark, bright, twelve pose numbers, the world's number, dark to the end; (b, v, w)."""
    numbers = rearrange(c2w[..., :3, :], "b v i j -> b v (i j)") / REACH
    numbers = torch.cat([numbers, repeat(world.double() / REACH, "b -> b v 1", v=c2w.shape[1])], dim=-1)
    row = torch.full((*c2w.shape[:2], SIZE[1]), DARK, dtype=torch.float64)
    row[..., 1] = BRIGHT
    row[..., 2:15] = DARK + (BRIGHT - DARK) * (numbers + 1) / 2
    return row


def read(images: Tensor) -> tuple[Tensor, Tensor]:
    """True poses (b, v, 4, 4) and the worlds' numbers (b, v)."""
    row = images.double().mean(dim=2)[:, :, 0]
    dark, bright = row[..., :1], row[..., 1:2]
    numbers = (2 * (row[..., 2:15] - dark) / (bright - dark) - 1) * REACH
    top = rearrange(numbers[..., :12], "b v (i j) -> b v i j", i=3)
    return pose_from(top[..., :3], top[..., 3]), numbers[..., 12]


def true_path(frames: Tensor, world: int) -> Tensor:
    """A smooth path with turns, different in each world; (v, 4, 4)."""
    time = frames.double() / 10
    waves = [(0.5 * time * k + world).sin() for k in (1, 2, 3)]
    centre = torch.stack([time - 0.7, 0.4 * waves[0], 0.3 * waves[1]], dim=-1)
    turn = 0.4 * torch.stack([waves[1], waves[2], waves[0]], dim=-1)
    return pose_from(se3_exp(torch.cat([turn, torch.zeros_like(turn)], -1))[..., :3, :3], centre)


def clips(frames: list[list[int]], context: list[list[int]], target: list[list[int]]) -> Views:
    """One clip of each world 0, 1, ..., with positions on the view axis as given."""
    numbers = torch.tensor(frames)
    worlds = torch.arange(len(frames))
    c2w = torch.stack([true_path(row, world) for world, row in enumerate(numbers)])
    return Views(
        images=draw(c2w, worlds),
        frames=numbers,
        context=torch.tensor(context),
        target=torch.tensor(target),
        scenes=tuple(f"world {world}" for world in worlds.tolist()),
        cameras=Cameras(c2w.float(), INTRINSICS.expand(*numbers.shape, 4).contiguous()),
    )


class Double(Model):
    """Base class of the doubles: no weights, and a scene is a row of numbers."""

    posed = False
    patch_size = 1

    def reconstruct(self, images: Tensor, cameras: Cameras, index: Tensor | None = None) -> TokenScene:
        tokens = rearrange(self.remember(images, cameras), "b d -> b 1 d")
        return TokenScene(tokens, torch.zeros(*tokens.shape[:2], 2), image_size=SIZE)


class PerfectModel(Double):
    """True cameras in a frame and scale that depend on the set of images, and true renders."""

    def estimate(self, images: Tensor, intrinsics: Tensor | None = None) -> Cameras:
        poses, _ = read(images)
        whims = torch.stack([_whim(clip) for clip in poses])
        own = Similarity(se3_exp(whims[:, :6])[:, :3, :3], whims[:, 3:6], whims[:, 6].exp())
        return Cameras(own.poses(poses), INTRINSICS.double().expand(*poses.shape[:2], 4))

    def remember(self, images: Tensor, cameras: Cameras) -> Tensor:
        poses, worlds = read(images)
        back = similarity_between(cameras.c2w.double(), poses)
        return torch.cat([back.rotation.flatten(1), back.translation, back.scale[:, None], worlds[:, :1]], dim=-1)

    def render(self, scene: TokenScene, cameras: Cameras) -> Tensor:
        numbers = scene.tokens[:, 0]
        back = Similarity(numbers[:, :9].unflatten(1, (3, 3)), numbers[:, 9:12], numbers[:, 12])
        return draw(back.poses(cameras.c2w.double()), numbers[:, 13].round())


class IndexModel(Double):
    """Shortcut: cameras are on a line in the order of the views; a view between two context views is their mixture."""

    def estimate(self, images: Tensor, intrinsics: Tensor | None = None) -> Cameras:
        b, v = images.shape[:2]
        c2w = torch.eye(4).repeat(b, v, 1, 1)
        c2w[..., 0, 3] = torch.linspace(0, 1, v)
        return Cameras(c2w, INTRINSICS.expand(b, v, 4))

    def remember(self, images: Tensor, cameras: Cameras) -> Tensor:
        return torch.cat([cameras.c2w[..., 0, 3], images.flatten(1)], dim=-1)

    def render(self, scene: TokenScene, cameras: Cameras) -> Tensor:
        count = scene.tokens.shape[2] // (3 * SIZE[0] * SIZE[1])
        x, images = scene.tokens[:, 0, :count], scene.tokens[:, 0, count:].unflatten(1, (count, 3, *SIZE))
        distance = (cameras.c2w[..., 0, 3, None] - x[:, None]).abs()
        return torch.einsum("bts,bschw->btchw", (-40 * distance).softmax(dim=-1), images)


class CarryingModel(Double):
    """Shortcut: a pose contains the mean colour of its image, and the render has this colour.

    The middle view of the list is canonical, as in RayZer.
    """

    def estimate(self, images: Tensor, intrinsics: Tensor | None = None) -> Cameras:
        colour = images.double().mean(dim=(3, 4))
        colour[:, colour.shape[1] // 2] = 0
        axes = torch.eye(3, dtype=torch.float64).expand(*colour.shape[:2], 3, 3)
        return Cameras(pose_from(axes, colour), INTRINSICS.double().expand(*colour.shape[:2], 4))

    def remember(self, images: Tensor, cameras: Cameras) -> Tensor:
        return images.new_zeros(images.shape[0], 1)

    def render(self, scene: TokenScene, cameras: Cameras) -> Tensor:
        return repeat(cameras.c2w[..., :3, 3], "b v c -> b v c y x", y=SIZE[0], x=SIZE[1])


class BlindModel(PerfectModel):
    """Shortcut: true cameras, but every render is the mean of the context views."""

    def remember(self, images: Tensor, cameras: Cameras) -> Tensor:
        return images.mean(dim=1).flatten(1)

    def render(self, scene: TokenScene, cameras: Cameras) -> Tensor:
        return repeat(scene.tokens[:, 0].unflatten(1, (3, *SIZE)), "b c y x -> b v c y x", v=cameras.num_views)


class BrokenModel(PerfectModel):
    """A perfect model whose estimates in world 1 are NaN."""

    def estimate(self, images: Tensor, intrinsics: Tensor | None = None) -> Cameras:
        cameras = super().estimate(images)
        broken = read(images)[1].round() == 1
        c2w = cameras.c2w.masked_fill(broken[..., None, None], torch.nan)
        return Cameras(c2w, cameras.intrinsics.masked_fill(broken[..., None], torch.nan))


def _whim(poses: Tensor) -> Tensor:
    """Seven random numbers that depend on a set of poses and not on their order."""
    places = sorted(round(float(place), 3) for place in poses[:, :3, 3].sum(dim=-1))
    seed = int.from_bytes(hashlib.sha256(repr(places).encode()).digest()[:7], "little")
    return torch.randn(7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
