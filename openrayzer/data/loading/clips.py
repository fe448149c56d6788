"""One clip from a scene, and a batch from clips.

Images that no augmentation changes stay (h, w, 3) uint8, as they were decoded. They need a quarter of the memory of
float32 images, so it takes less time to write them, to pass them to the training process, and to copy them to a GPU.
``LoadedViews.views`` converts them on the GPU.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from openrayzer.data.pixels.resizing import as_float, fit_depth, fit_frames
from openrayzer.data.pixels.scaled_decoding import decoding_for
from openrayzer.geometry.poses import normalise_poses
from openrayzer.interfaces import Augmentation, Clip, Dataset, InputError, ViewChoice
from openrayzer.machine.retries import with_retries
from openrayzer.settings import DataSettings
from openrayzer.types import Cameras, Views

Change = tuple[Augmentation, np.random.Generator]
"""An augmentation and the generator of its random choices for one clip."""

Buffer = Callable[[int], np.ndarray]
"""Takes the number of views of a clip; returns an array (v, h, w, 3) uint8 for its images."""


@dataclass(frozen=True)
class LoadedViews:
    """A batch as a worker process sends it.

    Attributes:
        images: (b, v, h, w, 3) uint8; with augmentations (b, v, 3, h, w) float32 in [0, 1].
        clean: (b, v, 3, h, w) float32, or None; see ``Views``.
        others: the other attributes of ``Views``.
    """

    images: Tensor
    clean: Tensor | None
    others: Mapping[str, Any]

    def views(self, device: torch.device | str = "cpu") -> Views:
        """The batch with float32 images in [0, 1] on ``device``; all other tensors stay on their device."""
        images = self.images.to(device, non_blocking=True)
        if images.dtype == torch.uint8 and images.device.type == "cpu":
            images = torch.from_numpy(as_float(images.numpy()))  # faster: NumPy puts large arrays into huge pages
        elif images.dtype == torch.uint8:
            images = rearrange(images, "b v h w c -> b v c h w").contiguous().float()
            images /= torch.full((), 255.0, device=images.device)  # a GPU would multiply by the inverse of a number
        return Views(images=images, clean=self.clean, **self.others)


class BatchBuffer:
    """One array for the images of a batch. Clips are decoded into it, which saves a copy when they are collated.

    All clips must have as many views as the first one.

    Args:
        clips: number of clips.
        image_size: height and width in pixels.
    """

    def __init__(self, clips: int, image_size: tuple[int, int]) -> None:
        self.clips, self.image_size = clips, image_size
        self.images = np.empty((clips, 0, *image_size, 3), np.uint8)

    def of(self, clip: int) -> Buffer:
        """The buffer of one clip."""
        return partial(self._view, clip)

    def _view(self, clip: int, views: int) -> np.ndarray:
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
    buffer: Buffer | None = None,
    scaled_decoding: bool = False,
    with_depth: bool = False,
) -> Clip:
    """Decode the chosen views, resize and crop them to ``image_size``, and augment them.

    Args:
        dataset: the opened dataset that holds the scene.
        scene: number of the scene in the dataset.
        choice: frame numbers of the views.
        image_size: height and width of the result in pixels.
        changes: augmentations, applied in order.
        buffer: gives the array to decode into. Without augmentations the images of the clip are this array, uint8 and
            (v, h, w, 3); ``collate`` handles both forms. None: the images are (v, 3, h, w) float32 in a new array.
        scaled_decoding: whether JPEG files may be decoded at a fraction of their size. It must be False if an
            augmentation crops the stored frames.
        with_depth: whether to read the true depth of the views; only without augmentations.

    Raises:
        BrokenSceneError: a view cannot be used.
    """
    count = len(choice.frames)
    images = np.empty((count, *image_size, 3), np.uint8) if buffer is None else buffer(count)
    with decoding_for(image_size) if scaled_decoding else nullcontext():
        if changes:
            stored = with_retries(lambda: dataset.read(scene, choice.frames))
            for augmentation, generator in changes:
                stored = augmentation.cut(stored, image_size, generator)
            c2w, intrinsics = fit_frames(stored.each(), images)
        else:
            c2w, intrinsics = with_retries(lambda: fit_frames(dataset.stream(scene, choice.frames), images))
    if changes or buffer is None:
        images = as_float(images)
    place = {frame: position for position, frame in enumerate(choice.frames)}
    context, target = (np.array([place[frame] for frame in frames]) for frames in (choice.context, choice.target))
    clip = Clip(dataset.key(scene), images, np.array(choice.frames), context, target, c2w, intrinsics)
    for augmentation, generator in changes:
        clip = augmentation.apply(clip, generator)
    depths = with_retries(lambda: dataset.depths(scene, choice.frames)) if with_depth else None
    return clip if depths is None else replace(clip, depth=np.stack([fit_depth(depth, image_size) for depth in depths]))


def collate(clips: Sequence[Clip], *, settings: DataSettings, problems: Sequence[str] = ()) -> LoadedViews:
    """Join clips with equal numbers of views to a batch. The batch has cameras only if every clip has cameras.

    Raises:
        InputError: the numbers of views differ.
    """
    counts = {(len(clip.frames), len(clip.context), len(clip.target)): clip.scene for clip in clips}
    if len(counts) > 1:
        some = "; ".join(f"{scene!r} has {v} ({vc} and {vt})" for (v, vc, vt), scene in counts.items())
        raise InputError(f"clips of one batch need equal numbers of views (context and target): {some}")
    cameras = _cameras(clips, settings)
    others = {
        "frames": _stack([clip.frames for clip in clips]),
        "context": _stack([clip.context for clip in clips]),
        "target": _stack([clip.target for clip in clips]),
        "scenes": tuple(clip.scene for clip in clips),
        "cameras": cameras,
        "problems": tuple(problems),
        "depth": _depth(clips, cameras),
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


def _depth(clips: Sequence[Clip], cameras: Cameras | None) -> Tensor | None:
    """The depth of all clips in the unit of ``cameras``, unknown in clips without depth; None if no clip has depth."""
    known = [clip.depth for clip in clips if clip.depth is not None]
    if not known:
        return None
    depth = _stack([np.zeros_like(known[0]) if clip.depth is None else clip.depth for clip in clips])
    if cameras is None:
        return depth
    stored = _spread(_stack([clip.c2w for clip in clips if clip.c2w is not None]))
    scale = torch.where(stored > 0, _spread(cameras.c2w) / stored.clamp(min=1e-30), 1.0)  # avoids 0 / 0
    return depth * scale[:, None, None, None]


def _spread(c2w: Float[Tensor, "b v 4 4"]) -> Float[Tensor, " b"]:
    """Root of the summed square distances of the centres from their mean."""
    centres = c2w[..., :3, 3]
    return (centres - centres.mean(dim=1, keepdim=True)).square().sum(dim=(1, 2)).sqrt()


def _stack(arrays: Sequence[np.ndarray]) -> Tensor:
    whole = arrays[0].base  # the shared array of clips that were decoded into a batch buffer
    if whole is not None and whole.shape == (len(arrays), *arrays[0].shape) and all(map(_is_same, arrays, whole)):
        return torch.from_numpy(whole)
    return torch.from_numpy(np.stack(arrays))


def _is_same(array: np.ndarray, other: np.ndarray) -> bool:
    return array.__array_interface__ == other.__array_interface__
