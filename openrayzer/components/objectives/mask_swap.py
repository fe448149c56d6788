"""Objective "mask_swap": each half of the pixels is rendered with the cameras of the other half."""

import torch
from einops import repeat
from jaxtyping import Bool, Float
from torch import Tensor

from openrayzer.interfaces import OBJECTIVES, InputError, Model, Objective
from openrayzer.types import Cameras, Prediction, Views, map_tensors, select_views

_GREY = 0.5


@OBJECTIVES.register("mask_swap")
class MaskSwap(Objective):
    """Two views of the same frames that share no pixel; the cameras of one render the other.

    Two quarters of the image, drawn for each clip and equal in all its views, are the first half, the other two are the
    second half. A model sees the pixels of one half; the rest is grey. From each half it estimates cameras of all
    views. The scene of each half is reconstructed and rendered with the cameras of the other half, and both renderings
    fill one image. So a camera cannot carry pixels of the picture that it renders, and should mean the same in every
    scene.

    Training only: estimates of whole images need no masks. A step costs about twice as much as a "photometric" one.
    XFactor masks tokens in attention. Here the pixels are masked, so that every unposed model can take the objective.

    Args:
        whole: share of the clips that are not masked, which are trained as with "photometric".
        pose_brightness: largest amount that is added to all pixels of a half before cameras are estimated. It differs
            between clips and halves. The scene and the loss see the clean pixels.
        pose_contrast: largest relative change of the contrast about 0.5, likewise.

    Raises:
        InputError: a number is out of range.

    Source: Mitchel et al. 2025, "True Self-Supervised Novel View Synthesis is Transferable" (XFactor), mask-swap with
    5 % of the clips whole, and augmentation of the poses' images alone.
    """

    shares_views = True

    def __init__(self, *, whole: float = 0.05, pose_brightness: float = 0.0, pose_contrast: float = 0.0) -> None:
        super().__init__()
        if not (0 <= whole <= 1 and 0 <= pose_brightness <= 1 and 0 <= pose_contrast < 1):
            raise InputError(
                "whole and pose_brightness must be between 0 and 1, and pose_contrast at least 0 and below 1, "
                f"got {whole}, {pose_brightness}, {pose_contrast}"
            )
        self.whole, self.pose_brightness, self.pose_contrast = whole, pose_brightness, pose_contrast

    def check_model(self, model: Model) -> None:
        name = type(model).__name__
        if model.posed:
            raise InputError(
                f"the objective 'mask_swap' exchanges estimated cameras, and {name} has true ones; take 'photometric'"
            )
        if model.has_losses:
            raise InputError(
                f"the objective 'mask_swap' leaves out the losses that {name} adds in training; take 'photometric'"
            )

    def forward(self, model: Model, views: Views) -> Prediction:
        """The rendered target views, and the cameras of the first half."""
        size = (views.images.shape[-2], views.images.shape[-1])
        first = self._first_half(views.images.shape[0], size, views.images.device)
        halves = torch.cat(
            [masked(views.images, first), masked(views.images, ~first | first.all((-2, -1))[:, None, None])]
        )
        known = None
        if model.needs_intrinsics and views.cameras is not None:
            known = torch.cat([views.cameras.intrinsics] * 2)
        estimated = model.estimate(self._augmented(halves), known)
        swapped: Cameras = map_tensors(estimated, lambda values: values.roll(views.images.shape[0], dims=0))
        context, target = (torch.cat([places] * 2) for places in (views.context, views.target))
        scene = model.reconstruct(select_views(halves, context), swapped.select(context), context)
        ours, others = model.render(scene, swapped.select(target)).chunk(2)
        images = torch.where(first[:, None, None], ours, others)
        return Prediction(images, map_tensors(estimated, lambda values: values.chunk(2)[0]))

    def _first_half(self, clips: int, size: tuple[int, int], device: torch.device) -> Bool[Tensor, "b h w"]:
        """The pixels of the first half: two of four quarters, or all pixels of a whole clip."""
        order = torch.rand(clips, 4, device=device).argsort(dim=1)
        quarters = (order < 2) | (torch.rand(clips, 1, device=device) < self.whole)
        lower, right = (torch.arange(side, device=device) >= (side + 1) // 2 for side in size)
        number = 2 * lower[:, None].long() + right.long()  # (h, w), quarter of each pixel
        return quarters[:, number]

    def _augmented(self, images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v 3 h w"]:
        """The images with one brightness and one contrast for each clip."""
        if not (self.pose_brightness or self.pose_contrast):
            return images
        change = 2 * torch.rand(2, len(images), 1, 1, 1, 1, device=images.device, dtype=images.dtype) - 1
        contrast = 1 + self.pose_contrast * change[0]
        return ((images - _GREY) * contrast + _GREY + self.pose_brightness * change[1]).clamp(0, 1)


def masked(images: Float[Tensor, "b v 3 h w"], seen: Bool[Tensor, "b h w"]) -> Float[Tensor, "b v 3 h w"]:
    """The images in ``seen``, and grey elsewhere."""
    return images.where(repeat(seen, "b h w -> b 1 1 h w"), _GREY)
