"""The values that pass between data, models and training: cameras, views, scenes, predictions.

Shape letters of all annotations:

    b    batch                              v    views (vc context views, vt target views)
    n    tokens of one view                 k    tokens or other elements of a scene
    d    width of a token                   e    width of one attention head
    h w  image height and width in pixels   p    patch size in pixels

Conventions: images are float in [0, 1]. ``c2w`` maps camera to world coordinates, with OpenCV axes (x right, y down,
z forward). ``intrinsics`` are (fx, fy, cx, cy) divided by (w, h, w, h). Pixel centres lie at +0.5.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TypeVar, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

T = TypeVar("T")
SceneKind = TypeVar("SceneKind", bound="Scene")
"""The class of a model's scenes."""


def map_tensors(value: T, change: Callable[[Tensor], Tensor]) -> T:
    """``value`` with ``change`` applied to each tensor in it.

    The function looks into dataclasses, mappings, tuples and lists. It leaves other values unchanged.
    """
    if isinstance(value, Tensor):
        return cast(T, change(value))
    if isinstance(value, tuple | list):
        items = [map_tensors(entry, change) for entry in value]
        return cast(T, type(value)(*items) if hasattr(value, "_fields") else type(value)(items))
    if isinstance(value, Mapping):
        return cast(T, {key: map_tensors(entry, change) for key, entry in value.items()})
    if is_dataclass(value):
        entries = {entry.name: map_tensors(getattr(value, entry.name), change) for entry in fields(value)}
        return cast(T, replace(value, **entries))  # type: ignore[type-var]
    return value


def tensors_of(value: object) -> list[Tensor]:
    """All tensors in ``value``, in the order of its fields."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(value, note)
    return found


def moved(value: T, device: torch.device | str) -> T:
    """``value`` with every tensor in it on ``device``. Copies from pinned memory are asynchronous."""
    return map_tensors(value, lambda tensor: tensor.to(device, non_blocking=tensor.is_pinned()))


def select_views(values: Tensor, views: Int[Tensor, "b s"]) -> Tensor:
    """The views of each batch element at its positions ``views``: (b, v, ...) becomes (b, s, ...)."""
    rows = torch.arange(values.shape[0], device=values.device)[:, None]
    return values[rows, views]


def first_equal(same: Bool[Tensor, "b v v"]) -> Int[Tensor, "b v"]:
    """Position of the first view that is the same as each view; every view must be the same as itself."""
    v = same.shape[1]
    return torch.where(same, torch.arange(v, device=same.device), v).amin(2)


@dataclass(frozen=True)
class Cameras:
    """Pinhole cameras without distortion.

    Attributes:
        c2w: camera to world, OpenCV axes; the last row is (0, 0, 0, 1).
        intrinsics: fx, fy, cx, cy divided by image width, height, width, height.
    """

    c2w: Float[Tensor, "b v 4 4"]
    intrinsics: Float[Tensor, "b v 4"]

    @property
    def num_views(self) -> int:
        """Number of views v."""
        return self.c2w.shape[1]

    def select(self, views: Int[Tensor, "b s"]) -> "Cameras":
        """The cameras of some views, by their positions in each batch element."""
        return Cameras(select_views(self.c2w, views), select_views(self.intrinsics, views))

    def to(self, device: torch.device | str) -> "Cameras":
        """The same cameras on ``device``."""
        return moved(self, device)


@dataclass(frozen=True)
class Views:
    """A batch of clips. The loader yields it, and ``forward`` of a model takes it.

    Attributes:
        images: all views of the clips, in [0, 1].
        frames: frame number of each view in its original sequence.
        context: positions of the context views on the view axis.
        target: positions of the target views on the view axis.
        scenes: names of the scenes.
        cameras: true cameras; None without poses.
        problems: one sentence for each fault of the data that the loader met and worked around.
        clean: all views before an augmentation that changed ``images`` only; ``target_images`` takes the targets from
            here. None without such an augmentation.
        depth: true depth along the optical axis at the pixel centres, for evaluation only, in the unit of length of
            ``cameras``; 0 where it is unknown. None without depth.
    """

    images: Float[Tensor, "b v 3 h w"]
    frames: Int[Tensor, "b v"]
    context: Int[Tensor, "b vc"]
    target: Int[Tensor, "b vt"]
    scenes: tuple[str, ...]
    cameras: Cameras | None = None
    problems: tuple[str, ...] = ()
    clean: Float[Tensor, "b v 3 h w"] | None = None
    depth: Float[Tensor, "b v h w"] | None = None

    @property
    def context_images(self) -> Float[Tensor, "b vc 3 h w"]:
        """Images of the context views."""
        return select_views(self.images, self.context)

    @property
    def target_images(self) -> Float[Tensor, "b vt 3 h w"]:
        """True images of the target views."""
        return select_views(self.images if self.clean is None else self.clean, self.target)

    def to(self, device: torch.device | str) -> "Views":
        """The same views on ``device``."""
        return moved(self, device)


@dataclass(frozen=True)
class Scene:
    """A batch of scenes, reconstructed from context views.

    Each model defines its own kind of scene, a frozen dataclass that extends this one, and only the model reads the
    fields. Fields are tensors, or tuples, mappings and dataclasses of tensors. The first axis of each tensor is the
    batch.

    Attributes:
        image_size: height and width of rendered images in pixels.
    """

    image_size: tuple[int, int] = field(kw_only=True)

    @property
    def batch_size(self) -> int:
        """Number of scenes."""
        return tensors_of(self)[0].shape[0]

    @property
    def device(self) -> torch.device:
        """The device that holds the scenes."""
        return tensors_of(self)[0].device

    def detach(self: SceneKind) -> SceneKind:
        """The same scenes without gradients."""
        return map_tensors(self, Tensor.detach)

    def select(self: SceneKind, scenes: Int[Tensor, " s"]) -> SceneKind:
        """Some of the scenes, by their positions in the batch. A scene may occur several times."""
        return map_tensors(self, lambda tensor: tensor[scenes])


@dataclass(frozen=True)
class Prediction:
    """The result of a model's ``forward``.

    Attributes:
        images: rendered target views, in [0, 1] or slightly beyond.
        cameras: cameras of all views, in the order of ``Views.images``.
        extra_losses: losses that the model defines, by name. Training adds each with weight 1 and logs it by its name.
        extra_images: further maps of the target views by name, such as depth or opacity, with 1 or 3 channels.
    """

    images: Float[Tensor, "b vt 3 h w"]
    cameras: Cameras
    extra_losses: Mapping[str, Float[Tensor, ""]] = field(default_factory=dict)
    extra_images: Mapping[str, Float[Tensor, "b vt _ h w"]] = field(default_factory=dict)
