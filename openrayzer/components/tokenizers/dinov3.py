"""Tokenizer: features of a pretrained DINOv3."""

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
    """Patch features of a pretrained DINOv3 (timm), mapped linearly to the token width.

    Images in [0, 1] are normalised inside, with the mean and deviation that the variant was trained with (ImageNet's,
    but for the satellite variants). Class and register tokens are dropped. Any multiple of the patch size will do.

    Args:
        width: token width d.
        variant: a timm name, optionally with its tag, e.g. vit_base_patch16_dinov3 or
            vit_large_patch16_dinov3.sat493m.
        trainable: train the backbone as well; if not, it stays in evaluation mode and only the linear map learns.
        checkpoint: weights as .safetensors, .pth or .pt, under timm's or Meta's names; None takes them from the
            Hugging Face hub or its cache.

    Raises:
        InputError: no such variant, or no fitting weights; the message names the file to get.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        *,
        width: int,
        variant: str = "vit_small_patch16_dinov3",
        trainable: bool = False,
        checkpoint: Path | None = None,
    ) -> None:
        super().__init__()
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
        """A frozen backbone stays in evaluation mode."""
        super().train(mode)
        if not self.trainable:
            self.backbone.eval()
        return self

    def forward(self, images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v n d"]:
        """Tokens.

        Raises:
            ValueError: height or width is no multiple of the patch size.
        """
        batch, _, _, height, width = images.shape
        patch_grid((height, width), self.patch_size)
        pixels = (rearrange(images, "b v c h w -> (b v) c h w").float() - self.mean.float()) / self.deviation.float()
        with torch.set_grad_enabled(self.trainable and torch.is_grad_enabled()):
            features = self.backbone.forward_features(pixels.to(self.backbone.patch_embed.proj.weight.dtype))
        patches = features[:, self.backbone.num_prefix_tokens :].to(self.projection.weight.dtype)
        return self.projection(rearrange(patches, "(b v) n d -> b v n d", b=batch))


def _backbone(variant: str, checkpoint: Path | None) -> Any:
    """The timm model with pretrained weights; without any where they would not be used, see ``weight_files``."""
    import timm  # takes seconds, and only this tokenizer needs it

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
    """Weights from a file, all of them and no others.

    Raises:
        InputError: lists the names that are missing, unknown, of another shape, or not finite.
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
    """Meta's own names as timm's.

    timm has two forms of each size, because the biases of queries and values are zero in most of Meta's files.
    The bias of the keys has no effect on attention and is masked by Meta.
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
