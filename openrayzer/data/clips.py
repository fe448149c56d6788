"""One clip from a scene, and a batch from clips."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from openrayzer.data.transforms import fit_image, fit_intrinsics
from openrayzer.geometry.poses import normalise_poses
from openrayzer.interfaces import Dataset, InputError, ViewChoice
from openrayzer.settings import DataSettings
from openrayzer.types import Cameras, Views


@dataclass(frozen=True)
class Clip:
    """The chosen views of one scene; a frame that is context and target is there once.

    Attributes:
        scene: the scene's name.
        images: (v, 3, h, w) float32 in [0, 1].
        frames: (v,) frame numbers, in the order of the view axis.
        context: (vc,) positions on the view axis that are given to the model.
        target: (vt,) positions on the view axis that are rendered and judged.
        c2w: (v, 4, 4) float32 as the source has them; None without poses.
        intrinsics: (v, 4) float32 of the images as they are here; None without poses.
    """

    scene: str
    images: np.ndarray
    frames: np.ndarray
    context: np.ndarray
    target: np.ndarray
    c2w: np.ndarray | None
    intrinsics: np.ndarray | None


def read_clip(dataset: Dataset, scene: int, choice: ViewChoice, *, image_size: tuple[int, int]) -> Clip:
    """The chosen views, decoded and cut to ``image_size`` (height, width).

    Raises:
        BrokenSceneError: one of them cannot be used.
    """
    stored = dataset.read(scene, choice.frames)
    images = np.stack([fit_image(image, image_size) for image in stored.images])
    intrinsics = None
    if stored.intrinsics is not None:
        pairs = zip(stored.intrinsics, stored.images, strict=True)
        intrinsics = np.stack([fit_intrinsics(row, image.shape[:2], image_size) for row, image in pairs])
    place = {frame: position for position, frame in enumerate(choice.frames)}
    context, target = (np.array([place[frame] for frame in frames]) for frames in (choice.context, choice.target))
    return Clip(dataset.key(scene), images, np.array(choice.frames), context, target, stored.c2w, intrinsics)


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


def _stack(arrays: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))
