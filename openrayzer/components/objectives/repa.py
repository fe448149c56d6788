"""Objective "repa": tokens of the model learn the features of a pretrained network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.interfaces import OBJECTIVES, InputError, Model, Objective, Tokenizer
from openrayzer.layers.patches import patch_grid
from openrayzer.layers.stack import Stack
from openrayzer.types import Prediction, Views, select_views

STREAMS: Mapping[str, str] = {"input": "scene.encoder", "target": "scene.renderer.stack"}
"""Stream -> the stack of a model whose blocks process the patches of the context or of the target views."""


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """One layer that learns the features of one block of the teacher.

    Args:
        stream: the blocks of the context views ("input") or those of the target views ("target").
        layer: number of the block of the model, counted from 1.
        teacher_block: number of the block of the teacher, counted from 1.
    """

    stream: Literal["input", "target"]
    layer: int
    teacher_block: int

    def __post_init__(self) -> None:
        if min(self.layer, self.teacher_block) < 1:
            raise InputError(f"layer and teacher_block count from 1, got {self.layer} and {self.teacher_block}")


@OBJECTIVES.register("repa")
class Repa(Objective):
    """Adds the loss ``repa``: projected tokens of some layers should equal features of a frozen teacher.

    The teacher sees the true images of the same views. Its features are resized to the model's grid of patches. Each
    alignment has a projector of three linear layers, which is trained and saved in checkpoints, but is no part of the
    model. The teacher is neither trained nor saved. The model needs a scene without latents, and the renderer "reading"
    or "layered", so that its blocks hold one token for each patch.

    Args:
        width: token width d of the model.
        teacher: a frozen pretrained network: the tokenizer "dinov2" or "dinov3".
        alignments: the layers that learn; by default the second of both streams from the eighth block of the teacher.
        teacher_size: length in pixels of the longer side of the images that the teacher sees; the published code takes
            336 for DINOv2 and 512 for DINOv3.
        projector_width: width of the two hidden layers of a projector.
        distance: smooth L1 with beta 1 ("smooth_l1"), mean squared error ("mse"), or 1 minus the cosine ("cosine").
        weight: factor of the loss.

    Raises:
        InputError: the teacher has no features, a block is missing, or a number is out of range.

    Source: Yu et al. 2025, "Representation Alignment for Generation"; with these streams in Efficient-LVSM (Jia et al.
    2026), whose cosine loss lacks the 1.
    """

    def __init__(
        self,
        *,
        width: int,
        teacher: Tokenizer,
        alignments: tuple[Alignment, ...] = (
            Alignment(stream="input", layer=2, teacher_block=8),
            Alignment(stream="target", layer=2, teacher_block=8),
        ),
        teacher_size: int = 336,
        projector_width: int = 2048,
        distance: Literal["smooth_l1", "mse", "cosine"] = "smooth_l1",
        weight: float = 0.5,
    ) -> None:
        super().__init__()
        if not alignments or min(teacher_size, projector_width) < 1 or weight < 0:
            raise InputError(
                "repa needs at least one alignment, teacher_size and projector_width of 1 or more, weight of 0 or more"
            )
        if not teacher.feature_width:
            raise InputError(f"tokenizer {type(teacher).__name__} cannot teach; take 'dinov2' or 'dinov3'")
        self.alignments, self.teacher_size, self.weight = alignments, teacher_size, weight
        self.distance: str = distance
        self._teacher = (teacher.requires_grad_(False).eval(),)  # a tuple, because weights of modules would be saved
        self.projectors = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, projector_width),
                nn.SiLU(),
                nn.Linear(projector_width, projector_width),
                nn.SiLU(),
                nn.Linear(projector_width, teacher.feature_width),
            )
            for _ in alignments
        )

    def check_model(self, model: Model) -> None:
        for alignment in self.alignments:
            blocks = len(_stack(model, alignment.stream).blocks)
            if alignment.layer > blocks:
                raise InputError(
                    f"repa aligns layer {alignment.layer} of the stream {alignment.stream!r}, which has {blocks} blocks"
                )

    def forward(self, model: Model, views: Views) -> Prediction:
        inputs, targets = ([each.layer - 1 for each in self._of(stream)] for stream in STREAMS)
        with (
            _stack(model, "input").keeping(inputs) as of_context,
            _stack(model, "target").keeping(targets) as of_target,
        ):
            prediction = model(views)
        losses = []
        for stream, tokens, places in (
            ("input", of_context, views.context),
            ("target", of_target, views.target),
        ):
            images = select_views(views.images, places)
            losses += self._losses(stream, tokens, images, model.patch_size)
        value = self.weight * torch.cat(losses).mean()
        extra = dict(prediction.extra_losses) | {"repa": value}
        return Prediction(prediction.images, prediction.cameras, extra, prediction.extra_images)

    def _of(self, stream: str) -> list[Alignment]:
        return [alignment for alignment in self.alignments if alignment.stream == stream]

    def _losses(
        self, stream: str, tokens: Mapping[int, Tensor], images: Float[Tensor, "b v 3 h w"], patch_size: int
    ) -> list[Float[Tensor, " bv"]]:
        """The distance of each image, for each alignment of a stream."""
        chosen = self._of(stream)
        if not chosen:
            return []
        b, v, grid = *images.shape[:2], patch_grid((images.shape[-2], images.shape[-1]), patch_size)
        wanted = self._features(images, sorted({each.teacher_block for each in chosen}), grid)
        found = []
        for alignment, projector in zip(self.alignments, self.projectors, strict=True):
            if alignment.stream != stream:
                continue
            own = tokens[alignment.layer - 1]
            if own is None or own.numel() != b * v * grid[0] * grid[1] * own.shape[-1]:
                raise InputError(
                    f"the blocks of the stream {stream!r} do not hold one token for each patch; repa needs a scene "
                    "without latents, and the renderer 'reading' or 'layered'"
                )
            own = projector(own.reshape(b * v, grid[0] * grid[1], own.shape[-1]))
            found.append(self._distance(own.float(), wanted[alignment.teacher_block]))
        return found

    @torch.no_grad()
    def _features(
        self, images: Float[Tensor, "b v 3 h w"], blocks: list[int], grid: tuple[int, int]
    ) -> dict[int, Float[Tensor, "bv n e"]]:
        """Features of the teacher on the grid of the model, by block, in float32."""
        (teacher,) = self._teacher
        if any(weight.device != images.device for weight in teacher.parameters()):
            teacher.to(images.device)
        longer, p = max(images.shape[-2:]), teacher.patch_size
        rows, columns = (max(1, round(self.teacher_size * side / longer / p)) for side in images.shape[-2:])
        pixels = images.float().flatten(0, 1)
        seen = F.interpolate(pixels, size=(rows * p, columns * p), mode="bicubic", align_corners=False)
        features = teacher.block_features(seen.unflatten(0, images.shape[:2]), blocks)
        resized = {}
        for block, values in zip(blocks, features, strict=True):
            planes = rearrange(values.float(), "b v (y x) e -> (b v) e y x", y=rows)
            planes = F.interpolate(planes, size=grid, mode="bicubic", align_corners=False)
            resized[block] = rearrange(planes, "bv e y x -> bv (y x) e")
        return resized

    def _distance(self, own: Float[Tensor, "bv n e"], wanted: Float[Tensor, "bv n e"]) -> Float[Tensor, " bv"]:
        if self.distance == "cosine":
            return 1 - F.cosine_similarity(own, wanted, dim=-1).mean(dim=1)
        compare = F.smooth_l1_loss if self.distance == "smooth_l1" else F.mse_loss
        return compare(own, wanted, reduction="none").mean(dim=(1, 2))


def _stack(model: Model, stream: str) -> Stack:
    """The blocks of a stream.

    Raises:
        InputError: the model has none.
    """
    try:
        found = model.get_submodule(STREAMS[stream])
    except AttributeError:
        found = None
    if not isinstance(found, Stack):
        raise InputError(
            f"{type(model).__name__} has no blocks for the stream {stream!r} of repa; take 'efficient_lvsm', or "
            "'rayzer' with the encoder 'per_view' and the renderer 'layered'"
        )
    return found
