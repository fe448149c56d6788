"""Golden files of published systems for any size and setting, written by the code in ``straight_line``."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import published
import published_less3depend
import torch
from published import Sizes
from published_rayder import RayDerSizes, rayder
from safetensors.torch import save_file
from straight_line import efficient, less3depend, lvsm, open_rayzer, rayzer_official
from straight_line import rayder as straight_rayder
from torch import Tensor

FORWARD: dict[str, Callable[[Mapping[str, Tensor], Mapping[str, Tensor], Mapping[str, Any]], dict[str, Tensor]]] = {
    "rayzer-official": rayzer_official.forward,
    "open-rayzer": open_rayzer.forward,
    "lvsm-ed": lvsm.encoder_decoder,
    "lvsm-d": lvsm.decoder_only,
    "rayder": straight_rayder.forward,
    "efficient-lvsm": efficient.forward,
    "uplvsm": less3depend.unposed,
    "ptlvsm": less3depend.posed_targets,
}
"""Outputs of each system from its state, its inputs and its configuration."""
GOLDEN = (
    "rayzer_official_tiny", "open_rayzer_tiny", "open_rayzer_feature_fuse_tiny", "lvsm_encoder_decoder_tiny",
    "lvsm_decoder_only_tiny", "rayder_tiny", "efficient_lvsm_tiny", "efficient_lvsm_plain_tiny", "uplvsm_tiny",
    "ptlvsm_tiny",
)  # fmt: skip
"""Files recorded with the published code."""
LESS3DEPEND = {"uplvsm": published_less3depend.uplvsm, "ptlvsm": published_less3depend.ptlvsm}
CONSTANT = "pos_emb."
"""Part of the names of constants that are stored with the weights."""


@dataclass(frozen=True)
class Setup:
    """Content of a golden file without the outputs."""

    arch: str
    state: dict[str, Tensor]
    inputs: dict[str, Tensor]
    config: dict[str, Any]

    def outputs(self) -> dict[str, Tensor]:
        """Compute the outputs; includes the norm of the gradient of the loss if there is a loss."""
        if self.arch == "rayder":
            with torch.no_grad():
                return FORWARD[self.arch](self.state, self.inputs, self.config)
        weights = learned(self.state)
        outputs = FORWARD[self.arch](weights, self.inputs, self.config)
        return outputs | {"grad_norm": gradient_norm(outputs["loss"], list(weights.values()))}


def learned(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies that require gradients, except constants."""
    return {name: value.clone().requires_grad_(CONSTANT not in name) for name, value in state.items()}


def gradient_norm(loss: Tensor, weights: list[Tensor]) -> Tensor:
    """Return the norm of the gradient of all weights together."""
    gradients = torch.autograd.grad(loss, [weight for weight in weights if weight.requires_grad], allow_unused=True)
    return torch.stack([gradient.square().sum() for gradient in gradients if gradient is not None]).sum().sqrt()


def record(folder: Path, setup: Setup) -> Path:
    """Compute the outputs and write a golden file."""
    outputs = {name: torch.atleast_1d(value.detach()).contiguous() for name, value in setup.outputs().items()}
    return write(folder / "recording.safetensors", setup, outputs)


def write(file: Path, setup: Setup, outputs: Mapping[str, Tensor]) -> Path:
    parts = {"state": setup.state, "in": setup.inputs, "out": outputs}
    tensors = {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}
    save_file(tensors, file, metadata={"config": json.dumps({"arch": setup.arch, "config": setup.config})})
    return file


def rayzer_official_setup(
    sizes: Sizes = published.SIZES,
    *,
    size: tuple[int, int] = (16, 16),
    context: tuple[tuple[int, ...], ...] = ((0, 3, 4),),
    target: tuple[tuple[int, ...], ...] = ((1, 2),),
    num_views: int = 5,
    canonical: str = "middle",
    **switches: Any,
) -> Setup:
    """``switches``: settings and depths for ``published.rayzer_official``."""
    state = published.rayzer_official(sizes, **switches)
    inputs = {"image": images(num_views, size), "input_idx": torch.tensor(context), "target_idx": torch.tensor(target)}
    config = {
        "model": {
            "image_tokenizer": {"image_size": size[0], "patch_size": sizes.patch, "in_channels": 3},
            "target_image": {"height": size[0], "width": size[1], "patch_size": sizes.patch, "in_channels": 6},
            "input_with_pe": switches.get("embedded", True),
            "transformer": transformer(sizes, **switches),
            "scene_latent": {"length": sizes.latents},
            "pose_latent": {"length": 1, "canonical": canonical},
        }
    }
    return Setup("rayzer-official", state, inputs, config)


def open_rayzer_setup(
    sizes: Sizes = published.SIZES,
    *,
    size: tuple[int, int] = (16, 16),
    counts: tuple[int, int] = (3, 2),
    style: bool = True,
    frequency: int = 100,
    **switches: Any,
) -> Setup:
    """``switches``: settings and depths for ``published.open_rayzer``; ``style``: vggstyle."""
    state = published.open_rayzer(sizes, **switches)
    config = {
        "model": {
            "tokenizer": {"image_size": size[0], "patch_size": sizes.patch, "d_model": sizes.width, "out_channels": 3},
            "transformer": transformer(sizes, **switches)
            | {"rope": switches.get("rotary", True), "rope_freq": frequency, "vggstyle": style},
        },
        "unposed": {
            "decoder_as_canonical": switches.get("shared", False),
            "predict_fov": switches.get("fov", True),
            "fusion_strategy": switches.get("fusion", "pixel_fuse"),
        },
        "training": training(counts),
    }
    return Setup("open-rayzer", state, posed(sum(counts), size), config)


