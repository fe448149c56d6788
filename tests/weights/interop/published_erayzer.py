"""Small random state dicts and configurations of E-RayZer with the names of published weights."""

from typing import Any

from published import SIZES, Sizes, blocks, full_linear, state_of
from torch import Tensor

RELEASED: dict[str, Any] = {
    "pose_latent": {"canonical": "middle", "mode": "pairwise"},
    "gaussians": {"range_setting": {"type": "linear_depth", "near": 0, "far": 8}, "sh_degree": 1},
    "near_plane": 0.2, "scaling_bias": -3.0, "scaling_max": -2.0, "opacity_bias": -2.0,
}  # fmt: skip
"""The released section ``model`` without the sizes; the harmonics are those of ``erayzer``."""


def erayzer(
    sizes: Sizes = SIZES, *, depths: tuple[int, int] = (2, 4), degree: int = 1, rotation: int = 6, embedded: bool = True
) -> dict[str, Tensor]:
    """Return E-RayZer weights: ``degree`` of the harmonics, ``rotation`` values per rotation."""
    width, patch = sizes.width, sizes.patch**2
    shapes: dict[str, tuple[int, ...]] = {
        "camera_token": (1, 1, width),
        "register_token": (1, 4, width),
        "image_tokenizer.1.weight": (width, 3 * patch),
        "input_pose_tokenizer.1.weight": (width, 6 * patch),
        "mlp_fuse.0.weight": (2 * width,),
        "image_token_decoder.0.weight": (width,),
        "image_token_decoder.1.weight": ((11 + 3 * (degree + 1) ** 2) * patch, width),
        "pose_predictor.canonical_k_head.2.weight": (1, width),
    }
    shapes |= full_linear("mlp_fuse.1", width, 2 * width) | full_linear("mlp_fuse.3", width, width)
    shapes |= full_linear("pose_predictor.rel_head.0", width, 2 * width)
    shapes |= full_linear("pose_predictor.rel_head.2", rotation + 3, width)
    shapes |= full_linear("pose_predictor.canonical_k_head.0", width, width)
    for network in ("pe_embedder", "pe_embedder_plucker") if embedded else ():
        shapes |= full_linear(f"{network}.0", width, width) | full_linear(f"{network}.2", width, width)
    for stack, depth in zip(("encoder", "encoder_geom"), depths, strict=True):
        shapes |= blocks(f"transformer_{stack}", depth, sizes)
    return state_of(shapes)
