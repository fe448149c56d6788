"""Norms that know which role tokens play, so that one set of weights can estimate, remember and render.

A norm's gain is 1 + W c, with W its own and c the code of the role. There are as many different gains as roles, so a
table of them (c one of the axes) can express all that learned codes can, with 36 to 41 % fewer weights in RayDer.
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
"""Views whose cameras are looked for, views that are given, views that are rendered."""

ROLES: tuple[Role, ...] = ("camera", "context", "target")


@dataclass(frozen=True)
class RoleCode:
    """What tells every norm of a pass the role.

    Attributes:
        patches: for the norms of patch tokens; one row for each role that views play in turn.
        register: for the norms of register tokens.
    """

    patches: Float[Tensor, "roles code"]
    register: Float[Tensor, "roles code"]


def alternating(*codes: RoleCode) -> RoleCode:
    """The code of views that play these roles in turn: of two codes, views 0, 2, 4, ... play the first."""
    return RoleCode(torch.cat([code.patches for code in codes]), torch.cat([code.register for code in codes]))


Gains = tuple[Float[Tensor, "roles d"], ...]
"""Gains of a norm: one for all tokens, or one for patch tokens and one for the register."""


class TableCodes(nn.Module):
    """A code is an axis, so the columns of a norm's W are a table of its gains, less 1; nothing is learned here."""

    def __init__(self) -> None:
        super().__init__()
        self.code_width = len(ROLES)

    def forward(self, role: Role, device: torch.device) -> RoleCode:
        number = ROLES.index(role)
        code = torch.eye(len(ROLES), device=device)[number : number + 1]
        return RoleCode(code, code)


class LearnedCodes(nn.Module):
    """A code is the sum of two learned vectors: one of the role, one of the kind of token.

    Source: RayDer; its kinds of tokens are patches, the register that holds a camera, and the other registers.
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
    """The gain 1 + W c of a role's code c, which ``normalise`` takes."""

    ones: Tensor

    def __init__(self, width: int, code_width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, code_width))
        self.register_buffer("ones", torch.ones(width), persistent=False)

    def gain(self, code: Float[Tensor, "roles code"]) -> Float[Tensor, "roles d"]:
        """1 + W c, in full precision and in one product."""
        with no_autocast(code):
            return F.linear(full_precision(code), full_precision(self.weight), full_precision(self.ones))

    def forward(self, code: RoleCode) -> Gains:
        return (self.gain(code.patches),)


class RegisterNorm(nn.Module):
    """Gains for patch tokens and for the register, which is the last token of each view."""

    def __init__(self, width: int, code_width: int) -> None:
        super().__init__()
        self.patches, self.register = RoleNorm(width, code_width), RoleNorm(width, code_width)

    def forward(self, code: RoleCode) -> Gains:
        return self.patches.gain(code.patches), self.register.gain(code.register)


def normalise(tokens: Float[Tensor, "b v n d"], gains: Gains) -> Float[Tensor, "b v n d"]:
    """RMSNorm with the gains of one role, or of roles that views play in turn; keeps the dtype of ``tokens``."""
    of_views = [_of_views(gain, tokens.shape[1]) for gain in gains]
    if len(of_views) == 1:
        return rms_normalise(tokens, of_views[0]).to(tokens.dtype)
    patches, register = of_views
    patches = patches.expand(*patches.shape[:-2], tokens.shape[2] - 1, -1)
    return rms_normalise(tokens, torch.cat([patches, register], dim=-2)).to(tokens.dtype)


def _of_views(gain: Float[Tensor, "roles d"], views: int) -> Float[Tensor, "*views 1 d"]:
    """One row for all views, or one row per view if they play roles in turn."""
    return gain if len(gain) == 1 else gain.repeat(views // len(gain), 1)[:, None]
