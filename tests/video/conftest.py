"""Cameras, images on disk, and a model that records its calls."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from openrayzer.data.chunk_files.format import ChunkScene, cameras_to_rows, write_chunk
from openrayzer.geometry.rotations import pose_from, so3_exp
from openrayzer.interfaces import Model
from openrayzer.models.token_scene import TokenScene
from openrayzer.types import Cameras


class CountingModel(Model):
    """Renders a colour that depends on the camera position, and records every call."""

    posed = False
    patch_size = 4

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.calls: list[str] = []
        self.given: list[Tensor | None] = []

    def estimate(self, images: Tensor, intrinsics: Tensor | None = None) -> Cameras:
        self.calls.append("estimate")
        self.given.append(intrinsics)
        return some_cameras(images.shape[1])

    def reconstruct(self, images: Tensor, cameras: Cameras, index: Tensor | None = None) -> TokenScene:
        self.calls.append("reconstruct")
        size = (images.shape[3], images.shape[4])
        return TokenScene(cameras.c2w[..., :3, 3], torch.zeros(1, images.shape[1], 2), image_size=size)

    def render(self, scene: TokenScene, cameras: Cameras) -> Tensor:
        self.calls.append("render")
        colour = 0.5 + 0.1 * cameras.c2w[..., :3, 3] + 0.01 * scene.tokens.mean()
        return colour[..., None, None].expand(*colour.shape, *scene.image_size)


def some_cameras(views: int) -> Cameras:
    """Return cameras of one clip with random poses and intrinsics."""
    generator = torch.Generator().manual_seed(0)
    turns = 0.5 * torch.randn(1, views, 3, generator=generator)
    centres = torch.randn(1, views, 3, generator=generator)
    intrinsics = torch.tensor([0.8, 1.1, 0.5, 0.5]) + 0.05 * torch.randn(1, views, 4, generator=generator)
    return Cameras(pose_from(so3_exp(turns), centres), intrinsics)


def write_image(file: Path, value: int, *, size: tuple[int, int] = (24, 32)) -> None:
    """Write an image of one RGB colour, (value, 255 - value, 7)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image = np.empty((*size, 3), np.uint8)
    image[:] = (7, 255 - value, value)  # OpenCV's order is blue, green, red
    assert cv2.imwrite(str(file), image)


@pytest.fixture
def counting() -> CountingModel:
    """Return a ``CountingModel``."""
    return CountingModel().eval()


@pytest.fixture
def make_cameras() -> Callable[[int], Cameras]:
    """Return ``some_cameras``."""
    return some_cameras


@pytest.fixture
def make_image() -> Callable[..., None]:
    """Return ``write_image``."""
    return write_image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of six images; image i has red 40 * i."""
    for place in range(6):
        write_image(tmp_path / "photos" / f"photo_{place}.png", 40 * place)
    return tmp_path / "photos"


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Return a folder of chunks with two held-out scenes of 5 frames; frame i of "attic" has red 40 * i."""
    c2w, intrinsics = (part[0].numpy() for part in (some_cameras(5).c2w, some_cameras(5).intrinsics))
    scenes = []
    for name, red in (("attic", 40), ("cellar", 10)):
        frames = [np.full((24, 32, 3), (7, 0, red * frame), np.uint8) for frame in range(5)]
        encoded = [cv2.imencode(".png", frame)[1].tobytes() for frame in frames]
        scenes.append(ChunkScene(name, cameras_to_rows(c2w, intrinsics), encoded, np.arange(5)))
    write_chunk(tmp_path / "rooms/test/000000.torch", scenes)
    return tmp_path / "rooms"
