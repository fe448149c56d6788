"""The rasteriser "torch" with the extent of gsplat 1.4.0 reproduces its recorded images and gradients."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from openrayzer.components.rasterisers.tiled import TiledRasteriser
from openrayzer.geometry.rotations import se3_exp
from openrayzer.interfaces import Gaussians
from openrayzer.types import Cameras

FILE = Path(__file__).parents[4] / "shared" / "golden" / "gaussian_raster_tiny.safetensors"
CASES = ("overlapping", "border", "sizes", "opaque", "tiles", "colours")
GRADIENTS = ("means", "quats", "scales", "opacities", "sh", "fxfycxcy", "twist")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("dtype", "image", "gradient"),
    [
        (torch.float32, 1e-5, 1e-4),
        (torch.float64, 1e-6, 5e-6),  # the recorded poses are float32, and their rotations are as exact as that
    ],
    ids=["float32", "float64"],
)
def test_images_and_gradients_are_the_recorded_ones(case: str, dtype: torch.dtype, image: float, gradient: float):
    if not FILE.is_file():
        pytest.skip(f"needs {FILE.name} in shared/ beside the project")
    with safe_open(FILE, "pt") as recorded:
        setting = json.loads(recorded.metadata()["config"])["config"]["cases"][case]
        inputs, outputs = (
            {
                name.rpartition(".")[2]: recorded.get_tensor(name)
                for name in recorded.keys()  # noqa: SIM118  not a mapping
                if name.startswith(f"{side}/{case}.")
            }
            for side in ("in", "out")
        )
    given = {name: value.to(dtype).requires_grad_() for name, value in inputs.items()}
    given["twist"] = torch.zeros(len(given["c2w"]), 6, dtype=dtype, requires_grad=True)
    width, height = setting["width"], setting["height"]
    intrinsics = given["fxfycxcy"] / torch.tensor([width, height, width, height], dtype=dtype)
    gaussians = Gaussians(*(given[name][None] for name in ("means", "scales", "quats", "opacities", "sh")))
    views = TiledRasteriser(near=setting["near_plane"], extent="three_sigma").rasterise(
        gaussians,
        Cameras((given["c2w"] @ se3_exp(given["twist"]))[None], intrinsics[None]),
        (height, width),
        background=given["background"][None],
    )
    torch.testing.assert_close(views.images[0].double(), outputs["render"], atol=image, rtol=0)
    torch.testing.assert_close(views.opacity[0, :, 0].double(), outputs["alpha"], atol=image, rtol=0)
    found = torch.autograd.grad((views.images[0] * given["cotangent"]).sum(), [given[name] for name in GRADIENTS])
    for name, one in zip(GRADIENTS, found, strict=True):
        true = outputs[f"grad_{name}"]
        assert (one.double() - true).abs().max() <= gradient * true.abs().max(), name
