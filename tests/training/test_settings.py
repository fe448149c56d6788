"""Sections of an experiment that do not go together are refused when the experiment is built."""

from pathlib import Path

import pytest

from openrayzer.composer import load_experiment
from openrayzer.interfaces import InputError

TINY = Path(__file__).with_name("tiny_rayzer.json")
IMAGES = '[{"dataset": {"type": "images", "root": "nowhere"}}]'


def test_a_model_that_needs_intrinsics_refuses_every_source_without_cameras():
    head = 'model.camera_head={"type": "pi3", "field_of_view": "fixed"}'
    changes = ["model.intrinsics=given", head, f"data.train={IMAGES}", f"data.test={IMAGES}"]
    with pytest.raises(InputError) as refused:
        load_experiment(TINY, overrides=changes).build()
    for split in ("train", "test"):
        assert f"data.{split}[0]: 'images' has no cameras, and the model 'rayzer' needs intrinsics" in str(
            refused.value
        )


def test_a_model_that_estimates_its_cameras_takes_sources_without_them():
    assert not load_experiment(TINY, overrides=[f"data.train={IMAGES}"]).build().data.train[0].dataset.posed
