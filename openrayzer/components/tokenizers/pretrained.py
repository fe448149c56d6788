"""Patch features of pretrained vision transformers from timm, for the tokenizers "dinov2" and "dinov3"."""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.interfaces import InputError, Tokenizer
from openrayzer.layers.init import init_linears, init_std
from openrayzer.layers.patches import patch_grid
from openrayzer.layers.weight_files import (
    building_on_meta,
    listed,
    pretrained_weights_are_skipped,
    read_state_dict,
    require_file,
    select_weights,
)

Convert = Callable[[dict[str, Tensor], Any, Path, str], dict[str, Tensor]]
"""Weights of a file, the timm model, the file and the variant to weights under timm's names."""


class PretrainedTokenizer(Tokenizer):
    """Patch tokens of a vision transformer after its last norm; class and register tokens are dropped.

    Args:
        width: token width d.
        backbone: a timm model.
        trainable: True trains the backbone. False keeps it frozen in evaluation mode.
        normalise: True normalises images with the mean and standard deviation of the training images of the backbone.
        always_project: whether there is a linear map to the token width even if the backbone has this width.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, *, width: int, backbone: Any, trainable: bool, normalise: bool, always_project: bool) -> None:
        super().__init__()
        self.width = width
        self.trainable = trainable
        self.backbone = backbone.requires_grad_(trainable)
        self.patch_size = backbone.patch_embed.patch_size[0]
        self.feature_width = int(backbone.embed_dim)
        projected = always_project or backbone.embed_dim != width
        self.projection = nn.Linear(backbone.embed_dim, width) if projected else nn.Identity()
        init_linears(self.projection, std=init_std(width))
        for name, key, unchanged in (("mean", "mean", 0.0), ("deviation", "std", 1.0)):
            values = torch.tensor(backbone.pretrained_cfg[key] if normalise else [unchanged] * 3)
            self.register_buffer(name, rearrange(values, "c -> 1 c 1 1"), persistent=False)
        self.train()

    def train(self, mode: bool = True) -> "PretrainedTokenizer":
        """Set the training mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if not self.trainable:
            self.backbone.eval()
        return self

    @property
    def checkpoint_every(self) -> int:
        """1 if the backward pass recomputes the activations of all blocks of the backbone; otherwise 0."""
        return int(self.backbone.grad_checkpointing)

    @checkpoint_every.setter
    def checkpoint_every(self, every: int) -> None:
        self.backbone.set_grad_checkpointing(self.trainable and every > 0)

    def forward(self, images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v n d"]:
        """One token per patch.

        Raises:
            ValueError: height or width is not a multiple of the patch size.
        """
        batch, pixels = images.shape[0], self._pixels(images)
        with torch.set_grad_enabled(self.trainable and torch.is_grad_enabled()):
            features = self.backbone.forward_features(pixels)
        patches = rearrange(features[:, self.backbone.num_prefix_tokens :], "(b v) n d -> b v n d", b=batch)
        if isinstance(self.projection, nn.Linear):
            patches = patches.to(self.projection.weight.dtype)
        return self.projection(patches)

    def block_features(
        self, images: Float[Tensor, "b v 3 h w"], blocks: Sequence[int]
    ) -> list[Float[Tensor, "b v n e"]]:
        depth = len(self.backbone.blocks)
        if not all(1 <= block <= depth for block in blocks):
            raise InputError(f"the backbone has {depth} blocks, counted from 1, and not the blocks {list(blocks)}")
        indices = [block - 1 for block in blocks]
        with torch.set_grad_enabled(self.trainable and torch.is_grad_enabled()):
            features = self.backbone.forward_intermediates(
                self._pixels(images), indices=indices, norm=False, output_fmt="NLC", intermediates_only=True
            )
        return [rearrange(each, "(b v) n e -> b v n e", b=images.shape[0]) for each in features]

    def _pixels(self, images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "bv 3 h w"]:
        """Normalised images in the dtype of the backbone."""
        patch_grid((images.shape[-2], images.shape[-1]), self.patch_size)
        pixels = (rearrange(images, "b v c h w -> (b v) c h w").float() - self.mean.float()) / self.deviation.float()
        return pixels.to(self.backbone.patch_embed.proj.weight.dtype)


def pretrained_backbone(variant: str, checkpoint: Path | None, *, family: str, convert: Convert, **options: Any) -> Any:
    """A timm model with pretrained weights, or without them in the special cases of ``weight_files``.

    Args:
        variant: name of a timm model, optionally with a tag.
        checkpoint: file of weights; None takes them from the Hugging Face hub or its cache.
        family: part of the names of all suitable timm models, in the capital letters of its paper, e.g. DINOv3.
        convert: renames the weights in a file if they have the names of the original code.
        options: further arguments of the timm model.

    Raises:
        InputError: the variant does not exist, or the weights do not fit; the message names the right file.
    """
    import timm  # slow import (seconds)

    check_variant(variant, family=family)
    remedy = _remedy(variant)
    if building_on_meta() or pretrained_weights_are_skipped():
        return timm.create_model(variant, pretrained=False, num_classes=0, **options)
    if checkpoint is None:
        try:
            return timm.create_model(variant, pretrained=True, num_classes=0, **options)
        except (OSError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise InputError(f"no weights of {variant} from the Hugging Face hub ({reason}); {remedy}") from error
    require_file(checkpoint, remedy=remedy)
    model = timm.create_model(variant, pretrained=False, num_classes=0, **options)
    _load(model, checkpoint, variant=variant, remedy=remedy, convert=convert)
    return model


def check_variant(variant: str, *, family: str) -> None:
    """Check that timm has the variant.

    Raises:
        InputError: it has not; the message suggests others.
    """
    import timm

    known = [*timm.list_models(f"*{family.lower()}*"), *timm.list_pretrained(f"vit*{family.lower()}*")]
    if variant not in known:
        close = get_close_matches(variant, known, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise InputError(f"no {family} variant {variant!r} in timm{hint} known: {', '.join(known)}")


def _remedy(variant: str) -> str:
    from timm import get_pretrained_cfg

    published = get_pretrained_cfg(variant)
    repository = published.hf_hub_id if published else f"timm/{variant}"
    return f"get https://huggingface.co/{repository}/resolve/main/model.safetensors and give its path as 'checkpoint'"


def _load(model: Any, path: Path, *, variant: str, remedy: str, convert: Convert) -> None:
    """Load weights from a file, which must hold exactly the weights of the model.

    Raises:
        InputError: weights are missing, unknown, of another shape, or not finite; the message lists them.
    """
    state = convert(read_state_dict(path, remedy=remedy), model, path, variant)
    own = model.state_dict()
    weights = select_weights(state, shapes={name: value.shape for name, value in own.items()}, path=path, remedy=remedy)
    unknown = sorted(state.keys() - own.keys())
    if unknown:
        raise InputError(f"{path.absolute()} has weights that {variant} lacks: {listed(unknown)}; {remedy}")
    model.load_state_dict(weights)
