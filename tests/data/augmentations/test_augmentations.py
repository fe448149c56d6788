"""The built-in augmentations, one by one; tests/contracts/ tests the contract that all of them keep."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms import functional as torchvision

from openrayzer.data.augmentations.colour_jitter import ColourJitter, _colour_change
from openrayzer.data.augmentations.copy_paste import CopyPaste
from openrayzer.data.augmentations.cut_outs import CutOuts, blob
from openrayzer.data.augmentations.horizontal_flip import HorizontalFlip
from openrayzer.data.augmentations.resize_crop import ResizeCrop
from openrayzer.data.augmentations.time_reversal import TimeReversal
from openrayzer.interfaces import Clip, Frames, InputError


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def clip() -> Clip:
    """Five views of 24 x 32 pixels; views 0, 2 and 4 are context, 1 and 2 targets."""
    generator = random()
    return Clip(
        scene="attic",
        images=generator.random((5, 3, 24, 32), np.float32),
        frames=np.array([3, 5, 6, 8, 9]),
        context=np.array([0, 2, 4]),
        target=np.array([1, 2]),
        c2w=np.linalg.qr(generator.normal(size=(5, 4, 4)))[0].astype(np.float32),
        intrinsics=generator.random((5, 4), np.float32),
    )


def test_flip_mirrors_all_views_and_twice_is_nothing(clip):
    flip = HorizontalFlip(probability=1.0)
    once = flip.apply(clip, random())
    np.testing.assert_array_equal(once.images, clip.images[..., ::-1])
    np.testing.assert_array_equal(once.intrinsics[:, [0, 1, 3]], clip.intrinsics[:, [0, 1, 3]])
    np.testing.assert_allclose(once.intrinsics[:, 2], 1 - clip.intrinsics[:, 2])
    twice = flip.apply(once, random())
    np.testing.assert_array_equal(twice.c2w, clip.c2w)
    np.testing.assert_allclose(twice.intrinsics, clip.intrinsics, atol=1e-7)


@pytest.mark.parametrize("augmentation", [HorizontalFlip(), TimeReversal()])
def test_half_of_the_clips_are_changed_as_a_whole(augmentation, clip):
    generator = random()
    changed = [augmentation.apply(clip, generator) is not clip for _ in range(400)]
    assert 160 < sum(changed) < 240
    assert HorizontalFlip(probability=0.0).apply(clip, generator) is clip


def test_reversal_turns_the_view_axis_and_leaves_roles_where_they_are(clip):
    back = TimeReversal(probability=1.0).apply(clip, random())
    assert back.frames.tolist() == [9, 8, 6, 5, 3]
    for name in ("images", "c2w", "intrinsics"):
        np.testing.assert_array_equal(getattr(back, name), getattr(clip, name)[::-1])
    assert (back.context.tolist(), back.target.tolist()) == ([0, 2, 4], [1, 2])


def stored(*sizes: tuple[int, int]) -> Frames:
    """Images with the row in red and the column in green."""
    images = []
    for height, width in sizes:
        row, column = np.mgrid[:height, :width]
        images.append(np.stack([row, column, np.zeros_like(row)], axis=2).astype(np.uint8))
    return Frames(images, None, np.tile(np.array([0.8, 1.1, 0.45, 0.52], np.float32), (len(sizes), 1)))


@pytest.mark.parametrize("wanted", [(16, 16), (16, 24), (32, 16)])
def test_crop_keeps_the_camera_of_each_pixel(wanted):
    """The ray of a pixel does not change; the crop has the proportions of the run."""
    frames = stored((60, 100), (60, 100))
    for seed in range(20):
        cut = ResizeCrop(scale=(0.4, 1.0)).cut(frames, wanted, random(seed))
        height, width = cut.images[0].shape[:2]
        assert height / width == pytest.approx(wanted[0] / wanted[1], rel=0.5 / min(height, width) * 2)
        assert 0.4 * min(60 / wanted[0], 100 / wanted[1]) * wanted[0] - 1 < height <= 60
        top, left = cut.images[0][0, 0, :2].tolist()
        before = (left + 5.5 - 45) / 80, (top + 3.5 - 0.52 * 60) / 66
        focal_x, focal_y, centre_x, centre_y = (cut.intrinsics[0] * [width, height, width, height]).tolist()
        assert ((5.5 - centre_x) / focal_x, (3.5 - centre_y) / focal_y) == pytest.approx(before, abs=1e-5)
        np.testing.assert_array_equal(cut.images[0], cut.images[1])


def test_crop_covers_every_place_and_may_differ_between_views():
    frames = stored((40, 80), (40, 80), (20, 40))
    corners = [ResizeCrop(scale=(1.0, 1.0)).cut(frames, (8, 8), random(seed)).images[0][0, 0] for seed in range(300)]
    assert {corner[0] for corner in corners} == {0}
    assert {corner[1] for corner in corners} == set(range(41))
    apart = ResizeCrop(each="view").cut(frames, (8, 8), random())
    assert not np.array_equal(apart.images[0], apart.images[1])
    same = ResizeCrop().cut(frames, (8, 8), random())
    assert np.allclose(same.intrinsics[0], same.intrinsics[2], atol=0.03)  # half the size, rounded to pixels
    assert same.images[0].shape[0] == pytest.approx(2 * same.images[2].shape[0], abs=1)


@pytest.mark.parametrize(("number", "name"), [(0, "brightness"), (2, "saturation"), (3, "hue")])
def test_jitter_agrees_with_torchvision(clip, number, name):
    amount = 0.07 if name == "hue" else 1.3
    found = _colour_change(number, clip.images, [amount] * 3, amount)(clip.images)
    wanted = getattr(torchvision, f"adjust_{name}")(torch.from_numpy(clip.images), amount)
    np.testing.assert_allclose(found, wanted.numpy(), atol=2e-3)


def test_contrast_is_torchvisions_about_the_mean_of_the_clip(clip):
    found = _colour_change(1, clip.images, [0.7] * 3, 0.0)(clip.images)
    strip = torch.from_numpy(np.concatenate([*clip.images], axis=2))  # all views side by side are one image
    wanted = torchvision.adjust_contrast(strip, 0.7).numpy()
    np.testing.assert_allclose(np.concatenate([*found], axis=2), wanted, atol=1e-5)


def test_jitter_is_constant_in_time(clip):
    """Equal colours in several views stay equal."""
    images = clip.images.copy()
    images[1:, :, 4:9, 7:9] = images[0, :, 4:9, 7:9]
    for seed in range(10):
        jittered = ColourJitter(brightness=0.6, hue=0.4, probability=1.0).apply(
            replace(clip, images=images), random(seed)
        )
        part = jittered.images[:, :, 4:9, 7:9]
        np.testing.assert_array_equal(part, np.broadcast_to(part[:1], part.shape))
        assert not np.array_equal(jittered.images, images)


def test_jitter_of_nothing_is_nothing(clip):
    still = ColourJitter(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, probability=1.0)
    np.testing.assert_array_equal(still.apply(clip, random()).images, clip.images)


def differing(clip: Clip) -> np.ndarray:
    """Share of changed pixels in each view."""
    return (clip.images != clip.clean).any(axis=1).mean(axis=(1, 2))


@pytest.mark.parametrize("seed", range(4))
def test_objects_are_pasted_only_into_the_images_of_the_model(clip, seed):
    pasted = CopyPaste(probability=1.0, num_objects=(1, 1), size=(0.4, 0.5)).apply(clip, random(seed))
    assert pasted.clean is clip.images
    side = np.array([0.38, 0.52]) * 24
    assert (differing(pasted) > 0.2 * side[0] ** 2 / 768).all()
    assert (differing(pasted) <= side[1] ** 2 / 768).all()
    boxes = [np.argwhere((view != clean).any(axis=0)) for view, clean in zip(pasted.images, pasted.clean, strict=True)]
    assert len({tuple(box.min(axis=0)) for box in boxes}) > 1  # it moves


def test_objects_may_be_in_contexts_only(clip):
    pasted = CopyPaste(probability=1.0, views="context").apply(clip, random())
    assert (differing(pasted)[[0, 2, 4]] > 0).all()
    np.testing.assert_array_equal(pasted.images[[1, 3]], clip.images[[1, 3]])


def test_objects_pasted_twice_leave_the_first_clean_images(clip):
    paste = CopyPaste(probability=1.0)
    assert paste.apply(paste.apply(clip, random()), random(1)).clean is clip.images


def test_one_thing_may_move_through_all_views(clip):
    dark = replace(clip, images=np.zeros_like(clip.images))

    def brightest(same: float, seed: int) -> list[float]:
        paste = CopyPaste(probability=1.0, num_objects=(1, 1), size=(0.5, 0.5), same_object=same)
        return paste.apply(dark, random(seed)).images.max(axis=(2, 3))[:, 0].round(5).tolist()

    assert all(len(set(brightest(1.0, seed))) == 1 for seed in range(4))
    assert all(len(set(brightest(0.0, seed))) == 5 for seed in range(4))


def test_shapes_are_round_and_whole():
    for seed in range(20):
        opacity = blob(random(seed))[0]
        assert 0 <= opacity.min() <= opacity.max() == 1
        assert 0.1 < opacity.mean() < 0.75
        assert opacity[48, 48] == 1
        assert opacity[[0, -1]].max() == opacity[:, [0, -1]].max() == 0


def test_cut_outs_come_from_files(tmp_path, clip):
    cut_out = np.zeros((40, 20, 4), np.uint8)
    cut_out[10:30, 5:15] = (0, 0, 255, 255)  # red in OpenCV's order
    cv2.imwrite(str(tmp_path / "red.png"), cut_out)
    colours, opacity = np.split(CutOuts(tmp_path).draw(random()), [3])
    assert opacity.shape == (1, 96, 96)
    assert opacity[0, 48, 48] == pytest.approx(1, abs=0.01)
    assert opacity[0, :, :24].max() == opacity[0, :20].max() == 0
    assert colours[:, 48, 48] == pytest.approx([1, 0, 0], abs=0.01)
    cv2.imwrite(str(tmp_path / "red.png"), np.full((30, 50, 3), (0, 0, 255), np.uint8))
    colours, opacity = np.split(CutOuts(tmp_path).draw(random()), [3])
    assert colours[0].min() == 1
    assert 0.1 < opacity.mean() < 0.75
    pasted = CopyPaste(probability=1.0, folder=tmp_path).apply(clip, random())
    assert (differing(pasted) > 0).all()


def test_the_message_names_a_file_that_cannot_be_pasted(tmp_path, clip, waiting_pipe):
    with pytest.raises(InputError, match=r"has no files \.png"):
        CopyPaste(folder=tmp_path)
    (tmp_path / "broken.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"broken\.png cannot be pasted: it is neither JPEG nor PNG"):
        CopyPaste(folder=tmp_path, probability=1.0).apply(clip, random())
    (tmp_path / "broken.png").unlink()
    waiting_pipe(tmp_path / "broken.png")
    with pytest.raises(InputError, match=r"broken\.png cannot be pasted: it is not a regular file"):
        CopyPaste(folder=tmp_path, probability=1.0).apply(clip, random())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: HorizontalFlip(probability=1.5), "probability must be from 0 to 1, got 1.5"),
        (lambda: TimeReversal(probability=-0.5), "probability must be from 0 to 1, got -0.5"),
        (lambda: ResizeCrop(scale=(0.9, 0.5)), r"scale must be \(smallest, largest\), above 0 and up to 1, got \(0.9"),
        (lambda: ResizeCrop(scale=(0.5, 1.5)), "scale must be"),
        (lambda: ColourJitter(hue=0.6), "hue from 0 to 0.5"),
        (lambda: ColourJitter(contrast=-0.1), "must be 0 or more"),
        (lambda: CopyPaste(num_objects=(2, 1)), r"num_objects must be \(smallest, largest\), 1 or more, got \(2, 1\)"),
        (lambda: CopyPaste(same_object=2.0), "same_object must be from 0 to 1"),
        (lambda: CopyPaste(size=(0.0, 0.5)), "size must be"),
    ],
)
def test_impossible_settings_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()
