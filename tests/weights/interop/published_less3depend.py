"""Small random state dicts of UP-LVSM and PT-LVSM, with the names of published weights."""

from published import Sizes, blocks, full_linear, state_of
from torch import Tensor

DINO = "image_tokenizer.1.dino_vit"
SMALL = Sizes(patch=14)


def uplvsm(sizes: Sizes = SMALL, *, normed: bool = True, dino_normed: bool = True) -> dict[str, Tensor]:
    """Return weights of UP-LVSM; ``normed``: use_qk_norm, ``dino_normed``: dino_qknorm."""
    width, half = sizes.width, sizes.width // 2
    shapes = shared(sizes, dino_normed=dino_normed)
    shapes |= {"n_light_field_latent": (sizes.latents, width), "transformer_input_layernorm_decoder.weight": (width,)}
    for head, values in (("absT", 3), ("quaR", 4)):
        shapes |= full_linear(f"estimator.{head}_head.fc1", half, width)
        shapes |= full_linear(f"estimator.{head}_head.fc2", values, half)
    for stack, depth in {
        "transformer_encoder": 1, "estimator.transformer_estimator": 2, "transformer_decoder": 2,
    }.items():  # fmt: skip
        shapes |= blocks(stack, depth, sizes, normed=normed)
    return state_of(shapes)


def ptlvsm(sizes: Sizes = SMALL, *, normed: bool = True, dino_normed: bool = True) -> dict[str, Tensor]:
    """Return weights of PT-LVSM; switches as in ``uplvsm``."""
    shapes = shared(sizes, dino_normed=dino_normed) | {"transformer_input_layernorm.weight": (sizes.width,)}
    return state_of(shapes | blocks("transformer_blocks", 2, sizes, normed=normed))


def shared(sizes: Sizes, *, dino_normed: bool) -> dict[str, tuple[int, ...]]:
    """Return the shapes of tokenizers, marker and pixels."""
    width, patch = sizes.width, sizes.patch**2
    shapes: dict[str, tuple[int, ...]] = {
        f"{DINO}.cls_token": (1, 1, width), f"{DINO}.pos_embed": (1, 1370, width),
        f"{DINO}.register_tokens": (1, 4, width),
        f"{DINO}.patch_embed.proj.weight": (width, 3, sizes.patch, sizes.patch),
        f"{DINO}.patch_embed.proj.bias": (width,),
        "canonical_pose_tokenizer.1.weight": (width, 6 * patch), "target_pose_tokenizer.1.weight": (width, 6 * patch),
        "image_token_decoder.0.weight": (width,), "image_token_decoder.1.weight": (3 * patch, width),
        f"{DINO}.norm.weight": (width,), f"{DINO}.norm.bias": (width,),
    }  # fmt: skip
    for number in range(2):
        name = f"{DINO}.blocks.{number}"
        for norm in ("norm1", "norm2"):
            shapes |= {f"{name}.{norm}.weight": (width,), f"{name}.{norm}.bias": (width,)}
        shapes |= full_linear(f"{name}.attn.qkv", 3 * width, width) | full_linear(f"{name}.attn.proj", width, width)
        shapes |= full_linear(f"{name}.mlp.fc1", 4 * width, width) | full_linear(f"{name}.mlp.fc2", width, 4 * width)
        shapes |= {f"{name}.ls1.gamma": (width,), f"{name}.ls2.gamma": (width,)}
        if dino_normed:
            shapes |= {f"{name}.attn.{kind}_norm.weight": (sizes.head,) for kind in "qk"}
    return shapes
