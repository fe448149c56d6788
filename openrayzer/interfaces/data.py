"""Interfaces of data: datasets, view samplers, augmentations, and the values that pass between them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Frames:
    """Stored frames of one scene, in the requested order.

    Attributes:
        images: one uint8 array (h, w, 3), RGB, per frame; sizes may differ.
        c2w: camera to world (f, 4, 4) float32, OpenCV axes; None without poses.
        intrinsics: fx, fy, cx, cy (f, 4) float32, divided by image width, height, width, height; None without poses.
    """

    images: list[np.ndarray]
    c2w: np.ndarray | None
    intrinsics: np.ndarray | None

    def each(self) -> Iterator["Frames"]:
        """The same frames, one at a time."""
        for place, image in enumerate(self.images):
            one = slice(place, place + 1)
            c2w = None if self.c2w is None else self.c2w[one]
            yield Frames([image], c2w, None if self.intrinsics is None else self.intrinsics[one])

    @staticmethod
    def joined(parts: Iterable["Frames"]) -> "Frames":
        """The frames of all parts, in order. The result has cameras if every part has some and there is a part."""
        parts = list(parts)
        c2w = [part.c2w for part in parts if part.c2w is not None]
        intrinsics = [part.intrinsics for part in parts if part.intrinsics is not None]
        posed = 0 < len(parts) == len(c2w) == len(intrinsics)
        return Frames(
            [image for part in parts for image in part.images],
            np.concatenate(c2w) if posed else None,
            np.concatenate(intrinsics) if posed else None,
        )


class Dataset(ABC):
    """A source of scenes. Frame numbers are positions in the original sequence; a broken frame keeps its number.

    Worker processes receive a pickled copy of an open dataset.

    Attributes:
        posed: whether the scenes have cameras.
        problems: one sentence for each scene that ``open`` left out.
    """

    posed: bool
    problems: tuple[str, ...] = ()

    def __init__(self) -> None: ...

    @abstractmethod
    def open(self) -> None:
        """Find the scenes; every other method needs an open dataset. Opening must be fast for thousands of scenes.

        Raises:
            InputError: there is no usable scene; the message names the folder and the expected files.
        """

    @abstractmethod
    def __len__(self) -> int:
        """Number of scenes."""

    @abstractmethod
    def key(self, scene: int) -> str:
        """Name of a scene, unique in this source."""

    @abstractmethod
    def num_frames(self, scene: int) -> int:
        """Number of frames of a scene, broken frames included.

        Raises:
            BrokenSceneError: the scene is damaged, and ``open`` did not see it.
        """

    @abstractmethod
    def read(self, scene: int, frames: Sequence[int]) -> Frames:
        """Decode frames of a scene, in the given order; a number may occur several times.

        Raises:
            BrokenSceneError: a frame is damaged, has no usable camera, or does not exist.
        """

    def stream(self, scene: int, frames: Sequence[int]) -> Iterator[Frames]:
        """The frames of ``read``, one at a time. Training reads this way.

        The default decodes all frames first. A dataset that can decode frames one by one should override it: training
        shrinks each frame before it asks for the next, which saves memory and time.

        Raises:
            BrokenSceneError: as ``read``, possibly after some frames.
        """
        yield from self.read(scene, frames).each()

    def depths(self, scene: int, frames: Sequence[int]) -> list[np.ndarray] | None:
        """True depth of frames of a scene, for evaluation: one float32 array (h, w) per frame, of the image's size.

        A value is the depth along the optical axis at the pixel's centre, in the unit of length of the poses; 0 where
        it is unknown. None for a scene without depth, as by default.

        Raises:
            BrokenSceneError: a depth map is damaged or does not exist.
        """
        return None

    def version(self, scene: int, frame: int) -> tuple[str, str]:
        """The origin of a frame, such as a path, and the state of this origin, such as its size and time of change.

        The cache of decoded frames decodes a frame again if one of the two has changed. It does not keep a frame if
        both are empty, as by default.

        Raises:
            BrokenSceneError: the scene is damaged.
        """
        return "", ""


@dataclass(frozen=True)
class ViewChoice:
    """Frame numbers of one clip. A frame may be both context and target.

    Attributes:
        context: frames from which the model reconstructs the scene.
        target: frames that the model renders.
        order: all frames, each once, in the order of the view axis; empty for ascending numbers.
    """

    context: tuple[int, ...]
    target: tuple[int, ...]
    order: tuple[int, ...] = ()

    @property
    def frames(self) -> tuple[int, ...]:
        """All frames of the clip, each once, in the order of the view axis."""
        return self.order or tuple(sorted({*self.context, *self.target}))


class ViewSampler(ABC):
    """Chooses context and target frames of a scene."""

    def __init__(self) -> None: ...

    @abstractmethod
    def sample(self, key: str, num_frames: int, generator: np.random.Generator, step: int = 0) -> ViewChoice:
        """One choice. It depends on the arguments alone.

        Args:
            key: name of the scene.
            num_frames: number of frames, broken frames included.
            generator: source of all randomness.
            step: optimizer step of the clip, for choices that become harder during training.

        Raises:
            UnusableSceneError: the scene has no valid choice, e.g. it has too few frames.
        """

    def for_step(self, step: int, generator: np.random.Generator) -> "ViewSampler":
        """The sampler of all training clips of one optimizer step, on all ranks. The default returns ``self``.

        All clips of a batch need equal numbers of views. So a sampler with varying numbers draws them here and returns
        a sampler with fixed numbers.

        Args:
            step: the optimizer step.
            generator: source of randomness, equal for all clips of the step and different for each step.
        """
        return self

    def difficulty(self, step: int) -> Mapping[str, float]:
        """Named numbers that measure how hard the choices of a step are. Training logs them beside the loss."""
        return {}


@dataclass(frozen=True)
class Clip:
    """The chosen views of one scene. A frame that is both context and target occurs once.

    Attributes:
        scene: name of the scene.
        images: input images of the model (v, 3, h, w), float32 in [0, 1].
        frames: frame numbers (v,), in the order of the view axis.
        context: positions (vc,) of the context views on the view axis.
        target: positions (vt,) of the target views on the view axis.
        c2w: camera to world (v, 4, 4) float32, in the world frame of the source; None without poses.
        intrinsics: intrinsics (v, 4) float32 of ``images``; None without poses.
        clean: images (v, 3, h, w) before a change of ``images`` alone; true images of the targets come from here. None
            if ``images`` has the true images.
        depth: true depth (v, h, w) float32 of held-out views, see ``Dataset.depths``; None if it was not asked for, or
            the scene has none.
    """

    scene: str
    images: np.ndarray
    frames: np.ndarray
    context: np.ndarray
    target: np.ndarray
    c2w: np.ndarray | None
    intrinsics: np.ndarray | None
    clean: np.ndarray | None = None
    depth: np.ndarray | None = None

    def with_images(self, change: Callable[[np.ndarray], np.ndarray]) -> "Clip":
        """The clip with ``change`` applied to ``images`` and to ``clean``."""
        clean = None if self.clean is None else change(self.clean)
        return replace(self, images=change(self.images), clean=clean)


class Augmentation:
    """A random change of training clips that keeps images and cameras consistent.

    A subclass overrides ``cut`` or ``apply``. The change depends on the arguments alone, so it is the same in every
    process.
    """

    def __init__(self) -> None: ...

    def cut(self, frames: Frames, image_size: tuple[int, int], generator: np.random.Generator) -> Frames:
        """Change the stored views, before they are resized and cropped to ``image_size`` (height, width)."""
        return frames

    def apply(self, clip: Clip, generator: np.random.Generator) -> Clip:
        """Change the resized clip. Its arrays may be shared: copy an array instead of writing into it."""
        return clip
