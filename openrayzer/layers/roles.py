"""Norms with gains that depend on the role of a view, so that one network estimates cameras, encodes and renders.

The gain of a norm is 1 + W c. Each norm has its own W; c is the code of the role. There are only as many different
gains as roles, so one-hot codes (a table of gains) can express everything that learned codes can. In RayDer the table
has 36 to 41 % fewer weights.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.geometry.precision import full_precision, no_autocast
from openrayzer.layers.init import learned_tokens
from openrayzer.layers.rms_norm import rms_normalise

Role = Literal["camera", "context", "target"]
"""Role of a view: "camera" to estimate its camera, "context" to add it to the scene, "target" to render it."""

ROLES: tuple[Role, ...] = ("camera", "context", "target")


@dataclass(frozen=True)
class RoleCode:
    """Codes of the roles in one pass through the network: one row, or several rows if roles alternate between views.

    Attributes:
        patches: codes for the norms of patch tokens.
        register: codes for the norms of register tokens.
    """

    patches: Float[Tensor, "roles code"]
    register: Float[Tensor, "roles code"]


def alternating(*codes: RoleCode) -> RoleCode:
    """Code of views with alternating roles: with two codes, even views have the first and odd views the second."""
    return RoleCode(torch.cat([code.patches for code in codes]), torch.cat([code.register for code in codes]))


Gains = tuple[Float[Tensor, "roles d"], ...]
"""Gains of a norm: one for all tokens, or one for patch tokens and one for the register."""


class TableCodes(nn.Module):
    """Each role's code is one-hot, so column r of W holds the gain of role r minus 1. This module has no weights."""

    def __init__(self) -> None:
        super().__init__()
        self.code_width = len(ROLES)

    def forward(self, role: Role, device: torch.device) -> RoleCode:
        number = ROLES.index(role)
        code = torch.eye(len(ROLES), device=device)[number : number + 1]
        return RoleCode(code, code)


class LearnedCodes(nn.Module):
    """Each code is the sum of two learned vectors: one for the role and one for the kind of token.

    The kinds of tokens are patches, registers with the role "camera", and other registers.

    Args:
        width: half the width of a code.

    Source: RayDer.
    """

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.code_width = 2 * width
        self.roles = learned_tokens(len(ROLES), self.code_width)
        self.kinds = learned_tokens(3, self.code_width)

    def forward(self, role: Role, device: torch.device) -> RoleCode:
        of_role, (patch, camera, register) = self.roles[ROLES.index(role)], self.kinds.unbind(0)
        return RoleCode((of_role + patch)[None], (of_role + (camera if role == "camera" else register))[None])


class RoleNorm(nn.Module):
    """The gain 1 + W c for the code c of a role; ``normalise`` applies it.

    Args:
        width: token width d.
        code_width: width of the codes.
    """

    ones: Tensor

    def __init__(self, width: int, code_width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, code_width))
        self.register_buffer("ones", torch.ones(width), persistent=False)

    def gain(self, code: Float[Tensor, "roles code"]) -> Float[Tensor, "roles d"]:
        """1 + W c in float32 or better, with one matrix product."""
        with no_autocast(code):
            return F.linear(full_precision(code), full_precision(self.weight), full_precision(self.ones))

    def forward(self, code: RoleCode) -> Gains:
        return (self.gain(code.patches),)


class RegisterNorm(nn.Module):
    """Two gains: one for patch tokens and one for the register, the last token of each view.

    Args:
        width: token width d.
        code_width: width of the codes.
    """

    def __init__(self, width: int, code_width: int) -> None:
        super().__init__()
        self.patches, self.register = RoleNorm(width, code_width), RoleNorm(width, code_width)

    def forward(self, code: RoleCode) -> Gains:
        return self.patches.gain(code.patches), self.register.gain(code.register)


def normalise(tokens: Float[Tensor, "b v n d"], gains: Gains) -> Float[Tensor, "b v n d"]:
    """RMSNorm with the gains of one role, or of roles that alternate between views; keeps the dtype of ``tokens``."""
    of_views = [_of_views(gain, tokens.shape[1]) for gain in gains]
    if len(of_views) == 1:
        return rms_normalise(tokens, of_views[0]).to(tokens.dtype)
    patches, register = of_views
    patches = patches.expand(*patches.shape[:-2], tokens.shape[2] - 1, -1)
    return rms_normalise(tokens, torch.cat([patches, register], dim=-2)).to(tokens.dtype)


def _of_views(gain: Float[Tensor, "roles d"], views: int) -> Float[Tensor, "*views 1 d"]:
    """One row for all views, or one row per view if roles alternate."""
    return gain if len(gain) == 1 else gain.repeat(views // len(gain), 1)[:, None]
