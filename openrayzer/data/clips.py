"""One clip from a scene, and a batch from clips."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from openrayzer.data.transforms import fit_images, fit_intrinsics
from openrayzer.geometry.poses import normalise_poses
from openrayzer.interfaces import Augmentation, Clip, Dataset, InputError, ViewChoice
from openrayzer.settings import DataSettings
from openrayzer.types import Cameras, Views

Change = tuple[Augmentation, np.random.Generator]
"""An augmentation, and the randomness of one clip's decisions."""

Room = Callable[[int], np.ndarray]
"""Number of views to an array (v, 3, h, w) float32 that the images of a clip are written to."""


class BatchRoom:
    """Room for the images of a batch, so that they need not be put together; clips have as many views as the first.

    Args:
        clips: how many.
        image_size: height and width.
    """

    def __init__(self, clips: int, image_size: tuple[int, int]) -> None:
        self.clips, self.image_size = clips, image_size
        self.images = np.empty((clips, 0, 3, *image_size), np.float32)

    def of(self, clip: int) -> Room:
        """The room of one clip."""
        return partial(self._room, clip)

    def _room(self, clip: int, views: int) -> np.ndarray:
        if clip == 0:
            self.images = np.empty((self.clips, views, 3, *self.image_size), np.float32)
        if views != self.images.shape[1]:  # collate refuses the batch
            return np.empty((views, 3, *self.image_size), np.float32)
        return self.images[clip]


def read_clip(
    dataset: Dataset,
    scene: int,
    choice: ViewChoice,
    *,
    image_size: tuple[int, int],
    changes: Sequence[Change] = (),
    room: Room | None = None,
) -> Clip:
    """The chosen views, decoded, cut to ``image_size`` (height, width) and augmented.

    Args:
        dataset: where the scene is.
        scene: its number there.
        choice: which views.
        image_size: height and width of the images.
        changes: augmentations.
        room: where the images go; they get room of their own by default.

    Raises:
        BrokenSceneError: one of them cannot be used.
    """
    stored = dataset.read(scene, choice.frames)
    for augmentation, generator in changes:
        stored = augmentation.cut(stored, image_size, generator)
    images = np.empty((len(stored.images), 3, *image_size), np.float32) if room is None else room(len(stored.images))
    fit_images(stored.images, images)
    intrinsics = None
    if stored.intrinsics is not None:
        pairs = zip(stored.intrinsics, stored.images, strict=True)
        intrinsics = np.stack([fit_intrinsics(row, image.shape[:2], image_size) for row, image in pairs])
    place = {frame: position for position, frame in enumerate(choice.frames)}
    context, target = (np.array([place[frame] for frame in frames]) for frames in (choice.context, choice.target))
    clip = Clip(dataset.key(scene), images, np.array(choice.frames), context, target, stored.c2w, intrinsics)
    for augmentation, generator in changes:
        clip = augmentation.apply(clip, generator)
    return clip


def collate(clips: Sequence[Clip], *, settings: DataSettings, problems: Sequence[str] = ()) -> Views:
    """Clips with equal numbers of views as one batch; without cameras if one of them has none.

    Raises:
        InputError: the numbers of views differ.
    """
    counts = {(len(clip.frames), len(clip.context), len(clip.target)): clip.scene for clip in clips}
    if len(counts) > 1:
        some = "; ".join(f"{scene!r} has {v} ({vc} and {vt})" for (v, vc, vt), scene in counts.items())
        raise InputError(f"clips of one batch need equal numbers of views (context and target): {some}")
    return Views(
        images=_stack([clip.images for clip in clips]),
        frames=_stack([clip.frames for clip in clips]),
        context=_stack([clip.context for clip in clips]),
        target=_stack([clip.target for clip in clips]),
        scenes=tuple(clip.scene for clip in clips),
        cameras=_cameras(clips, settings),
        clean=_clean(clips),
        problems=tuple(problems),
    )


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
