"""Live bytes count each new storage once, while it exists."""

import pytest
import torch
from torch import nn

from openrayzer.machine.live_bytes import LiveBytes


def test_storages_count_while_they_exist():
    with LiveBytes() as live:
        first = torch.zeros(1000, dtype=torch.uint8)
        second = first + 1
        assert live.bytes == 2000
        del first
        assert live.bytes == 1000
        third = second.repeat(3)
    assert live.bytes == live.peak == 4000
    del second, third
    assert (live.bytes, live.peak) == (0, 4000)


def test_views_changes_in_place_and_older_tensors_do_not_count():
    before = torch.zeros(10, 100)
    with LiveBytes() as live:
        before.add_(1)
        turned = before[3:].T
        turned[0].mul_(2)
        assert live.peak == 0
        turned.contiguous()
    assert (live.bytes, live.peak) == (0, 7 * 100 * 4)


@pytest.mark.parametrize("inference", [True, False])
def test_activations_count_and_weights_do_not(inference):
    network = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 8)).requires_grad_(False)
    views = torch.rand(3, 64)
    with torch.inference_mode(inference), LiveBytes() as live:
        network(views)
    assert live.peak == 2 * 3 * 512 * 4  # input and output of the ReLU; the weights take more
