"""check_experiment warns of a model that can learn cameras from the order of the views."""

from pathlib import Path

import pytest
import torch

from openrayzer.composer import load_experiment
from openrayzer.planning.view_order import view_order_warnings

TINY = Path(__file__).parents[1] / "training/tiny_rayzer.json"
INDEX = 'model.position_encoding={"type": "sinusoidal"}'
WINDOW = '"min_frame_distance": 5, "max_frame_distance": 5'


def warnings(*changes: str) -> list[str]:
    planned = load_experiment(TINY, overrides=changes)
    with torch.device("meta"):
        return view_order_warnings(planned.plan, planned.build())


def test_a_view_index_in_temporal_order_is_a_warning_with_both_keys_and_the_remedy():
    assert warnings(INDEX, "data.view_sampler.order=temporal") == [
        "model.position_encoding 'sinusoidal' reads the index of each view, and data.view_sampler.order is 'temporal', "
        "so the model can learn cameras from the index instead of the images; set data.view_sampler.order to "
        '"shuffled", or take a position encoding without the index'
    ]


@pytest.mark.parametrize(
    "encoding",
    ['{"type": "camera_index"}', '{"type": "combined", "parts": [{"type": "rope2d"}, {"type": "sinusoidal"}]}'],
)
def test_every_encoding_with_an_index_is_found_once(encoding: str):
    assert len(warnings(f"model.position_encoding={encoding}")) == 1


@pytest.mark.parametrize(
    "changes",
    [
        (INDEX, "data.view_sampler.order=shuffled"),
        ('model.position_encoding={"type": "rope2d"}',),
        ('model.position_encoding={"type": "sinusoidal", "image_index": false}',),
        (INDEX, f'data.view_sampler={{"type": "window", "num_context": 1, "num_target": 1, {WINDOW}}}'),
    ],
    ids=["shuffled", "no index", "index switched off", "two views"],
)
def test_there_is_no_warning_if_one_of_the_causes_is_missing(changes: tuple[str, ...]):
    assert warnings(*changes) == []


def test_a_sampler_without_a_shuffled_order_has_another_remedy():
    (sentence,) = warnings(INDEX, f'data.view_sampler={{"type": "autoregressive", "num_views": 4, {WINDOW}}}')
    assert 'take a data.view_sampler with order "shuffled", such as "window"' in sentence


def test_models_with_true_or_order_free_cameras_need_no_warning(monkeypatch: pytest.MonkeyPatch):
    from openrayzer.models.rayzer import RayZer

    for attribute in ("posed", "order_free_cameras"):
        assert warnings(INDEX)
        with monkeypatch.context() as patch:
            patch.setattr(RayZer, attribute, True)
            assert warnings(INDEX) == []
