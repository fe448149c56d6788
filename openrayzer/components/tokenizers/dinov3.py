"""Tokenizer "dinov3": features of a pretrained DINOv3."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.interfaces import TOKENIZERS, InputError, Tokenizer
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


@TOKENIZERS.register("dinov3")
class DinoV3(Tokenizer):
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

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        *,
        width: int,
        variant: str = "vit_small_patch16_dinov3",
        trainable: bool = False,
        checkpoint: Path | str | None = None,
    ) -> None:
        super().__init__()
        checkpoint = None if checkpoint is None else Path(checkpoint)
        self.width = width
        self.trainable = trainable
        self.backbone = _backbone(variant, checkpoint).requires_grad_(trainable)
        self.patch_size = self.backbone.patch_embed.patch_size[0]
        self.projection = nn.Linear(self.backbone.embed_dim, width)
        init_linears(self.projection, std=init_std(width))
        for name, key in (("mean", "mean"), ("deviation", "std")):
            values = torch.tensor(self.backbone.pretrained_cfg[key])
            self.register_buffer(name, rearrange(values, "c -> 1 c 1 1"), persistent=False)
        self.train()

    def train(self, mode: bool = True) -> "DinoV3":
        """Set the training mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if not self.trainable:
            self.backbone.eval()
        return self

    def forward(self, images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v n d"]:
        """One token per patch.

        Raises:
            ValueError: height or width is not a multiple of the patch size.
        """
        batch, _, _, height, width = images.shape
        patch_grid((height, width), self.patch_size)
        pixels = (rearrange(images, "b v c h w -> (b v) c h w").float() - self.mean.float()) / self.deviation.float()
        with torch.set_grad_enabled(self.trainable and torch.is_grad_enabled()):
            features = self.backbone.forward_features(pixels.to(self.backbone.patch_embed.proj.weight.dtype))
        patches = features[:, self.backbone.num_prefix_tokens :].to(self.projection.weight.dtype)
        return self.projection(rearrange(patches, "(b v) n d -> b v n d", b=batch))


def _backbone(variant: str, checkpoint: Path | None) -> Any:
    """The timm model with pretrained weights, or without them in the special cases of ``weight_files``."""
    import timm  # slow import (seconds)

    _check_variant(variant, [*timm.list_models("*dinov3*"), *timm.list_pretrained("vit*dinov3*")])
    remedy = _remedy(variant)
    if building_on_meta() or pretrained_weights_are_skipped():
        return timm.create_model(variant, pretrained=False, num_classes=0)
    if checkpoint is None:
        try:
            return timm.create_model(variant, pretrained=True, num_classes=0)
        except (OSError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise InputError(f"no weights of {variant} from the Hugging Face hub ({reason}); {remedy}") from error
    require_file(checkpoint, remedy=remedy)
    model = timm.create_model(variant, pretrained=False, num_classes=0)
    _load(model, checkpoint, variant=variant, remedy=remedy)
    return model


def _check_variant(variant: str, known: list[str]) -> None:
    if variant not in known:
        close = get_close_matches(variant, known, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise InputError(f"no DINOv3 variant {variant!r} in timm{hint} known: {', '.join(known)}")


def _remedy(variant: str) -> str:
    from timm import get_pretrained_cfg

    published = get_pretrained_cfg(variant)
    repository = published.hf_hub_id if published else f"timm/{variant}"
    return f"get https://huggingface.co/{repository}/resolve/main/model.safetensors and give its path as 'checkpoint'"


def _load(model: Any, path: Path, *, variant: str, remedy: str) -> None:
    """Load weights from a file, which must hold exactly the weights of the model.

    Raises:
        InputError: weights are missing, unknown, of another shape, or not finite; the message lists them.
    """
    state = read_state_dict(path, remedy=remedy)
    if "storage_tokens" in state:
        state = _from_meta(state, model, path=path, variant=variant)
    own = model.state_dict()
    weights = select_weights(state, shapes={name: value.shape for name, value in own.items()}, path=path, remedy=remedy)
    unknown = sorted(state.keys() - own.keys())
    if unknown:
        raise InputError(f"{path.absolute()} has weights that {variant} lacks: {listed(unknown)}; {remedy}")
    model.load_state_dict(weights)


def _from_meta(state: dict[str, Tensor], model: Any, *, path: Path, variant: str) -> dict[str, Tensor]:
    """Weights under Meta's names, renamed to timm's.

    timm has two variants of each size, because the biases of queries and values are zero in most of Meta's files.
    The bias of the keys has no effect on attention, and Meta masks it.
    """
    from timm.models.eva import checkpoint_filter_fn

    biases = {name: value for name, value in state.items() if name.endswith("attn.qkv.bias")}
    if hasattr(model.blocks[0].attn, "q_bias") and model.blocks[0].attn.q_bias is not None:
        return checkpoint_filter_fn(state, model)
    for name, bias in biases.items():
        query, _, value = bias.chunk(3)
        if query.any() or value.any():
            raise InputError(f"{path.absolute()}: {name} is not zero; use the variant {variant.partition('.')[0]}_qkvb")
    return checkpoint_filter_fn({name: value for name, value in state.items() if name not in biases}, model)
