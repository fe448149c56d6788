"""Interfaces of data: datasets, view samplers, augmentations, and the values that pass between them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Frames:
    """Some frames of one scene as they are stored, in the order asked for.

    Attributes:
        images: one uint8 array (h, w, 3), RGB, per frame.
        c2w: camera to world (f, 4, 4) float32, OpenCV axes; None where the source has no poses.
        intrinsics: (f, 4) float32, normalised by image size; None where the source has no poses.
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
        """The frames of all parts in their order; without cameras if one of them has none, or there is none."""
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
    """A source of scenes. Frame numbers are positions in the original sequence, always.

    Attributes:
        posed: whether the scenes have cameras.
        problems: scenes that were left out when the source was opened, one sentence each.
    """

    posed: bool
    problems: tuple[str, ...] = ()

    def __init__(self) -> None: ...

    @abstractmethod
    def open(self) -> None:
        """Find the scenes; cheap, done once before anything else.

        Raises:
            InputError: there is nothing usable; the message says what was looked for and where.
        """

    @abstractmethod
    def __len__(self) -> int:
        """Number of usable scenes."""

    @abstractmethod
    def key(self, scene: int) -> str:
        """The scene's name, unique in this source."""

    @abstractmethod
    def num_frames(self, scene: int) -> int:
        """Length of the original sequence, broken frames included.

        Raises:
            BrokenSceneError: the scene turns out unusable only now.
        """

    @abstractmethod
    def read(self, scene: int, frames: Sequence[int]) -> Frames:
        """Decode some frames.

        Raises:
            BrokenSceneError: a frame or camera among them cannot be used.
        """

    def stream(self, scene: int, frames: Sequence[int]) -> Iterator[Frames]:
        """What ``read`` gives, one frame at a time; training reads this way.

        By default all are decoded first. Overriding it pays where frames can be decoded alone: each is shrunk before
        the next is decoded, so that large ones are never held together and small ones stay in the processor's cache.

        Raises:
            BrokenSceneError: see ``read``; frames before it may have been given.
        """
        yield from self.read(scene, frames).each()

    def version(self, scene: int, frame: int) -> tuple[str, str]:
        """Where a frame comes from, and what that was like when asked, so that a change of either can be told.

        Empty texts where that cannot be told; such a frame is never cached.

        Raises:
            BrokenSceneError: the scene cannot be used.
        """
        return "", ""


@dataclass(frozen=True)
class ViewChoice:
    """Frame numbers of one clip; a frame may be in both.

    Attributes:
        context: frames that are given to the model.
        target: frames that are rendered and judged.
        order: all of them, each once, as they follow each other on the view axis; empty for rising numbers.
    """

    context: tuple[int, ...]
    target: tuple[int, ...]
    order: tuple[int, ...] = ()

    @property
    def frames(self) -> tuple[int, ...]:
        """All frames of the clip, each once, as they follow each other on the view axis."""
        return self.order or tuple(sorted({*self.context, *self.target}))


class ViewSampler(ABC):
    """Which frames of a scene, and which of them are context and which target."""

    def __init__(self) -> None: ...

    @abstractmethod
    def sample(self, key: str, num_frames: int, generator: np.random.Generator, step: int = 0) -> ViewChoice:
        """One choice; all randomness comes from ``generator``.

        Args:
            key: the scene's name.
            num_frames: its length, broken frames included.
            generator: of random numbers.
            step: optimizer step for which the clip is loaded, for choices that grow harder.

        Raises:
            UnusableSceneError: the scene has no valid choice, e.g. too few frames.
        """

    def for_step(self, step: int, generator: np.random.Generator) -> "ViewSampler":
        """What samples all training clips of one optimizer step, on all ranks: what they must share is drawn here.

        A sampler whose numbers of views vary returns one with fixed numbers, since a batch needs equal ones.

        Args:
            step: the optimizer step.
            generator: of random numbers that are the same for all clips of the step, and for them only.
        """
        return self

    def difficulty(self, step: int) -> Mapping[str, float]:
        """Named numbers that say how hard the choices of an optimizer step are; logged beside the loss."""
        return {}


@dataclass(frozen=True)
class Clip:
    """The chosen views of one scene; a frame that is context and target is there once.

    Attributes:
        scene: the scene's name.
        images: (v, 3, h, w) float32 in [0, 1]: what the model sees.
        frames: (v,) frame numbers, in the order of the view axis.
        context: (vc,) positions on the view axis that are given to the model.
        target: (vt,) positions on the view axis that are rendered and judged.
        c2w: (v, 4, 4) float32 as the source has them; None without poses.
        intrinsics: (v, 4) float32 of the images as they are here; None without poses.
        clean: (v, 3, h, w), what targets are compared with, where it is not what the model sees; else None.
    """

    scene: str
    images: np.ndarray
    frames: np.ndarray
    context: np.ndarray
    target: np.ndarray
    c2w: np.ndarray | None
    intrinsics: np.ndarray | None
    clean: np.ndarray | None = None

    def with_images(self, change: Callable[[np.ndarray], np.ndarray]) -> "Clip":
        """The clip with all its images changed alike, the clean ones, too."""
        clean = None if self.clean is None else change(self.clean)
        return replace(self, images=change(self.images), clean=clean)


class Augmentation:
    """A change of training clips that keeps images and cameras consistent; an implementation overrides either method.

    A clip's decisions are a function of the generator alone: whoever loads the clip, and whenever, it is the same.
    """

    def __init__(self) -> None: ...

    def cut(self, frames: Frames, image_size: tuple[int, int], generator: np.random.Generator) -> Frames:
        """Change the views as they are stored, before they are resized and cropped to ``image_size``."""
        return frames

    def apply(self, clip: Clip, generator: np.random.Generator) -> Clip:
        """Change the finished clip; its arrays may be shared and are not to be written to."""
        return clip
