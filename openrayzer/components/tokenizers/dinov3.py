"""Tokenizer "dinov3": features of a pretrained DINOv3."""

from pathlib import Path
from typing import Any

from torch import Tensor

from openrayzer.components.tokenizers.pretrained import PretrainedTokenizer, pretrained_backbone
from openrayzer.interfaces import TOKENIZERS, InputError


@TOKENIZERS.register("dinov3")
class DinoV3(PretrainedTokenizer):
    """Patch features of a pretrained DINOv3 from timm, with a linear map to the token width.

    The tokenizer normalises images in [0, 1] with the mean and standard deviation of the variant's training images.
    It drops class and register tokens. Height and width of the images are multiples of the patch size.

    Args:
        width: token width d.
        variant: name of a timm model, optionally with a tag, e.g. vit_base_patch16_dinov3 or
            vit_large_patch16_dinov3.sat493m.
        trainable: True trains the backbone. False keeps it frozen in evaluation mode, and only the linear map learns.
        checkpoint: .safetensors, .pth or .pt file of weights under timm's or Meta's names; null takes the weights from
            the Hugging Face hub or its cache.

    Raises:
        InputError: the variant does not exist, or the weights do not fit; the message names the right file.
    """

    def __init__(
        self,
        *,
        width: int,
        variant: str = "vit_small_patch16_dinov3",
        trainable: bool = False,
        checkpoint: Path | str | None = None,
    ) -> None:
        path = None if checkpoint is None else Path(checkpoint)
        super().__init__(
            width=width,
            backbone=pretrained_backbone(variant, path, family="DINOv3", convert=_converted),
            trainable=trainable,
            normalise=True,
            always_project=True,
        )


def _converted(state: dict[str, Tensor], model: Any, path: Path, variant: str) -> dict[str, Tensor]:
    """Weights under Meta's names, renamed to timm's; other weights do not change.

    timm has two variants of each size, because the biases of queries and values are zero in most of Meta's files.
    The bias of the keys has no effect on attention, and Meta masks it.
    """
    from timm.models.eva import checkpoint_filter_fn

    if "storage_tokens" not in state:
        return state
    biases = {name: value for name, value in state.items() if name.endswith("attn.qkv.bias")}
    if hasattr(model.blocks[0].attn, "q_bias") and model.blocks[0].attn.q_bias is not None:
        return checkpoint_filter_fn(state, model)
    for name, bias in biases.items():
        query, _, value = bias.chunk(3)
        if query.any() or value.any():
            raise InputError(f"{path.absolute()}: {name} is not zero; use the variant {variant.partition('.')[0]}_qkvb")
    return checkpoint_filter_fn({name: value for name, value in state.items() if name not in biases}, model)
