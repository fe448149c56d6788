"""One clip from a scene, and a batch from clips.

Images stay as they were decoded, (h, w, 3) uint8, for as long as nobody changes them: a quarter of the memory to write,
to hand from a loading process to the one that trains, and to copy to a GPU. ``LoadedViews.views`` converts them there.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from openrayzer.data.loading.retries import patiently
from openrayzer.data.pixels.resizing import as_float, fit_frames
from openrayzer.data.pixels.scaled_decoding import decoding_for
from openrayzer.geometry.poses import normalise_poses
from openrayzer.interfaces import Augmentation, Clip, Dataset, InputError, ViewChoice
from openrayzer.settings import DataSettings
from openrayzer.types import Cameras, Views

Change = tuple[Augmentation, np.random.Generator]
"""An augmentation, and the randomness of one clip's decisions."""

Room = Callable[[int], np.ndarray]
"""Number of views to an array (v, h, w, 3) uint8 that the images of a clip are written to."""


@dataclass(frozen=True)
class LoadedViews:
    """A batch on its way from the process that loads it.

    Attributes:
        images: (b, v, h, w, 3) uint8; where there are augmentations, (b, v, 3, h, w) float32 in [0, 1].
        clean: float32, or None; see ``Views``.
        others: the other attributes of ``Views``.
    """

    images: Tensor
    clean: Tensor | None
    others: Mapping[str, Any]

    def views(self, device: torch.device | str = "cpu") -> Views:
        """The batch with images as float32 in [0, 1], made from 8 bits on ``device``; the rest stays where it is."""
        images = self.images.to(device, non_blocking=True)
        if images.dtype == torch.uint8 and images.device.type == "cpu":
            images = torch.from_numpy(as_float(images.numpy()))  # NumPy's large arrays are huge pages, torch's are not
        elif images.dtype == torch.uint8:
            images = rearrange(images, "b v h w c -> b v c h w").contiguous().float()
            images /= torch.full((), 255.0, device=images.device)  # by a plain number, a GPU multiplies by its inverse
        return Views(images=images, clean=self.clean, **self.others)


class BatchRoom:
    """Room for the images of a batch, so that they need not be put together; clips have as many views as the first.

    Args:
        clips: how many.
        image_size: height and width.
    """

    def __init__(self, clips: int, image_size: tuple[int, int]) -> None:
        self.clips, self.image_size = clips, image_size
        self.images = np.empty((clips, 0, *image_size, 3), np.uint8)

    def of(self, clip: int) -> Room:
        """The room of one clip."""
        return partial(self._room, clip)

    def _room(self, clip: int, views: int) -> np.ndarray:
        if clip == 0:
            self.images = np.empty((self.clips, views, *self.image_size, 3), np.uint8)
        if views != self.images.shape[1]:  # collate refuses the batch
            return np.empty((views, *self.image_size, 3), np.uint8)
        return self.images[clip]


def read_clip(
    dataset: Dataset,
    scene: int,
    choice: ViewChoice,
    *,
    image_size: tuple[int, int],
    changes: Sequence[Change] = (),
    room: Room | None = None,
    scaled_decoding: bool = False,
) -> Clip:
    """The chosen views, decoded, cut to ``image_size`` (height, width) and augmented.

    Args:
        dataset: where the scene is.
        scene: its number there.
        choice: which views.
        image_size: height and width of the images.
        changes: augmentations.
        room: where the images go; unless they are augmented, the clip then has them as they are there,
            which only ``collate`` understands. None for float32 in room of their own.
        scaled_decoding: whether JPEG files may be decoded at a fraction of their size; only where no augmentation cuts.

    Raises:
        BrokenSceneError: one of them cannot be used.
    """
    count = len(choice.frames)
    images = np.empty((count, *image_size, 3), np.uint8) if room is None else room(count)
    with decoding_for(image_size) if scaled_decoding else nullcontext():
        if changes:
            stored = patiently(lambda: dataset.read(scene, choice.frames))
            for augmentation, generator in changes:
                stored = augmentation.cut(stored, image_size, generator)
            c2w, intrinsics = fit_frames(stored.each(), images)
        else:
            c2w, intrinsics = patiently(lambda: fit_frames(dataset.stream(scene, choice.frames), images))
    if changes or room is None:
        images = as_float(images)
    place = {frame: position for position, frame in enumerate(choice.frames)}
    context, target = (np.array([place[frame] for frame in frames]) for frames in (choice.context, choice.target))
    clip = Clip(dataset.key(scene), images, np.array(choice.frames), context, target, c2w, intrinsics)
    for augmentation, generator in changes:
        clip = augmentation.apply(clip, generator)
    return clip


def collate(clips: Sequence[Clip], *, settings: DataSettings, problems: Sequence[str] = ()) -> LoadedViews:
    """Clips with equal numbers of views as one batch; without cameras if one of them has none.

    Raises:
        InputError: the numbers of views differ.
    """
    counts = {(len(clip.frames), len(clip.context), len(clip.target)): clip.scene for clip in clips}
    if len(counts) > 1:
        some = "; ".join(f"{scene!r} has {v} ({vc} and {vt})" for (v, vc, vt), scene in counts.items())
        raise InputError(f"clips of one batch need equal numbers of views (context and target): {some}")
    others = {
        "frames": _stack([clip.frames for clip in clips]),
        "context": _stack([clip.context for clip in clips]),
        "target": _stack([clip.target for clip in clips]),
        "scenes": tuple(clip.scene for clip in clips),
        "cameras": _cameras(clips, settings),
        "problems": tuple(problems),
    }
    return LoadedViews(_stack([clip.images for clip in clips]), _clean(clips), others)


def _cameras(clips: Sequence[Clip], settings: DataSettings) -> Cameras | None:
    poses = [clip.c2w for clip in clips if clip.c2w is not None]
    intrinsics = [clip.intrinsics for clip in clips if clip.intrinsics is not None]
    if len(poses) < len(clips) or len(intrinsics) < len(clips):
        return None
    c2w = _stack(poses)
    if settings.normalise_poses:
        c2w = normalise_poses(c2w, scene_scale=settings.scene_scale)
    return Cameras(c2w, _stack(intrinsics))


def _clean(clips: Sequence[Clip]) -> Tensor | None:
    if all(clip.clean is None for clip in clips):
        return None
    return _stack([clip.images if clip.clean is None else clip.clean for clip in clips])


def _stack(arrays: Sequence[np.ndarray]) -> Tensor:
    whole = arrays[0].base  # of clips that were read into one room
    if whole is not None and whole.shape == (len(arrays), *arrays[0].shape) and all(map(_is_same, arrays, whole)):
        return torch.from_numpy(whole)
    return torch.from_numpy(np.stack(arrays))


def _is_same(array: np.ndarray, other: np.ndarray) -> bool:
    return array.__array_interface__ == other.__array_interface__
