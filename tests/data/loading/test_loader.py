"""The stream of training clips depends on the seed and the position, and on nothing else."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, islice

import cv2
import numpy as np
import pytest
import torch

from openrayzer.data.loading.clips import LoadedViews
from openrayzer.data.loading.loader import build_loader
from openrayzer.data.sampling.view_samplers import Even, Window, WindowCurriculum
from openrayzer.data.sources.chunks import Chunks
from openrayzer.geometry.poses import normalise_poses
from openrayzer.interfaces import Augmentation, Clip, Dataset, Frames, InputError, ViewChoice, ViewSampler
from openrayzer.settings import DataSettings, Source
from openrayzer.types import Views

WINDOW = Window(num_context=2, num_target=2, min_frame_distance=3, max_frame_distance=6)


class Colours(Dataset):
    """Ten-frame scenes in memory; frame i of scene s has red s and green i; no poses."""

    posed = False

    def __init__(self, scenes: int, *, frames: int = 10) -> None:
        self.scenes, self.frames = scenes, frames

    def open(self) -> None:
        self.problems = ("one scene was left out",)

    def __len__(self) -> int:
        return self.scenes

    def key(self, scene: int) -> str:
        return f"colour {scene}"

    def num_frames(self, scene: int) -> int:
        return self.frames

    def read(self, scene, frames) -> Frames:
        return Frames([np.full((6, 8, 3), (scene, frame, 0), np.uint8) for frame in frames], None, None)


class Overlap(ViewSampler):
    """Frame 2 is both context and target."""

    def sample(self, key, num_frames, generator, step=0) -> ViewChoice:
        return ViewChoice((7, 2), (2, 5))


class Uneven(ViewSampler):
    """More targets in scene 1."""

    def sample(self, key, num_frames, generator, step=0) -> ViewChoice:
        return ViewChoice((0,), (1, 2) if key.endswith("1") else (1,))


def data_settings(*datasets: Dataset, sampler: ViewSampler = WINDOW, **more) -> DataSettings:
    settings = {"image_size": (6, 8), "workers": 0, "view_sampler": sampler, **more}
    return DataSettings(train=tuple(Source(dataset=dataset) for dataset in datasets), **settings)


def batches(settings: DataSettings, count: int, *, size: int = 2, rank: int = 0, world: int = 1, **more) -> list[Views]:
    more = {"seed": 0, **more}
    return list(islice(build_loader(settings, batch_size_per_rank=size, rank=rank, world_size=world, **more), count))


def clips(views: Views) -> list[tuple]:
    return [
        (views.scenes[i], views.frames[i].tolist(), views.context[i].tolist(), views.target[i].tolist())
        for i in range(len(views.scenes))
    ]


def stream(loaded: list[Views]) -> list[tuple]:
    return [clip for views in loaded for clip in clips(views)]


def test_batch_holds_the_chosen_frames_in_order():
    for views in batches(data_settings(Colours(5)), 5, size=3):
        assert views.images.shape == (3, 4, 3, 6, 8)
        assert views.images.dtype == torch.float32
        assert (views.frames.diff(dim=1) > 0).all()
        torch.testing.assert_close(views.images[:, :, 1, 0, 0] * 255, views.frames.float())
        red = [float(scene.split()[1]) for scene in views.scenes]
        torch.testing.assert_close(views.images[:, 0, 0, 0, 0] * 255, torch.tensor(red))
        assert [sorted({*c, *t}) for c, t in zip(views.context.tolist(), views.target.tolist(), strict=True)] == [
            [0, 1, 2, 3]
        ] * 3
        assert views.cameras is None


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_one_stream(world):
    settings = data_settings(Colours(7), Colours(3))
    alone = stream(batches(settings, 6, size=8 // 1))
    ranks = [batches(settings, 6, size=8 // world, rank=rank, world=world) for rank in range(world)]
    together = [clip for step in zip(*ranks, strict=True) for views in step for clip in clips(views)]
    assert together == alone


def test_accumulation_does_not_change_the_clips_of_a_step():
    settings = data_settings(Colours(7))
    assert stream(batches(settings, 8, size=2)) == stream(batches(settings, 4, size=4))


def test_resumed_stream_goes_on():
    settings = data_settings(Colours(7), Colours(3))
    whole = batches(settings, 12)
    assert stream(batches(settings, 5, start=7)) == stream(whole[7:])


GROWING = WindowCurriculum(
    num_context=(2, 3), num_target=(1, 3), start_min_frame_distance=5, start_max_frame_distance=5,
    min_frame_distance=6, max_frame_distance=9, curriculum_steps=6,
)  # fmt: skip
"""Numbers of views and distances that depend on the optimizer step."""


def steps(start: int, *, world: int, accumulation: int, workers: int, batch_size: int = 8, count: int = 4) -> list:
    """The clips of optimizer steps from ``start`` on, over all ranks, in order; and their images."""
    settings = data_settings(Colours(7), Colours(3), sampler=GROWING, workers=workers)
    settings = replace(settings, train=(settings.train[0], replace(settings.train[1], weight=2.0)))
    ranks = [
        batches(settings, count * accumulation, size=batch_size // world // accumulation, rank=rank, world=world,
                start=start * accumulation, accumulation=accumulation)
        for rank in range(world)
    ]  # fmt: skip
    micro = [
        [(clip, image) for views in batch for clip, image in zip(clips(views), views.images, strict=True)]
        for batch in zip(*ranks, strict=True)
    ]
    return [list(chain(*micro[first : first + accumulation])) for first in range(0, len(micro), accumulation)]


@pytest.mark.parametrize(
    "after",
    [
        {"world": 2, "accumulation": 2, "workers": 0},
        {"world": 4, "accumulation": 1, "workers": 0},
        {"world": 1, "accumulation": 1, "workers": 2},
        {"world": 2, "accumulation": 4, "workers": 2},
    ],
)
def test_other_ranks_accumulation_and_workers_go_on_with_the_same_clips(after):
    """Mixed sources, numbers of views drawn for each step, a curriculum, from the middle of an epoch on."""
    before = {"world": 1, "accumulation": 2, "workers": 0}
    whole = steps(0, **before, count=7)
    assert len({len(clip[0][1]) for step in whole for clip in step}) > 1
    for resumed, wanted in ((steps(3, **after), whole[3:]), (steps(3, **before), steps(0, **after, count=7)[3:])):
        for found, expected in zip(resumed, wanted, strict=True):
            assert [clip for clip, _ in found] == [clip for clip, _ in expected]
            assert all(torch.equal(one, other) for (_, one), (_, other) in zip(found, expected, strict=True))


def test_another_batch_size_goes_on_where_that_many_steps_of_it_would_be():
    """After 3 steps of 8 clips, steps of 4 repeat from clip 12 on, and steps of 16 leave out clips 24 to 47."""
    stream_of_8 = [clip[0] for step in steps(0, world=1, accumulation=1, workers=0, count=9) for clip, _ in step]
    for batch_size in (4, 16):
        resumed = steps(3, world=1, accumulation=1, workers=0, batch_size=batch_size, count=1)[0]
        assert [clip[0] for clip, _ in resumed] == stream_of_8[3 * batch_size : 4 * batch_size]


def test_seeds_differ_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    settings = data_settings(Colours(9))
    assert stream(batches(settings, 4, seed=0)) != stream(batches(settings, 4, seed=1))
    assert torch.equal(before, torch.get_rng_state())


def test_workers_change_nothing(write_root, make_scene):
    root = write_root([make_scene(name) for name in "abc"], [make_scene(name) for name in "de"])
    alone = batches(data_settings(Chunks(root=root), image_size=(16, 16)), 6)
    shared = batches(data_settings(Chunks(root=root), image_size=(16, 16), workers=2, prefetch=2), 6)
    assert stream(alone) == stream(shared)
    for one, other in zip(alone, shared, strict=True):
        torch.testing.assert_close(one.images, other.images, rtol=0, atol=0)
        torch.testing.assert_close(one.cameras.c2w, other.cameras.c2w, rtol=0, atol=0)


@pytest.mark.parametrize("stored", [(24, 32), (16, 21), (48, 64), (9, 12)])
@pytest.mark.parametrize("workers", [0, 1])
def test_pixels_are_those_of_opencv_over_255_to_the_last_bit(write_root, make_scene, stored, workers):
    """Shrunk by areas, cropped only, shrunk by a whole number, enlarged."""
    generator = np.random.default_rng(0)
    pictures = [generator.integers(0, 256, (*stored, 3), np.uint8) for _ in range(8)]
    images = [cv2.imencode(".png", picture)[1].tobytes() for picture in pictures]
    root = write_root([replace(make_scene("a"), images=images)])
    (views,) = batches(data_settings(Chunks(root=root), image_size=(16, 16), workers=workers), 1, size=2)
    assert views.images.dtype == torch.float32
    assert views.images.is_contiguous()
    for clip, frames in zip(views.images.numpy(), views.frames.tolist(), strict=True):
        for found, frame in zip(clip, frames, strict=True):
            method = cv2.INTER_AREA if stored[0] > 16 else cv2.INTER_CUBIC
            picture = cv2.resize(pictures[frame], (21, 16), interpolation=method)[:, 2:18, ::-1]
            np.testing.assert_array_equal(found, picture.transpose(2, 0, 1).astype(np.float32) / np.float32(255))


def test_images_leave_the_loading_process_in_8_bits_unless_they_are_augmented(monkeypatch):
    seen = []
    views = LoadedViews.views
    monkeypatch.setattr(LoadedViews, "views", lambda self, device: (seen.append(self.images), views(self, device))[1])
    (plain,) = batches(data_settings(Colours(3)), 1)
    (changed,) = batches(data_settings(Colours(3), augmentations=(Half(),)), 1)
    assert [images.dtype for images in seen] == [torch.uint8, torch.float32]
    assert plain.images.shape == changed.images.shape == (2, 4, 3, 6, 8)
    assert plain.images.dtype == changed.images.dtype == torch.float32


@pytest.mark.parametrize("workers", [0, 1])
def test_a_refused_batch_is_refused_in_the_process_that_loads_it(workers):
    def check(context: torch.Tensor, target: torch.Tensor, scenes: Sequence[str]) -> None:
        assert (context.device.type, context.shape[0], target.shape[0]) == ("cpu", 2, 2)
        raise InputError(f"not with {len(scenes)} scenes")

    with pytest.raises(InputError, match="not with 2 scenes"):
        batches(data_settings(Colours(3), workers=workers), 1, device="meta", check=check)


def test_images_wanted_elsewhere_are_converted_there():
    (views,) = batches(data_settings(Colours(3)), 1, device="meta")
    assert views.images.device.type == "meta"
    assert views.images.shape == (2, 4, 3, 6, 8)
    assert views.images.dtype == torch.float32
    assert views.frames.device.type == "cpu"


def test_posed_source_gives_cameras_that_fit_the_images(write_root, make_scene):
    root = write_root([make_scene("a"), make_scene("b")])
    (plain,) = batches(data_settings(Chunks(root=root), image_size=(16, 16), normalise_poses=False), 1)
    torch.testing.assert_close(plain.cameras.c2w[..., 0, 3], plain.frames.float(), atol=1e-5, rtol=0)
    wanted = torch.tensor([0.8 * 21 / 16, 1.1, (0.5 * 21 - 2) / 16, 0.5])  # 24 x 32 becomes 16 x 21, 2 columns cut
    torch.testing.assert_close(plain.cameras.intrinsics, wanted.expand(2, 4, 4))
    (normalised,) = batches(data_settings(Chunks(root=root), image_size=(16, 16), scene_scale=2.0), 1)
    torch.testing.assert_close(normalised.cameras.c2w, normalise_poses(plain.cameras.c2w, scene_scale=2.0))


def test_batch_with_an_unposed_clip_has_no_cameras(write_root, make_scene):
    settings = data_settings(Chunks(root=write_root([make_scene("a")])), Colours(4))
    for views in batches(settings, 10, size=3):
        colours = sum("colour" in scene for scene in views.scenes)
        assert (views.cameras is None) == (colours > 0)


def test_frame_that_is_context_and_target_is_loaded_once():
    (views,) = batches(data_settings(Colours(2), sampler=Overlap()), 1)
    assert views.frames.tolist() == [[2, 5, 7]] * 2
    assert views.context.tolist() == [[2, 0]] * 2
    assert views.target.tolist() == [[0, 1]] * 2
    torch.testing.assert_close(views.target_images[:, 0], views.context_images[:, 1])


def test_different_numbers_of_views_are_refused_by_name():
    with pytest.raises(InputError, match=r"equal numbers of views .*: 'colour \d' has \d \(1 and \d\); 'colour"):
        batches(data_settings(Colours(2), sampler=Uneven()), 1)


def test_broken_scene_is_replaced_by_the_next_and_named(write_root, make_scene):
    broken = make_scene("broken")
    broken = replace(broken, images=[b"nothing"] * 8)
    good = [make_scene(name) for name in "abc"]
    settings = data_settings(Chunks(root=write_root([*good, broken])), image_size=(8, 8))
    loaded = batches(settings, 8)
    whole = data_settings(Chunks(root=write_root([*good, make_scene("broken")], name="whole")), image_size=(8, 8))
    for found, wanted in zip(stream(loaded), stream(batches(whole, 8)), strict=True):
        assert found == wanted if wanted[0] != "broken" else found[0] in "abc"
    sentences = [problem for views in loaded for problem in views.problems]
    assert len(sentences) == 4  # once in each of four epochs
    assert all("'broken', frame" in problem and "the next scene was used" in problem for problem in sentences)
    assert stream(batches(settings, 5, start=3)) == stream(loaded[3:])


def test_scene_too_short_for_the_sampler_is_replaced(write_root, make_scene):
    settings = data_settings(Chunks(root=write_root([make_scene("a"), make_scene("short", frames=2)])))
    loaded = batches(settings, 4, size=1)
    assert {scene for views in loaded for scene in views.scenes} == {"a"}
    assert "'short' has 2 frames" in " ".join(problem for views in loaded for problem in views.problems)


def test_each_unsuitable_scene_is_reported_once_up_to_a_limit(write_root, make_scene):
    short = [make_scene(f"short {number:02}", frames=2) for number in range(30)]
    settings = data_settings(Chunks(root=write_root([make_scene("a"), *short])))
    loaded = batches(settings, 40, size=2)
    told = [problem for views in loaded for problem in views.problems]
    assert len(told) == len(set(told)) == 21
    assert sum("has 2 frames" in problem for problem in told) == 20
    assert told[-1].startswith("more scenes do not suit")


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_stops_when_nothing_can_be_used(workers):
    settings = data_settings(Colours(5), sampler=Even(num_context=6, num_target=6), workers=workers)
    with pytest.raises(InputError, match=r"^100 scenes in a row could not be used; the last ones:\n") as caught:
        batches(settings, 1)
    assert "'colour" in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_every_source_that_cannot_be_opened_is_named(tmp_path):
    settings = data_settings(Chunks(root=tmp_path / "one"), Chunks(root=tmp_path / "two"), Colours(0))
    with pytest.raises(InputError, match=r"(?s)there is no folder .*one; .*there is no folder .*two; .*no scenes"):
        batches(settings, 1)


def test_loader_has_problems_and_the_size_of_an_epoch():
    loader = build_loader(data_settings(Colours(5)), batch_size_per_rank=1, rank=0, world_size=1, seed=0)
    assert loader.problems == ("one scene was left out",)
    assert loader.epoch_size == 5


def test_workers_use_one_thread_each():
    class Threads(Colours):
        def read(self, scene, frames) -> Frames:
            assert torch.get_num_threads() == 1
            assert cv2.getNumThreads() <= 1
            return super().read(scene, frames)

    assert batches(data_settings(Threads(3), workers=1), 1)


class Half(Augmentation):
    """Halves the first of the clips only, in arrays of its own."""

    def apply(self, clip: Clip, generator: np.random.Generator) -> Clip:
        return clip.with_images(lambda images: images * np.float32(0.5)) if clip.scene == "colour 0" else clip


def test_clips_that_were_changed_and_clips_that_were_not_make_one_batch():
    plain, halved = (
        batches(data_settings(Colours(3), augmentations=changes), 1, size=3)[0] for changes in ((), (Half(),))
    )
    factors = torch.tensor([0.5 if scene == "colour 0" else 1.0 for scene in plain.scenes])
    torch.testing.assert_close(halved.images, plain.images * factors[:, None, None, None, None], rtol=0, atol=0)


def test_batches_do_not_share_memory():
    first, second = batches(data_settings(Colours(3)), 2, size=1)
    before = first.images.clone()
    second.images.zero_()
    assert torch.equal(first.images, before)


def test_workers_start_although_opencv_had_threads():
    cv2.setNumThreads(2)
    cv2.resize(np.zeros((600, 800, 3), np.uint8), (300, 200), interpolation=cv2.INTER_AREA)
    assert batches(data_settings(Colours(3), workers=1), 1)
    assert cv2.getNumThreads() <= 1
