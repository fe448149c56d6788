"""Model: RayDer, one network that estimates cameras, remembers contexts and renders targets."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from openrayzer.geometry.precision import full_precision
from openrayzer.geometry.rays import patch_angles, plucker_rays
from openrayzer.interfaces import MODELS, AttentionBackend, CameraHead, InputError, Model
from openrayzer.layers.axial_rotary import Spread
from openrayzer.layers.cosine_attention import Attend, KeyValue, ViewRotation, num_heads_of, unrotated
from openrayzer.layers.float32 import Float32Linear
from openrayzer.layers.hourglass import Hourglass, Level, MiddleTokens
from openrayzer.layers.neighbourhood import Borders
from openrayzer.layers.patches import image_size_of
from openrayzer.layers.rms_norm import RMSNorm
from openrayzer.layers.roles import LearnedCodes, RoleCode, TableCodes, alternating
from openrayzer.layers.stack import checkpoint_activations
from openrayzer.layers.view_attention import (
    all_views,
    contexts_and_targets,
    earlier_views,
    memory_and_own_view,
    pair_mask,
)
from openrayzer.models.latent_scene import check_sizes
from openrayzer.types import Cameras, Prediction, Scene, Views, select_views

TOKEN_STD = 1e-4
"""Of learned registers at the start: the norms shrink them, so that all cameras start as nearly equal. As RayDer."""


_ADVICE = "with targets_see 'prefix' take the view sampler 'autoregressive', or set targets_see to 'all'"


@dataclass(frozen=True)
class RayDerScene(Scene):
    """Scenes as the keys and values of their context views.

    Attributes:
        memory: keys and values of each middle block, (b, v, n, heads, e), for the n tokens of each of the v context
            views: its patches and one register.
    """

    memory: tuple[KeyValue, ...]


@MODELS.register("rayder")
class RayDer(Model[RayDerScene]):
    """RayDer: one hourglass transformer finds cameras, remembers context views and renders target views.

    Images alone give a camera and a dynamic state per view. Images with rays give the memory: the keys and values that
    context views show in each middle layer, each context having seen those before it. Rays alone, and that memory,
    give images. Every view has one register token, from which its camera is read and into which its state is put.

    While it trains, targets are all views but the first of a list and see the views before them (``targets_see``), so
    take the view sampler ``autoregressive``. The state of a target is read from its own image and says what cameras
    cannot, such as how things moved; it is dropped for some views in training and always zero after it.

    Args:
        width: token width d in the middle.
        depth: blocks in the middle.
        levels: finer grids around the middle, finest first.
        camera_head: register tokens to cameras.
        attention: how attention in the middle is computed.
        head_width: width of one attention head, everywhere.
        middle_patch: side of the square of cells of the last level that make one token of the middle.
        mlp_ratio: hidden width of the feed-forward layers, in token widths.
        state_width: numbers in the dynamic state of a view.
        state_dropout: share of target views whose state is dropped in training; 1 never uses it.
        gains: where norms have the gains of a role from: a table, or, as published, a projection of learned codes,
            which can express no more and has 1.6 times as many weights in all.
        targets_see: what targets see in training: "prefix", target i sees contexts 0 to i; "all", all contexts.
        window: side of the neighbourhood that a token sees on a finer level.
        window_borders: how windows stay inside images that are not square. "swapped" is a quirk of the released code,
            which bounds rows by the number of columns and columns by that of rows; imported weights need it.
        frequency_spread: which frequencies of the rotary positions each head has, see ``axial_frequencies``.
        global_positions: what attention among views turns by where cameras are known: nothing, as published, or where
            a patch's ray points in the world. With "rays" attention follows the cameras from the first step on, which
            short trainings need to find cameras at all.
        activation_checkpointing: every so many blocks one is recomputed in the backward pass; 0 turns it off.

    Source: RayDer, arXiv 2605.31535. Its pass over contexts and targets computes all scores and masks half of them.
    This class computes neither those nor other results that the published code throws away.
    """

    posed = False

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        levels: tuple[Level, ...],
        camera_head: CameraHead,
        attention: AttentionBackend,
        head_width: int = 64,
        middle_patch: int = 2,
        mlp_ratio: float = 3.0,
        state_width: int = 256,
        state_dropout: float = 0.5,
        gains: Literal["table", "projection"] = "table",
        targets_see: Literal["prefix", "all"] = "prefix",
        window: int = 7,
        window_borders: Borders = "own",
        frequency_spread: Spread = "interleaved",
        global_positions: Literal["none", "rays"] = "none",
        activation_checkpointing: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= state_dropout <= 1:
            raise InputError(f"state_dropout must be a share from 0 to 1, got {state_dropout}")
        if min(depth, state_width) < 1:
            raise InputError(f"depth and state_width must be 1 or more, got {depth} and {state_width}")
        self.backend, self.state_dropout = attention, state_dropout
        self.targets_see, self.global_positions = targets_see, global_positions
        self.depth, self.num_heads = depth, num_heads_of(width, head_width)
        self.codes = TableCodes() if gains == "table" else LearnedCodes(width=width)
        self.backbone = Hourglass(
            levels=levels,
            width=width,
            depth=depth,
            patch=middle_patch,
            head_width=head_width,
            code_width=self.codes.code_width,
            mlp_ratio=mlp_ratio,
            window=window,
            borders=window_borders,
            spread=frequency_spread,
        )
        self.patch_size = self.backbone.strides[-1]
        self.camera_token, self.view_token = _register(width), _register(width)
        self.camera_head = camera_head
        self.state_norm, self.state = RMSNorm(width), Float32Linear(width, state_width)
        self.state_token = nn.Linear(state_width, width, bias=False)
        check_sizes(self, width=width, patch_size=self.patch_size)
        checkpoint_activations(self, every=activation_checkpointing)

    def estimate(self, images: Float[Tensor, "b v 3 h w"], intrinsics: Float[Tensor, "b v 4"] | None = None) -> Cameras:
        cameras, _ = self.observe(images)
        return cameras if intrinsics is None else replace(cameras, intrinsics=full_precision(intrinsics))

    def observe(self, images: Float[Tensor, "b v 3 h w"]) -> tuple[Cameras, Float[Tensor, "b v s"]]:
        """Cameras of any number of views, and what else their images say: their dynamic states."""
        size = image_size_of(images)
        self.check_size(size)
        tokens = self.backbone.image_patches(_colours(images))
        attends = [all_views(self.backend)] * self.depth
        code = self.codes("camera", tokens.device)
        seen = self._descend(code, tokens, _each(self.camera_token, tokens), size, attends, unrotated)
        return self.camera_head(seen.registers[:, :, None], size), self.state(self.state_norm(seen.registers))

    def reconstruct(
        self, images: Float[Tensor, "b v 3 h w"], cameras: Cameras, index: Int[Tensor, "b v"] | None = None
    ) -> RayDerScene:
        return RayDerScene(tuple(self._remember(images, cameras)), image_size=image_size_of(images))

    def extend(
        self,
        scene: RayDerScene,
        images: Float[Tensor, "b v 3 h w"],
        cameras: Cameras,
        index: Int[Tensor, "b v"] | None = None,
    ) -> RayDerScene:
        self.check_extension(scene, images)
        later = self._remember(images, cameras, scene.memory)
        memory = tuple(one.joined(other) for one, other in zip(scene.memory, later, strict=True))
        return RayDerScene(memory, image_size=scene.image_size)

    def render(
        self, scene: RayDerScene, cameras: Cameras, state: Float[Tensor, "b v s"] | None = None
    ) -> Float[Tensor, "b v 3 h w"]:
        """The scene as the cameras see it.

        Args:
            scene: every view sees all of it.
            cameras: of the views to render, which never see each other.
            state: their dynamic states, as ``observe`` reads them from images; zero by default.
        """
        added = None if state is None else self.state_token(state.to(self.state_token.weight.dtype))
        return self._show(scene.memory, cameras, scene.image_size, added)

    def check_roles(self, context: Int[Tensor, "b vc"], target: Int[Tensor, "b vt"], scenes: Sequence[str]) -> None:
        if self.targets_see == "prefix":
            _check_counts(context, target)
            _check_order(context, target, scenes)

    def forward(self, views: Views) -> Prediction:
        """The composition of the three maps; in training the targets see what ``targets_see`` says, and states.

        Raises:
            InputError: in training with "prefix", there are not as many targets as contexts. Whether a target is among
                the contexts that it sees is for ``check_roles`` to find out.
        """
        cameras, states = self.observe(views.images)
        added = self._dropped(select_views(states, views.target)) if self.training else None
        given, wanted = cameras.select(views.context), cameras.select(views.target)
        if self.training and self.targets_see == "prefix":
            _check_counts(views.context, views.target)
            return Prediction(self._together(views.context_images, given, wanted, added), cameras)
        memory = self._remember(views.context_images, given)
        return Prediction(self._show(memory, wanted, image_size_of(views.images), added), cameras)

    def _together(
        self,
        images: Float[Tensor, "b v 3 h w"],
        given: Cameras,
        wanted: Cameras,
        added: Float[Tensor, "b v d"] | None,
    ) -> Float[Tensor, "b v 3 h w"]:
        """Images of targets, in one pass with their contexts. Target i sees contexts 0 to i and follows context i.

        ``_remember`` and ``_show`` give the same in two passes of half the number of views.
        """
        size = image_size_of(images)
        contexts = self._context_tokens(images, given)
        targets = self.backbone.ray_patches(plucker_rays(wanted, size))
        registers = _each(self.view_token, contexts)
        of_targets = registers if added is None else registers + added
        cameras = Cameras(_paired(given.c2w, wanted.c2w), _paired(given.intrinsics, wanted.intrinsics))
        code = alternating(*(self.codes(role, images.device) for role in ("context", "target")))
        attends = [contexts_and_targets(self.backend, self._mask(contexts, size))] * self.depth
        seen = self._descend(
            code,
            _paired(contexts, targets),
            _paired(registers, of_targets),
            size,
            attends,
            self._rotation(cameras, size),
        )
        seen = MiddleTokens(
            seen.patches[:, 1::2], seen.registers[:, 1::2], [tokens[:, 1::2] for tokens in seen.skips], seen.keys_values
        )
        return self._colours_of(seen, size)

    def _mask(self, contexts: Float[Tensor, "b v n fine"], image_size: tuple[int, int]) -> Any:
        """The mask for one attention call of contexts and targets, in compiled blocks on a GPU; None elsewhere."""
        if contexts.device.type != "cuda" or not self.backbone.middle.compiled:
            return None
        dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else contexts.dtype
        heads = torch.empty(1, 2, 1, self.backbone.middle.head_width, dtype=dtype, device=contexts.device)
        rows, columns = self.backbone.grids(image_size)[-1]
        return pair_mask(contexts.shape[1], rows * columns + 1, heads, self.backend)

    def _remember(
        self, images: Float[Tensor, "b v 3 h w"], cameras: Cameras, earlier: Sequence[KeyValue] | None = None
    ) -> list[KeyValue]:
        """What contexts show to targets in each middle block; each has seen those before it, ``earlier`` ones first."""
        size = image_size_of(images)
        tokens = self._context_tokens(images, cameras)
        known = [None] * self.depth if earlier is None else earlier
        attends = [earlier_views(self.backend, block) for block in known]
        code = self.codes("context", tokens.device)
        return self._descend(
            code, tokens, _each(self.view_token, tokens), size, attends, self._rotation(cameras, size)
        ).keys_values

    def _context_tokens(self, images: Float[Tensor, "b v 3 h w"], cameras: Cameras) -> Float[Tensor, "b v n fine"]:
        """What contexts begin with: their colours and their rays."""
        size = image_size_of(images)
        self.check_size(size)
        return self.backbone.image_patches(_colours(images)) + self.backbone.ray_patches(plucker_rays(cameras, size))

    def _show(
        self,
        memory: Sequence[KeyValue],
        cameras: Cameras,
        image_size: tuple[int, int],
        added: Float[Tensor, "b v d"] | None,
    ) -> Float[Tensor, "b v 3 h w"]:
        """Images of targets that see all of the memory; ``added``, made from their states, goes to their registers."""
        tokens = self.backbone.ray_patches(plucker_rays(cameras, image_size))
        registers = _each(self.view_token, tokens)
        attends = [memory_and_own_view(block, backend=self.backend) for block in memory]
        registers = registers if added is None else registers + added
        code = self.codes("target", tokens.device)
        seen = self._descend(code, tokens, registers, image_size, attends, self._rotation(cameras, image_size))
        return self._colours_of(seen, image_size)

    def _colours_of(self, targets: MiddleTokens, image_size: tuple[int, int]) -> Float[Tensor, "b v 3 h w"]:
        """Images in [0, 1] from the targets' tokens after the middle blocks."""
        code = self.codes("target", targets.patches.device)
        return (self.backbone.ascend(targets, image_size, code) + 1) / 2

    def _descend(
        self,
        code: RoleCode,
        tokens: Float[Tensor, "b v n fine"],
        registers: Float[Tensor, "b v d"],
        image_size: tuple[int, int],
        attends: list[Attend],
        rotate: ViewRotation,
    ) -> MiddleTokens:
        return self.backbone.descend(tokens, registers, image_size, code, attends, rotate, self.backend)

    def _rotation(self, cameras: Cameras, image_size: tuple[int, int]) -> ViewRotation:
        """What attention among views of known cameras turns by; a register lies where its view's middle points."""
        if self.global_positions == "none":
            return unrotated
        grids = (self.backbone.grids(image_size)[-1], (1, 1))
        return self.backbone.middle.rotation(torch.cat([patch_angles(cameras, grid) for grid in grids], dim=2))

    def _dropped(self, states: Float[Tensor, "b v s"]) -> Float[Tensor, "b v d"]:
        """What states add to registers, multiplied by 0 for some views, so that every weight has a gradient."""
        added = self.state_token(states.to(self.state_token.weight.dtype))
        kept = torch.rand(states.shape[:2], device=states.device) >= self.state_dropout
        return added * kept[..., None]


