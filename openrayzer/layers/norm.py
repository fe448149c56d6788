"""Normalisation layers."""

from torch import nn

from openrayzer.layers.rms_norm import RMSNorm


def head_norm(head_width: int, eps: float | None) -> nn.Module:
    """RMSNorm of queries or keys, with one learned gain vector (head_width) for all heads; the identity if eps is None.

    Raises:
        ValueError: ``eps`` is 0 or below.

    Source: QK-norm of RayZer and LVSM.
    """
    if eps is None:
        return nn.Identity()
    if not eps > 0:
        raise ValueError(f"qk_norm_eps must be above 0, or null for no norm, got {eps}")
    return RMSNorm(head_width, eps=eps)


def layer_norm(width: int, *, gain: bool = True) -> nn.LayerNorm:
    """LayerNorm without a bias, eps 1e-5; with a learned gain in RayZer and LVSM, without one in Efficient-LVSM."""
    return nn.LayerNorm(width, elementwise_affine=gain, bias=False)
