"""TF32 flags: who sets them, and when. PyTorch has the flags on a CPU, where they have no effect."""

import re
import warnings
from pathlib import Path

import pytest
import torch

from openrayzer.layers import lpips
from openrayzer.layers.lpips import Lpips
from openrayzer.layers.tf32 import exact_float32, tf32_products

ROOT = Path(__file__).parents[2]


def flags() -> tuple[bool, bool]:
    """Whether matrix products and convolutions may use TF32."""
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def test_blocks_nest_and_restore_the_flags():
    before = flags()
    with exact_float32():
        assert flags() == (False, False)
        with tf32_products(True):
            assert flags() == (True, False)
            with exact_float32():
                assert flags() == (False, False)
            assert flags() == (True, False)
        with tf32_products(False):
            assert flags() == (False, False)
    assert flags() == before


def test_an_error_restores_the_flags():
    before = flags()
    with pytest.raises(ValueError, match="planned"), tf32_products(True):
        raise ValueError("planned")
    assert flags() == before


def test_pytorch_can_read_the_flags_afterwards():
    with tf32_products(True):
        assert torch.get_float32_matmul_precision() == "high"
        with torch.backends.cudnn.flags(enabled=True):
            pass
    with exact_float32():
        assert torch.get_float32_matmul_precision() == "highest"


def test_pytorchs_warning_about_the_newer_interface_is_silent(monkeypatch: pytest.MonkeyPatch):
    class Matmul:
        fp32_precision = "ieee"

        def __setattr__(self, name: str, value: object) -> None:
            warnings.warn("Please use the new API settings to control TF32 behavior", UserWarning, stacklevel=1)

    monkeypatch.setattr(torch.backends.cuda, "matmul", Matmul())
    with tf32_products(True):
        pass


def test_products_on_a_cpu_stay_the_same_to_the_bit():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 64, 64, generator=generator)
    with exact_float32():
        exact = first @ second
    with tf32_products(True):
        torch.testing.assert_close(first @ second, exact, rtol=0, atol=0)


def test_lpips_runs_without_tf32(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    seen = []

    class Network(torch.nn.Module):
        def forward(self, first: torch.Tensor, second: torch.Tensor, *, normalize: bool) -> torch.Tensor:
            seen.append(flags())
            return (first - second).square().mean((1, 2, 3), keepdim=True)

    monkeypatch.setattr(lpips, "_empty_network", lambda net: Network())
    monkeypatch.setattr(lpips, "_weights", lambda network, net, backbone: {})
    monkeypatch.setattr(lpips, "_warn_of_other_weights", lambda backbone, net: None)
    file = tmp_path / "weights.pth"
    file.touch()
    images = torch.zeros(1, 1, 3, 32, 32)
    Lpips(net="vgg", backbone=file)(images, images)
    assert seen == [(False, False)]


def test_only_one_file_sets_the_flags():
    words = re.compile(r"allow_tf32|fp32_precision|set_float32_matmul_precision")
    users = [file for file in ROOT.glob("openrayzer/**/*.py") if words.search(file.read_text(encoding="utf-8"))]
    assert [file.name for file in users] == ["tf32.py"]
