"""In the first steps poses learn and focal lengths do not; afterwards both learn."""

import pytest
import torch
from torch import nn

from openrayzer.components.cameras.pi3 import Pi3Head
from openrayzer.components.cameras.quaternion import QuaternionHead
from openrayzer.components.cameras.rot6d import Rot6dHead
from openrayzer.components.cameras.se3 import Se3Head
from openrayzer.geometry.rays import plucker_rays
from openrayzer.interfaces import CameraHead
from openrayzer.training.focal_warm_up import hold_focal_lengths

FOCAL = {Pi3Head: "fov", Se3Head: "log_focal", Rot6dHead: "focal", QuaternionHead: "focal"}


@pytest.mark.parametrize("head", list(FOCAL))
def test_gradients_reach_poses_and_only_later_focal_lengths(head: type[CameraHead]):
    torch.manual_seed(0)
    model = nn.Sequential(head(width=16))
    held = True
    hold_focal_lengths(model, held=lambda: held)

    def gradients() -> dict[bool, float]:
        model.zero_grad()
        cameras = model[0](torch.randn(2, 3, 4, 16), (8, 8))
        plucker_rays(cameras, (8, 8)).square().mean().backward()
        sums = {True: 0.0, False: 0.0}
        for name, weight in model.named_parameters():
            assert weight.grad is not None  # ZeRO waits for every gradient
            of_focal = name.removeprefix("0.").startswith(FOCAL[head])
            sums[of_focal] += float(weight.grad.abs().sum())
        return sums

    first = gradients()
    assert first[True] == 0
    assert first[False] > 0
    held = False
    assert gradients()[True] > 0
