"""A model of constant depth, photos of visitors, a studio that offers the model, and a served page in a browser."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tool_runs import make_run
from torch import Tensor, nn

from openrayzer.interfaces import Model
from openrayzer.models.token_scene import TokenScene
from openrayzer.types import Cameras
from openrayzer.web.loaded_models import LoadedModel
from openrayzer.web.studio import Studio

DEPTH = 2.0
ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


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


@dataclass(frozen=True)
class Served:
    """A served page.

    Attributes:
        address: its address.
        folder: the temporary folder of the server, which holds the folders of visitors.
    """

    address: str
    folder: Path


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A page with a geometric model and a model without depth, both with random weights, and without a network."""
    pytest.importorskip("gradio", reason="needs gradio: pip install -e '.[web]'")
    folder = tmp_path_factory.mktemp("page")
    run = make_run(folder / "geometric", "data.workers=0", experiment=ROOT / "experiments/rayzer_demo.json")
    flat = make_run(folder / "flat")
    (folder / "temporary").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = (sys.executable, "-u", "-m", "openrayzer.cli", "demo", "--port", port, "--device", "cpu", "--run")
    environment = os.environ | {"TMPDIR": str(folder / "temporary"), "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(
        [*command, str(run), str(flat)], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment
    ) as server:
        assert server.stdout is not None
        try:
            yield Served(server.stdout.readline().split()[-1], folder / "temporary")
        finally:
            server.terminate()
            assert server.wait(timeout=120) == 143
            assert not [*(folder / "temporary").glob("openrayzer_web_*")]


@pytest.fixture(scope="session")
def address(served: Served) -> str:
    """The address of the served page."""
    return served.address


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()
