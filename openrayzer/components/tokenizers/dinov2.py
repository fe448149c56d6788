"""Tokenizer "dinov2": features of a pretrained DINOv2, with register tokens."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from openrayzer.components.tokenizers.pretrained import PretrainedTokenizer, check_variant, pretrained_backbone
from openrayzer.interfaces import TOKENIZERS, InputError
from openrayzer.layers.rms_norm import RMSNorm

FAMILY = "DINOv2"


@TOKENIZERS.register("dinov2")
class DinoV2(PretrainedTokenizer):
    """Patch features of a pretrained DINOv2 from timm; a linear map follows if the token width is another.

    The tokenizer drops class and register tokens. Height and width of the images are multiples of the patch size, 14.
    The table of positions, 37 x 37 patches, is resized to the patches of the images by bicubic interpolation with
    antialiasing.

    Args:
        width: token width d; UP-LVSM has that of the backbone, 768.
        variant: name of a timm model, optionally with a tag, e.g. vit_small_patch14_dinov2 (without registers).
        trainable: True trains the backbone, as in UP-LVSM. False keeps it frozen in evaluation mode.
        normalise: True normalises images in [0, 1] with the mean and standard deviation of the variant's training
            images. False is a choice of UP-LVSM, which trains the backbone on images in [0, 1].
        qk_norm_eps: epsilon of an RMSNorm of queries and keys in every block; DINOv2 has none (null), UP-LVSM has one
            with 1e-3. Its gains start at 1, so it changes the pretrained network.
        pretrained: False starts from random weights, e.g. for a model whose own weights are loaded afterwards.
        checkpoint: .safetensors, .pth or .pt file of weights under timm's or Meta's names; null takes the weights from
            the Hugging Face hub or its cache.
        backbone_width: token width of the backbone; null for the variant's, as all following sizes. Other sizes have no
            pretrained weights.
        depth: number of blocks of the backbone.
        num_heads: attention heads of the backbone.

    Raises:
        InputError: the variant does not exist, the weights do not fit, or sizes are given for pretrained weights.

    Source: Oquab et al. 2023, "DINOv2"; Darcet et al. 2023, "Vision Transformers Need Registers"; the norm of queries
    and keys: UP-LVSM (Wang et al. 2025).
    """

    def __init__(
        self,
        *,
        width: int,
        variant: str = "vit_base_patch14_reg4_dinov2",
        trainable: bool = False,
        normalise: bool = True,
        qk_norm_eps: float | None = None,
        pretrained: bool = True,
        checkpoint: Path | str | None = None,
        backbone_width: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
    ) -> None:
        given = {"embed_dim": backbone_width, "depth": depth, "num_heads": num_heads}
        sizes = {name: size for name, size in given.items() if size is not None}
        backbone = _backbone(variant, sizes, pretrained=pretrained, checkpoint=checkpoint)
        if qk_norm_eps is not None:
            for block in backbone.blocks:
                block.attn.q_norm, block.attn.k_norm = (_norm(block.attn.head_dim, qk_norm_eps) for _ in range(2))
        super().__init__(width=width, backbone=backbone, trainable=trainable, normalise=normalise, always_project=False)

    @staticmethod
    def example(folder: Path) -> Mapping[str, object]:
        """For the contract tests."""
        return {"pretrained": False, "trainable": True, "backbone_width": 32, "depth": 1, "num_heads": 2}


class HeadNorm(RMSNorm):
    """RMSNorm of queries or keys with a result in their dtype, which timm's attention expects."""

    def forward(self, tokens: Float[Tensor, "*batch e"]) -> Float[Tensor, "*batch e"]:
        return super().forward(tokens).to(tokens.dtype)


def _norm(head_width: int, eps: float) -> HeadNorm:
    if not eps > 0:
        raise InputError(f"qk_norm_eps must be above 0, or null for no norm, got {eps}")
    return HeadNorm(head_width, eps=eps)


def _backbone(variant: str, sizes: Mapping[str, int], *, pretrained: bool, checkpoint: Path | str | None) -> Any:
    import timm  # slow import (seconds)

    options: dict[str, Any] = {**sizes, "dynamic_img_size": True}
    if pretrained or checkpoint is not None:
        if sizes:
            raise InputError(
                "pretrained weights have the sizes of their variant: leave out backbone_width, depth and num_heads, or "
                "set pretrained to false"
            )
        path = None if checkpoint is None else Path(checkpoint)
        return pretrained_backbone(variant, path, family=FAMILY, convert=_converted, **options)
    check_variant(variant, family=FAMILY)
    return timm.create_model(variant, pretrained=False, num_classes=0, **options)


def _converted(state: dict[str, Tensor], model: Any, path: Path, variant: str) -> dict[str, Tensor]:
    """Weights under Meta's names, renamed to timm's; other weights do not change."""
    from timm.models.vision_transformer import checkpoint_filter_fn

    return checkpoint_filter_fn(state, model) if "mask_token" in state else state