def lvsm_setup(
    sizes: Sizes = published.SIZES,
    *,
    size: tuple[int, int] = (16, 16),
    counts: tuple[int, int] = (2, 2),
    num_views: int = 4,
    **switches: Any,
) -> Setup:
    """``switches``: settings and depths for ``published.lvsm``."""
    config = {
        "model": {
            "image_tokenizer": {"image_size": size[0], "patch_size": sizes.patch, "in_channels": 9},
            "target_pose_tokenizer": {"image_size": size[0], "patch_size": sizes.patch, "in_channels": 6},
            "transformer": transformer(sizes, **switches),
        },
        "training": training(counts),
    }
    arch = "lvsm-d" if switches.get("decoder_only", False) else "lvsm-ed"
    return Setup(arch, published.lvsm(sizes, **switches), posed(num_views, size), config)


def efficient_lvsm_setup(
    sizes: Sizes = published.SIZES,
    *,
    size: tuple[int, int] = (16, 16),
    context: tuple[tuple[int, ...], ...] = ((0, 3, 4),),
    target: tuple[tuple[int, ...], ...] = ((1, 2),),
    increments: tuple[int, ...] = (2, 1),
    **switches: Any,
) -> Setup:
    """``switches``: settings and depth for ``published.efficient_lvsm``."""
    tokenizers = ("image_tokenizer", "target_pose_tokenizer")
    config = {
        "model": {name: {"image_size": size[0], "patch_size": sizes.patch} for name in tokenizers}
        | {"transformer": transformer(sizes, **switches)},
    }
    places = {"input_idx": torch.tensor(context), "target_idx": torch.tensor(target)}
    places = {name: value.expand(2, -1).contiguous() for name, value in places.items()}
    inputs = posed(5, size) | places | {"increments": torch.tensor(increments)}
    return Setup("efficient-lvsm", published.efficient_lvsm(sizes, **switches), inputs, config)


def less3depend_setup(
    arch: str,
    *,
    sizes: Sizes = published_less3depend.SMALL,
    size: tuple[int, int] = (28, 28),
    context: tuple[tuple[int, ...], ...] = ((0, 1), (0, 1)),
    target: tuple[tuple[int, ...], ...] = ((2, 3), (2, 4)),
    normed: bool = True,
    dino_normed: bool = True,
) -> Setup:
    """``normed``: use_qk_norm, ``dino_normed``: dino_qknorm."""
    transformer = {"d": sizes.width, "d_head": sizes.head, "use_qk_norm": normed}
    config = {"model": {"transformer": transformer}, "unposed": {"dino_qknorm": dino_normed}}
    places = {"input_idx": torch.tensor(context), "target_idx": torch.tensor(target)}
    return Setup(
        arch, LESS3DEPEND[arch](sizes, normed=normed, dino_normed=dino_normed), posed(5, size) | places, config
    )


def rayder_setup(
    sizes: RayDerSizes, *, size: tuple[int, int] = (32, 32), counts: tuple[int, int] = (2, 1), num_views: int = 3
) -> Setup:
    """Two clips, channels last, in [-1, 1]."""
    image = images(num_views, size).movedim(2, -1).contiguous() * 2 - 1
    config = sizes.config() | {"n_in": counts[0], "n_target": counts[1]}
    return Setup("rayder", rayder(sizes), {"image": image}, config)


def images(num_views: int, size: tuple[int, int]) -> Tensor:
    """Return images of two clips."""
    return torch.rand(2, num_views, 3, *size, generator=torch.Generator().manual_seed(1))


def posed(num_views: int, size: tuple[int, int]) -> dict[str, Tensor]:
    """Return images and cameras; the principal points are not at the centre."""
    generator = torch.Generator().manual_seed(2)
    c2w = torch.eye(4).repeat(2, num_views, 1, 1)
    c2w[..., :3, :3] = torch.linalg.qr(torch.randn(2, num_views, 3, 3, generator=generator)).Q
    c2w[..., :3, 3] = torch.randn(2, num_views, 3, generator=generator)
    height, width = size
    usual = torch.tensor([width, 1.1 * height, 0.45 * width, 0.55 * height])
    fxfycxcy = usual * (1 + 0.05 * torch.rand(2, num_views, 4, generator=generator))
    return {"image": images(num_views, size), "c2w": c2w, "fxfycxcy": fxfycxcy}


def transformer(sizes: Sizes, **switches: Any) -> dict[str, Any]:
    return {"d": sizes.width, "d_head": sizes.head, "use_qk_norm": switches.get("normed", True)}


def training(counts: tuple[int, int]) -> dict[str, int]:
    return {"num_input_views": counts[0], "num_target_views": counts[1]}
