"""An evaluation counts the Gaussians of a model, times its renderings, and plots centres beside the cameras."""

import json
from collections.abc import Callable
from pathlib import Path

import torch

from openrayzer.evaluation.results.printed_table import result_table
from openrayzer.evaluation.scenes.gaussian_figures import CENTRES, gaussian_centres, gaussian_numbers
from openrayzer.geometry.similarity import Similarity
from openrayzer.interfaces import Gaussians, GaussianScene
from openrayzer.models.token_scene import TokenScene

TINY = json.loads((Path(__file__).parents[1] / "training/tiny_rayzer.json").read_text())


def some_scene(count: int = 2000) -> GaussianScene:
    """Two scenes of Gaussians; those of the second are red, and every fourth of them is transparent."""
    opacities = torch.full((2, count), 0.5)
    opacities[1, ::4] = 0.003
    harmonics = torch.zeros(2, count, 1, 3)
    harmonics[1, :, 0] = torch.tensor([10.0, -10.0, -10.0])
    means = torch.arange(float(count))[None, :, None] * torch.tensor([1.0, 2.0, 3.0])
    gaussians = Gaussians(
        means.expand(2, -1, -1), torch.ones(2, count, 3), torch.ones(2, count, 4), opacities, harmonics
    )
    return GaussianScene(gaussians, image_size=(8, 8))


def test_gaussians_are_counted_by_scene():
    scenes = {
        "joint": some_scene(),
        "context_only": TokenScene(torch.zeros(2, 1, 4), torch.zeros(2, 1, 2), image_size=(8, 8)),
    }
    assert gaussian_numbers(scenes, 0) == {"joint": {"gaussians": 2000, "gaussians_transparent": 0}}
    assert gaussian_numbers(scenes, 1) == {"joint": {"gaussians": 2000, "gaussians_transparent": 0.25}}


def test_centres_are_clear_gaussians_in_the_frame_of_the_plot():
    half = Similarity(torch.eye(3)[[1, 2, 0]][None], torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([0.5]))
    found = gaussian_centres(some_scene(), 1, half)
    assert len(found["positions"]) == len(found["colours"]) == CENTRES
    assert set(found["colours"]) == {"#ff0000"}
    places = torch.tensor(found["positions"])
    numbers = places[:, 0]  # 0.5 times y, which is twice the number of the Gaussian
    wanted = torch.stack([numbers, 1.5 * numbers, 0.5 * numbers + 1], dim=1)
    torch.testing.assert_close(places, wanted, rtol=1e-3, atol=0)  # four digits
    assert (numbers[0], numbers[-1]) == (1, 1999)
    assert not (numbers % 4 == 0).any()
    assert gaussian_centres(some_scene(2), 0, None)["positions"] == [[0, 0, 0], [1, 2, 3]]


def test_the_evaluation_of_an_explicit_model_shows_its_gaussians(
    make_run: Callable[..., Path], evaluate: Callable[..., dict], tmp_path: Path
):
    renderer = {"type": "gaussians", "rasteriser": {"type": "torch"}, "harmonics_degree": 0}
    metrics = evaluate(make_run(TINY["model"] | {"renderer": renderer, "num_latents": 0}), pictures=1, sweep=())
    row = metrics["gaussians"]["joint"]
    assert row["gaussians"]["mean"] == 3 * 24 * 32
    assert 0 <= row["gaussians_transparent"]["mean"] < 0.5
    rate = metrics["seconds"]["rendering"]
    assert rate["views_per_second"] * rate["total"] > 23  # 3 scenes, 2 targets, 2 placements, own and exchanged cameras
    first = next(iter(metrics["per_scene"].values()))
    assert set(first["gaussian_centres"]) == {"joint", "context_only"}
    assert len(first["gaussian_centres"]["joint"]["colours"]) <= CENTRES
    assert metrics["depth"]["joint"]["depth_abs_rel"]["mean"] > 0
    page = (tmp_path / "out/report.html").read_text()
    for words in ("Share that is transparent", "views per second", '"centres":{"joint":{"positions"', "joint_depth"):
        assert words in page
    assert "joint: 2304 Gaussians for each scene" in result_table(metrics, tmp_path)
