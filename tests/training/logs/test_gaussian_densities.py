"""metrics.jsonl shows how many Gaussians are seen and transparent, and their mean opacity and scale."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from openrayzer.interfaces import RASTERISERS, RENDERERS, Gaussians
from openrayzer.training.logs.gaussian_densities import FIGURES, GaussianDensities
from openrayzer.types import Cameras

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]
TINY = Path(__file__).parents[1] / "tiny_rayzer.json"
EXPLICIT = (
    'model.renderer={"type": "gaussians", "rasteriser": {"type": "torch"}, "harmonics_degree": 0}',
    "model.num_latents=0",
)


def test_figures_are_those_of_the_drawn_gaussians():
    renderer = RENDERERS["gaussians"](width=32, patch_size=8, rasteriser=RASTERISERS["torch"]())
    means = torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.0, -2.0], [9.0, 0.0, 2.0], [0.1, 0.0, 3.0]])
    gaussians = Gaussians(
        means=means[None],
        scales=torch.full((1, 4, 3), 0.05),
        rotations=torch.ones(1, 4, 4),
        opacities=torch.tensor([[0.5, 0.7, 0.3, 0.001]]),
        harmonics=torch.zeros(1, 4, 1, 3),
    )
    cameras = Cameras(torch.eye(4)[None, None], torch.tensor([[[1.0, 1.0, 0.5, 0.5]]]))
    densities = GaussianDensities(torch.nn.Sequential(renderer))
    with densities.watching(True):
        renderer(gaussians, cameras, (16, 16))
    found = {name: float(value) for name, value in densities.figures().items()}
    assert found == pytest.approx(dict(zip(FIGURES, (0.25, 0.25, 1.501 / 4, 0.05), strict=True)))
    with densities.watching(False):
        renderer(gaussians, cameras, (16, 16))
    assert densities.figures() == {}


@pytest.mark.usefixtures("rooms")
def test_each_line_of_a_run_with_gaussians_has_the_figures(train_file: Callable[..., int], tmp_path: Path):
    train_file(TINY, tmp_path / "run", *EXPLICIT, "train.steps=3", "train.log_every=2", "train.accumulation=1")
    text = (tmp_path / "run/metrics.jsonl").read_text()
    lines = [line for line in map(json.loads, text.splitlines()) if line["split"] == "train"]
    assert [line["step"] for line in lines] == [2, 3]
    for line in lines:
        assert 0.3 < line["gaussians_seen"] <= 1
        assert line["gaussians_transparent"] == 0
        assert line["gaussians_opacity"] == pytest.approx(1 / (1 + math.exp(2)), rel=0.5)
        assert line["gaussians_scale"] == pytest.approx(math.exp(-3), rel=0.5)
