"""Augmented batches do not depend on who loads a clip or on the other clips; held-out clips are not augmented."""

from itertools import islice

import numpy as np
import pytest
import torch

from openrayzer.data.augmentations.colour_jitter import ColourJitter
from openrayzer.data.augmentations.copy_paste import CopyPaste
from openrayzer.data.augmentations.horizontal_flip import HorizontalFlip
from openrayzer.data.augmentations.resize_crop import ResizeCrop
from openrayzer.data.augmentations.time_reversal import TimeReversal
from openrayzer.data.loading.held_out_clips import evaluation_views
from openrayzer.data.loading.loader import build_loader
from openrayzer.data.sampling.autoregressive import Autoregressive
from openrayzer.data.sampling.view_samplers import Window
from openrayzer.data.sources.chunks import Chunks
from openrayzer.settings import DataSettings, EvaluationSettings, Source
from openrayzer.types import Views

ALL = (ResizeCrop(), HorizontalFlip(), TimeReversal(), ColourJitter(), CopyPaste(probability=0.5))
WINDOW = Window(num_context=2, num_target=2, min_frame_distance=3, max_frame_distance=6)


@pytest.fixture
def root(write_root, make_scene):
    return write_root([make_scene(name) for name in "abc"], [make_scene(name) for name in "de"])


def settings(root, *, augmentations=ALL, sampler=WINDOW, **more) -> DataSettings:
    source = (Source(dataset=Chunks(root=root)),)
    values = {"image_size": (16, 16), "workers": 0, "normalise_poses": False, "prefetch": 1, **more}
    return DataSettings(train=source, view_sampler=sampler, augmentations=augmentations, **values)


def load(settings: DataSettings, count: int, *, size: int = 4, rank: int = 0, world: int = 1, **more) -> list[Views]:
    more = {"seed": 0, **more}
    return list(islice(build_loader(settings, batch_size_per_rank=size, rank=rank, world_size=world, **more), count))


def stream(batches: list[Views]) -> list[dict[str, np.ndarray]]:
    """The arrays of every clip."""
    clips = []
    for views in batches:
        clean = views.images if views.clean is None else views.clean
        parts = {"images": views.images, "clean": clean, "frames": views.frames, "c2w": views.cameras.c2w}
        parts |= {"intrinsics": views.cameras.intrinsics, "context": views.context, "target": views.target}
        clips += [{name: part[row].numpy() for name, part in parts.items()} for row in range(len(views.scenes))]
    return clips


def same(one: list[dict], other: list[dict]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(np.array_equal(first[name], second[name]) for first, second in pairs for name in first)


def test_resumed_stream_goes_on_to_the_bit(root):
    whole = load(settings(root), 6)
    assert same(stream(load(settings(root), 3, start=3)), stream(whole[3:]))


def test_ranks_batches_and_workers_change_nothing(root):
    alone = stream(load(settings(root), 3))
    assert same(stream(load(settings(root), 6, size=2, accumulation=2)), alone)
    assert same(stream(load(settings(root, workers=2), 3)), alone)
    ranks = [load(settings(root), 3, size=2, rank=rank, world=2) for rank in range(2)]
    assert same(stream([views for step in zip(*ranks, strict=True) for views in step]), alone)
    assert not same(stream(load(settings(root), 3, seed=1)), alone)


def test_augmentations_choose_no_other_frames_and_not_for_each_other(root):
    plain = stream(load(settings(root, augmentations=()), 4))
    flipped = stream(load(settings(root, augmentations=(HorizontalFlip(),)), 4))
    both = stream(load(settings(root, augmentations=(HorizontalFlip(), CopyPaste())), 4))
    changed = 0
    for before, after, last in zip(plain, flipped, both, strict=True):
        assert before["frames"].tolist() == after["frames"].tolist() == last["frames"].tolist()
        np.testing.assert_array_equal(after["images"], last["clean"])
        changed += not np.array_equal(before["c2w"], after["c2w"])
    assert 4 <= changed <= 12  # of 16


def test_without_augmentations_there_are_no_clean_images(root):
    for views in load(settings(root, augmentations=()), 2):
        assert views.clean is None
        assert views.to("cpu").clean is None


def test_targets_are_compared_with_clean_images(root):
    for views in load(settings(root, augmentations=(CopyPaste(probability=0.5),)), 4, size=8):
        pasted = (views.images != views.clean).flatten(2).any(dim=2)  # (b, v)
        assert 0 < pasted.any(dim=1).sum() < 8  # the batch also has clips without objects
        assert torch.equal(pasted.any(dim=1), pasted.all(dim=1))
        rows = torch.arange(8)[:, None]
        torch.testing.assert_close(views.target_images, views.clean[rows, views.target], rtol=0, atol=0)
        torch.testing.assert_close(views.context_images, views.images[rows, views.context], rtol=0, atol=0)
        torch.testing.assert_close(views.to("cpu").clean, views.clean)
        red = views.target_images[:, :, 0, 0, 0] * 255
        torch.testing.assert_close(red, views.frames[rows, views.target].float(), atol=1e-3, rtol=0)


def test_a_reversed_list_keeps_every_target_behind_its_contexts(root):
    sampler = Autoregressive(num_views=4, min_frame_distance=3, max_frame_distance=6)
    for clip in stream(load(settings(root, augmentations=(TimeReversal(probability=1.0),), sampler=sampler), 2)):
        assert (np.diff(clip["frames"]) < 0).all()
        assert clip["context"][1:].tolist() == clip["target"][:-1].tolist()
        assert all(target not in clip["context"][: i + 1] for i, target in enumerate(clip["target"]))


def test_held_out_clips_stay_as_they_are(root):
    evaluation = EvaluationSettings(view_sampler=WINDOW)
    held_out = (Source(dataset=Chunks(root=root)),)
    plain, augmented = (
        stream(list(evaluation_views(settings(root, augmentations=chosen, test=held_out), evaluation)))
        for chosen in ((), ALL)
    )
    assert same(plain, augmented)
