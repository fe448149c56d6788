"""A model of constant depth, photos of visitors, and a studio that offers the model."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from openrayzer.interfaces import Model
from openrayzer.models.token_scene import TokenScene
from openrayzer.types import Cameras
from openrayzer.web.loaded_models import LoadedModel
from openrayzer.web.studio import Studio

DEPTH = 2.0


class WallModel(Model):
    """Cameras in a row look at a wall; a view's red value is the position of its camera, up to a factor."""

    posed = False

    def __init__(self, *, depth: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.depth = depth

    def estimate(self, images: Tensor, intrinsics: Tensor | None = None) -> Cameras:
        views = images.shape[1]
        c2w = torch.eye(4).repeat(1, views, 1, 1)
        c2w[0, :, 0, 3] = torch.arange(views) * 0.1
        return Cameras(c2w, torch.tensor([1.0, 1.5, 0.5, 0.5]).repeat(1, views, 1))

    def reconstruct(self, images: Tensor, cameras: Cameras, index: Tensor | None = None) -> TokenScene:
        size = (images.shape[3], images.shape[4])
        return TokenScene(cameras.c2w[..., :3, 3], torch.zeros(1, images.shape[1], 2), image_size=size)

    def render(self, scene: TokenScene, cameras: Cameras) -> Tensor:
        height, width = scene.image_size
        red = cameras.c2w[..., 0, 3]
        colour = torch.stack([red, 0 * red, 0 * red], dim=-1)
        return colour[..., None, None].expand(*colour.shape, height, width)

    def render_maps(self, scene: TokenScene, cameras: Cameras) -> dict[str, Tensor]:
        views, (height, width) = cameras.num_views, scene.image_size
        return {"depth": torch.full((1, views, 1, height, width), DEPTH)} if self.depth else {}


def write_photo(file: Path, value: int = 100, *, size: tuple[int, int] = (32, 48)) -> Path:
    """Write a photo of one grey value and return its path."""
    assert cv2.imwrite(str(file), np.full((*size, 3), value, np.uint8))
    return file


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Four photos, as a browser sends them: with any names."""
    names = ("a 1.JPG", "bän (2).png", "c.webp", "d.jpeg")
    return [write_photo(tmp_path / name, 60 * place) for place, name in enumerate(names)]


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    """A studio with the models "wall", which has depth, and "flat", which has none; both want 16 x 24 pixels."""
    studio = Studio({}, folder=str(tmp_path / "studio"), device="cpu", hub=False)
    for name, depth in (("wall", True), ("flat", False)):
        studio.models._loaded[name] = LoadedModel(
            model=WallModel(depth=depth).eval(), name=name, image_size=(16, 24), num_views=3, scene_scale=None
        )
    return studio
