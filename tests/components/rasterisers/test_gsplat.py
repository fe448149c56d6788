"""The rasteriser "gsplat" gives gsplat's functions the right arguments; "auto" takes it where it passes a trial."""

import logging
import sys
from types import ModuleType

import pytest
import torch
from literal import gsplat_stand_in, random_scene

from openrayzer.components.rasterisers import choosing, gsplat
from openrayzer.components.rasterisers.gsplat import GsplatRasteriser
from openrayzer.components.rasterisers.tiled import TiledRasteriser
from openrayzer.interfaces import InputError

SIZE = (14, 20)


class OnAnyDevice(GsplatRasteriser):
    """Without the check of the device."""

    def refusal(self, device: torch.device) -> str:
        return ""


@pytest.fixture(autouse=True)
def _forget():
    """The package and its trial are looked up anew in each test."""

    def forget() -> None:
        for function in (gsplat.kernels, gsplat._trial_failure, choosing.chosen):
            function.cache_clear()

    forget()
    yield
    forget()


@pytest.fixture
def stand_in(monkeypatch) -> ModuleType:
    module = gsplat_stand_in()
    monkeypatch.setitem(sys.modules, "gsplat", module)
    monkeypatch.setattr(gsplat, "find_spec", lambda name: "found")
    return module


@pytest.mark.parametrize("extent", ["box", "three_sigma"])
def test_images_and_gradients_are_those_of_the_tiles(stand_in, extent):
    results = []
    for rasteriser in (TiledRasteriser(extent=extent), OnAnyDevice(extent=extent)):
        gaussians, cameras, background = random_scene(k=7)
        views = rasteriser.rasterise(gaussians, cameras, SIZE, background=background)
        loss = views.images.square().mean() + 0.1 * views.depth.mean() + views.opacity.mean()
        leaves = (*vars(gaussians).values(), cameras.c2w, cameras.intrinsics, background)
        results.append([views.images, views.depth, views.opacity, *torch.autograd.grad(loss, leaves)])
    for tiled, kernels in zip(*results, strict=True):
        torch.testing.assert_close(kernels, tiled, atol=2e-5, rtol=1e-4)


def test_the_trial_accepts_right_kernels(stand_in):
    assert gsplat.missing() == ""
    assert gsplat._trial_failure(torch.device("cpu")) == ""


def test_the_trial_refuses_wrong_results(stand_in):
    right = stand_in.rasterize_to_pixels
    stand_in.rasterize_to_pixels = lambda means, conics, *rest: right(means, 1.1 * conics, *rest)
    assert "differ from those of 'torch'" in gsplat._trial_failure(torch.device("cpu"))


def test_the_trial_names_the_error_of_the_kernels(stand_in):
    def broken(*_: object) -> None:
        raise RuntimeError("no kernel image is available")

    stand_in.isect_tiles = broken
    assert gsplat._trial_failure(torch.device("cpu")) == (
        "a small call failed: RuntimeError: no kernel image is available"
    )


def test_an_old_release_is_refused_with_the_command_that_helps(stand_in):
    del stand_in.isect_offset_encode
    assert "pip install --upgrade 'gsplat>=1.5'" in gsplat.missing()


def test_a_missing_package_is_refused_with_the_command_that_helps(monkeypatch):
    monkeypatch.setattr(gsplat, "find_spec", lambda name: None)
    assert gsplat.missing() == "gsplat is not installed: pip install 'openrayzer[gsplat]'"


def test_the_rasteriser_refuses_other_devices_by_its_name():
    gaussians, cameras, background = random_scene()
    with pytest.raises(InputError, match=r"'gsplat' cannot run: its kernels need a CUDA device.* take 'auto'"):
        GsplatRasteriser().rasterise(gaussians, cameras, SIZE, background=background)


def test_auto_takes_the_tiles_on_a_cpu_and_says_why(caplog):
    with caplog.at_level(logging.INFO, logger=choosing.__name__):
        assert choosing.chosen(torch.device("cpu")).name == "torch"
    assert caplog.messages == [
        "rasteriser on cpu: 'torch'; 'gsplat' cannot run: its kernels need a CUDA device, and the Gaussians are on cpu"
    ]


def test_auto_takes_the_kernels_where_they_work(monkeypatch):
    monkeypatch.setattr(GsplatRasteriser, "refusal", lambda self, device: "")
    assert choosing.chosen(torch.device("cpu")).name == "gsplat"
