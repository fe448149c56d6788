"""What travels between the parts: cameras, views, scenes, predictions.

Shape letters, used in every annotation of this package:

    b  batch              v   views (vc context, vt target)     n  tokens per view
    k  scene latents      d   token width                       p  patch size in pixels
    h w  image height and width in pixels                       e  width of one attention head

Conventions: images are float in [0, 1]. ``c2w`` maps camera to world with OpenCV axes (x right, y down,
z forward). ``intrinsics`` are (fx, fy, cx, cy) divided by (w, h, w, h). Pixel centres lie at +0.5.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TypeVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

T = TypeVar("T")


def map_tensors(value: T, change: Callable[[Tensor], Tensor]) -> T:
    """``value`` with ``change`` applied to every tensor in it, also inside dataclasses and mappings; the rest stays."""
    if isinstance(value, Tensor):
        return cast(T, change(value))
    if isinstance(value, Mapping):
        return cast(T, {key: map_tensors(entry, change) for key, entry in value.items()})
    if is_dataclass(value):
        entries = {entry.name: map_tensors(getattr(value, entry.name), change) for entry in fields(value)}
        return cast(T, replace(value, **entries))  # type: ignore[type-var]
    return value


def moved(value: T, device: torch.device | str) -> T:
    """``value`` with every tensor in it on ``device``; the host does not wait for copies from pinned memory."""
    return map_tensors(value, lambda tensor: tensor.to(device, non_blocking=tensor.is_pinned()))


def select_views(values: Tensor, views: Int[Tensor, "b s"]) -> Tensor:
    """``values`` (b, v, ...) at each batch element's own positions ``views`` on the view axis: (b, s, ...)."""
    rows = torch.arange(values.shape[0], device=values.device)[:, None]
    return values[rows, views]


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
        """The cameras at each batch element's own positions ``views``."""
        return Cameras(select_views(self.c2w, views), select_views(self.intrinsics, views))

    def to(self, device: torch.device | str) -> "Cameras":
        """The same cameras on ``device``."""
        return moved(self, device)


@dataclass(frozen=True)
class Views:
    """A batch of clips: what the loader yields and a model's ``forward`` takes.

    Attributes:
        images: all chosen views as the model sees them, in [0, 1].
        frames: position of each view in its original sequence.
        context: positions on the view axis that are given to the model.
        target: positions on the view axis that are rendered and judged.
        scenes: name of each batch element's scene.
        cameras: true cameras; None where the source has no poses.
        problems: what was broken on the way to this batch, one sentence each, already worked around.
        clean: what targets are compared with, where it is not what the model sees; None where it is.
    """

    images: Float[Tensor, "b v 3 h w"]
    frames: Int[Tensor, "b v"]
    context: Int[Tensor, "b vc"]
    target: Int[Tensor, "b vt"]
    scenes: tuple[str, ...]
    cameras: Cameras | None = None
    problems: tuple[str, ...] = ()
    clean: Float[Tensor, "b v 3 h w"] | None = None

    @property
    def context_images(self) -> Float[Tensor, "b vc 3 h w"]:
        """Images of the context views."""
        return select_views(self.images, self.context)

    @property
    def target_images(self) -> Float[Tensor, "b vt 3 h w"]:
        """Images of the target views as they should be rendered."""
        return select_views(self.images if self.clean is None else self.clean, self.target)

    def to(self, device: torch.device | str) -> "Views":
        """The same views on ``device``."""
        return moved(self, device)


@dataclass(frozen=True)
class Scene:
    """What a model remembers of the context views.

    Attributes:
        tokens: the memory, whatever it means to the model that made it.
        positions: where each token of the memory lies, as the model's position encoding counts; (0, 0) for nowhere.
        image_size: height and width in pixels at which views are rendered.
        prepared: what all renderings of the scene share, where ``Model.prepare`` has computed it already.
    """

    tokens: Float[Tensor, "b k d"]
    positions: Float[Tensor, "b k 2"]
    image_size: tuple[int, int]
    prepared: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """What a model's ``forward`` returns.

    Attributes:
        images: rendered target views, in [0, 1] or slightly beyond.
        cameras: the cameras used, of all views in the order of ``Views.images``.
    """

    images: Float[Tensor, "b vt 3 h w"]
    cameras: Cameras
