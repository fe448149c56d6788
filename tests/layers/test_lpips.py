"""Our LPIPS equals the lpips package, image by image, with the same random backbone."""

import warnings
from pathlib import Path

import lpips
import pytest
import torch
from torch import Tensor

from openrayzer.layers.lpips import Lpips


def package_network(net: str) -> lpips.LPIPS:
    """The network of the package with its calibrated heads and a random backbone that keeps the size of activations."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torchvision")  # lpips passes a deprecated argument
        network = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
    network.to_empty(device="cpu")
    heads = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{net}.pth"
    network.load_state_dict(torch.load(heads, map_location="cpu", weights_only=True), strict=False)
    network.scaling_layer = lpips.ScalingLayer()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.net.parameters():
            spread = (2 / weight[0].numel()) ** 0.5 if weight.ndim == 4 else 0.1
            weight.copy_(spread * torch.randn(weight.shape, generator=generator))
    return network.eval()


@pytest.mark.parametrize("net", ["vgg", "alex"])
def test_it_equals_the_package(net: str, tmp_path: Path):
    theirs, file = package_network(net), tmp_path / f"{net}.pth"
    # The name net.sliceS.N in the package is features.N in torchvision.
    backbone = {key.split(".", 2)[2]: value for key, value in theirs.state_dict().items() if key.startswith("net.")}
    torch.save({f"features.{name}": value for name, value in backbone.items()}, file)
    ours = Lpips(net=net, backbone=file)
    prediction, target = _images(0), _images(1)
    mixed = 0.7 * target + 0.3 * prediction
    with torch.no_grad():
        for first in (prediction, mixed):
            pairs = zip(first.flatten(0, 1), target.flatten(0, 1), strict=True)
            expected = torch.stack([theirs(x[None], y[None], normalize=True).flatten()[0] for x, y in pairs])
            distance = ours(first, target)
            assert distance.shape == (2, 2)
            assert (expected > 1e-2).all()
            torch.testing.assert_close(distance.flatten(), expected, atol=1e-4, rtol=0)


def _images(seed: int) -> Tensor:
    return torch.rand(2, 2, 3, 37, 53, generator=torch.Generator().manual_seed(seed))