def _check_counts(context: Int[Tensor, "b vc"], target: Int[Tensor, "b vt"]) -> None:
    if context.shape != target.shape:
        raise InputError(
            f"target i sees contexts 0 to i, and there are {context.shape[1]} contexts and {target.shape[1]} targets; "
            f"{_ADVICE}"
        )


def _check_order(context: Int[Tensor, "b v"], target: Int[Tensor, "b v"], scenes: Sequence[str]) -> None:
    """Refuse targets that would see themselves: a mistake of the sampler and not of the data."""
    same = (target[:, :, None] == context[:, None, :]).tril()  # (b, target, context)
    if same.any():
        scene, place, seen = same.nonzero()[0].tolist()
        raise InputError(
            f"target {place} of scene {scenes[scene]!r} sees contexts 0 to {place}, and context {seen} is the same "
            f"view; {_ADVICE}"
        )


def _paired(
    contexts: Float[Tensor, "b v *rest"], targets: Float[Tensor, "b v *rest"]
) -> Float[Tensor, "b two_v *rest"]:
    """Context 0, target 0, context 1, target 1, ..."""
    return torch.stack([contexts, targets], dim=2).flatten(1, 2)


def _register(width: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(width), std=TOKEN_STD, a=-2 * TOKEN_STD, b=2 * TOKEN_STD))


def _each(register: Float[Tensor, " d"], tokens: Float[Tensor, "b v n fine"]) -> Float[Tensor, "b v d"]:
    """The learned token, once for each view."""
    return repeat(register, "d -> b v d", b=tokens.shape[0], v=tokens.shape[1])


def _colours(images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v 3 h w"]:
    """-1 for black and 1 for white, so that the grey of a target that is not seen yet is 0."""
    return 2 * images - 1
