"""Model: RayDer, one network that estimates cameras, encodes context views and renders target views."""

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
    among_processes,
    contexts_and_targets,
    earlier_views,
    memory_and_own_view,
    pair_mask,
    with_own_heads,
)
from openrayzer.layers.view_shares import SharesViews, check_number_of_heads
from openrayzer.models.latent_scene import check_sizes
from openrayzer.types import Cameras, Prediction, Scene, Views, select_views

TOKEN_STD = 1e-4
"""Standard deviation of the register tokens at initialisation, as in RayDer. It is tiny, so all cameras start equal."""

_ADVICE = "take the view sampler 'autoregressive', or set targets_see to 'all'"


@dataclass(frozen=True)
class RayDerScene(Scene):
    """Scenes as keys and values of their context views.

    Attributes:
        memory: keys and values (b, v, n, heads, e) of each middle block; the n tokens of a view are its patches and one
            register token.
    """

    memory: tuple[KeyValue, ...]


@MODELS.register("rayder")
class RayDer(Model[RayDerScene], SharesViews):
    """RayDer: one hourglass transformer estimates cameras, encodes context views and renders target views.

    The network has three roles. From images, it estimates a camera and a dynamic state for each view. From images and
    rays, it computes the scene: the keys and values of the context views in each middle block, where each context view
    attends to earlier ones. From rays and the scene, it renders images. Each view has one register token: the camera
    head reads it, and the state is added to it.

    In training with ``targets_see`` "prefix", every view but the first is a target and attends to the views before it;
    use the view sampler ``autoregressive``. The state of a target comes from its own image and holds changes that no
    camera explains, such as moving objects. Training drops it for a share of the views. Evaluation does not use it.

    Args:
        width: token width d in the middle.
        depth: number of blocks in the middle.
        levels: finer grids around the middle, finest first.
        camera_head: register tokens to cameras.
        attention: computes attention in the middle.
        head_width: width e of an attention head on all levels.
        middle_patch: side of the square of cells of the last level that becomes one token of the middle.
        mlp_ratio: hidden width of the feed-forward layers, in token widths.
        state_width: width of the dynamic state of a view.
        state_dropout: share of target views without a state in training; 1 for no states.
        gains: source of the norm gains of each role: a "table", or a "projection" of learned codes, as published. Both
            express the same gains, and the projection gives the model 1.6 times as many weights.
        targets_see: context views to which targets attend in training: "prefix", target i attends to contexts 0 to i;
            "all", all contexts.
        window: side of the neighbourhood to which a token attends on a finer level.
        window_borders: "own" keeps windows inside the image. "swapped" is a quirk of the released code, which exchanges
            the numbers of rows and columns; imported weights need it. Both are equal on square images.
        frequency_spread: frequencies of the rotary positions of each head, see ``axial_frequencies``.
        global_positions: positions for attention among views with cameras: "none", as published, or "rays", the
            direction of each patch's ray in the world. With "rays", attention depends on the cameras from the first
            step on. Short trainings need this to find cameras.
        activation_checkpointing: n recomputes every n-th block in the backward pass, to save memory; 0 recomputes none.

    Raises:
        InputError: a value is out of range, or the camera head has another width.

    Source: RayDer, arXiv 2605.31535. The published pass over contexts and targets computes all scores and masks half
    of them. This class does not compute masked scores and other unused results.
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
            raise InputError(f"state_dropout must be from 0 to 1, got {state_dropout}")
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

    def check_sharing(self, processes: int) -> None:
        check_number_of_heads(self.num_heads, processes)

    def estimate(self, images: Float[Tensor, "b v 3 h w"], intrinsics: Float[Tensor, "b v 4"] | None = None) -> Cameras:
        cameras, _ = self.observe(images)
        return cameras if intrinsics is None else replace(cameras, intrinsics=full_precision(intrinsics))

    def observe(self, images: Float[Tensor, "b v 3 h w"]) -> tuple[Cameras, Float[Tensor, "b v s"]]:
        """Cameras and dynamic states of any number of views, from their images."""
        size = image_size_of(images)
        self.check_size(size)
        tokens = self.backbone.image_patches(_colours(self.shares.own(images)))
        attends = [among_processes(all_views(self.backend), self.shares)] * self.depth
        code = self.codes("camera", tokens.device)
        seen = self._descend(code, tokens, _each(self.camera_token, tokens), size, attends, unrotated)
        registers = self.shares.whole(seen.registers)
        return self.camera_head(registers[:, :, None], size), self.state(self.state_norm(registers))

    def reconstruct(
        self, images: Float[Tensor, "b v 3 h w"], cameras: Cameras, index: Int[Tensor, "b v"] | None = None
    ) -> RayDerScene:
        return RayDerScene(tuple(self._encode(images, cameras)), image_size=image_size_of(images))

    def extend(
        self,
        scene: RayDerScene,
        images: Float[Tensor, "b v 3 h w"],
        cameras: Cameras,
        index: Int[Tensor, "b v"] | None = None,
    ) -> RayDerScene:
        self.check_extension(scene, images)
        later = self._encode(images, cameras, scene.memory)
        memory = tuple(one.joined(other) for one, other in zip(scene.memory, later, strict=True))
        return RayDerScene(memory, image_size=scene.image_size)

    def render(
        self, scene: RayDerScene, cameras: Cameras, state: Float[Tensor, "b v s"] | None = None
    ) -> Float[Tensor, "b v 3 h w"]:
        """Images of the scene from the given cameras. Views do not influence each other.

        Args:
            scene: the scene.
            cameras: cameras of the views to render.
            state: dynamic states of these views, as returned by ``observe``; zero by default.
        """
        added = None if state is None else self.state_token(state.to(self.state_token.weight.dtype))
        return self._show(scene.memory, cameras, scene.image_size, added)

    def check_roles(self, context: Int[Tensor, "b vc"], target: Int[Tensor, "b vt"], scenes: Sequence[str]) -> None:
        if self.targets_see == "prefix":
            _check_counts(context, target)
            _check_order(context, target, scenes)

    def forward(self, views: Views) -> Prediction:
        """``estimate``, ``reconstruct`` and ``render`` in one call. In training, targets have states and attend as
        ``targets_see`` says.

        Raises:
            InputError: in training with "prefix", the numbers of contexts and targets differ. ``check_roles`` also
                refuses targets that are among their own contexts.
        """
        cameras, states = self.observe(views.images)
        added = self._dropped(select_views(states, views.target)) if self.training else None
        return self._predict(views, cameras, added)

    def predict(self, views: Views, cameras: Cameras) -> Prediction:
        """As ``forward``, but with the given cameras and without states."""
        return self._predict(views, cameras, None)

    def _predict(self, views: Views, cameras: Cameras, added: Float[Tensor, "b v d"] | None) -> Prediction:
        given, wanted = cameras.select(views.context), cameras.select(views.target)
        if self.training and self.targets_see == "prefix":
            _check_counts(views.context, views.target)
            return Prediction(self._together(views.context_images, given, wanted, added), cameras)
        memory = self._encode(views.context_images, given)
        return Prediction(self._show(memory, wanted, image_size_of(views.images), added), cameras)

    def _together(
        self,
        images: Float[Tensor, "b v 3 h w"],
        given: Cameras,
        wanted: Cameras,
        added: Float[Tensor, "b v d"] | None,
    ) -> Float[Tensor, "b v 3 h w"]:
        """Images of targets, in one pass with their contexts. Target i attends to contexts 0 to i.

        ``_encode`` and ``_show`` compute the same in two passes.
        """
        size, num_targets = image_size_of(images), wanted.num_views
        # Copies of the last context and target may follow, because no earlier view attends to them.
        images, given, wanted, added = self.shares.own((images, given, wanted, added), fill=True)
        contexts = self._context_tokens(images, given)
        targets = self.backbone.ray_patches(plucker_rays(wanted, size))
        registers = _each(self.view_token, contexts)
        of_targets = registers if added is None else registers + added
        cameras = Cameras(_paired(given.c2w, wanted.c2w), _paired(given.intrinsics, wanted.intrinsics))
        code = alternating(*(self.codes(role, images.device) for role in ("context", "target")))
        attend = contexts_and_targets(self.backend, self._mask(contexts, size))
        attends = [among_processes(attend, self.shares)] * self.depth
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
        return self.shares.whole(self._colours_of(seen, size))[:, :num_targets]

    def _mask(self, contexts: Float[Tensor, "b v n fine"], image_size: tuple[int, int]) -> Any:
        """Mask for one attention call of contexts and targets, for compiled blocks on a GPU; otherwise None."""
        if contexts.device.type != "cuda" or not self.backbone.middle.compiled:
            return None
        dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else contexts.dtype
        heads = torch.empty(1, 2, 1, self.backbone.middle.head_width, dtype=dtype, device=contexts.device)
        rows, columns = self.backbone.grids(image_size)[-1]
        return pair_mask(self.shares.count * contexts.shape[1], rows * columns + 1, heads, self.backend)

    def _encode(
        self, images: Float[Tensor, "b v 3 h w"], cameras: Cameras, earlier: Sequence[KeyValue] | None = None
    ) -> list[KeyValue]:
        """Keys and values of contexts in each middle block. Each context attends to all earlier contexts."""
        size = image_size_of(images)
        images, cameras = self.shares.own((images, cameras), "context views")
        tokens = self._context_tokens(images, cameras)
        known = [None] * self.depth if earlier is None else [with_own_heads(block, self.shares) for block in earlier]
        attends = [among_processes(earlier_views(self.backend, block), self.shares) for block in known]
        code = self.codes("context", tokens.device)
        return self._descend(
            code, tokens, _each(self.view_token, tokens), size, attends, self._rotation(cameras, size)
        ).keys_values

    def _context_tokens(self, images: Float[Tensor, "b v 3 h w"], cameras: Cameras) -> Float[Tensor, "b v n fine"]:
        """Tokens of the colours and rays of contexts."""
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
        """Images of targets. ``added``, computed from their states, is added to their register tokens."""
        num_targets = cameras.num_views
        cameras, added = self.shares.own((cameras, added), fill=True)  # no view has influence on another one
        tokens = self.backbone.ray_patches(plucker_rays(cameras, image_size))
        registers = _each(self.view_token, tokens)
        known = [with_own_heads(block, self.shares) for block in memory]
        attends = [among_processes(memory_and_own_view(block, backend=self.backend), self.shares) for block in known]
        registers = registers if added is None else registers + added
        code = self.codes("target", tokens.device)
        seen = self._descend(code, tokens, registers, image_size, attends, self._rotation(cameras, image_size))
        return self.shares.whole(self._colours_of(seen, image_size))[:, :num_targets]

    def _colours_of(self, targets: MiddleTokens, image_size: tuple[int, int]) -> Float[Tensor, "b v 3 h w"]:
        """Images in [0, 1], from the tokens of targets after the middle blocks."""
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
        """Rotation for attention among views with cameras. A register token has the central ray of its view."""
        if self.global_positions == "none":
            return unrotated
        grids = (self.backbone.grids(image_size)[-1], (1, 1))
        return self.backbone.middle.rotation(torch.cat([patch_angles(cameras, grid) for grid in grids], dim=2))

    def _dropped(self, states: Float[Tensor, "b v s"]) -> Float[Tensor, "b v d"]:
        """Additions to register tokens from states; 0 times the addition for dropped states, to keep all gradients."""
        added = self.state_token(states.to(self.state_token.weight.dtype))
        kept = torch.rand(states.shape[:2], device=states.device) >= self.state_dropout
        return added * kept[..., None]


def _check_counts(context: Int[Tensor, "b vc"], target: Int[Tensor, "b vt"]) -> None:
    if context.shape != target.shape:
        raise InputError(
            "with targets_see 'prefix', the numbers of contexts and targets must be equal, and there are "
            f"{context.shape[1]} contexts and {target.shape[1]} targets; {_ADVICE}"
        )


def _check_order(context: Int[Tensor, "b v"], target: Int[Tensor, "b v"], scenes: Sequence[str]) -> None:
    """Refuse targets that are among the contexts to which they attend."""
    same = (target[:, :, None] == context[:, None, :]).tril()  # (b, target, context)
    if same.any():
        scene, place, seen = same.nonzero()[0].tolist()
        raise InputError(
            f"target {place} of scene {scenes[scene]!r} attends to contexts 0 to {place}, and context {seen} is the "
            f"same view; {_ADVICE}"
        )


def _paired(
    contexts: Float[Tensor, "b v *rest"], targets: Float[Tensor, "b v *rest"]
) -> Float[Tensor, "b two_v *rest"]:
    """Context 0, target 0, context 1, target 1, ..."""
    return torch.stack([contexts, targets], dim=2).flatten(1, 2)


def _register(width: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(width), std=TOKEN_STD, a=-2 * TOKEN_STD, b=2 * TOKEN_STD))


def _each(register: Float[Tensor, " d"], tokens: Float[Tensor, "b v n fine"]) -> Float[Tensor, "b v d"]:
    """The learned token, repeated for each view."""
    return repeat(register, "d -> b v d", b=tokens.shape[0], v=tokens.shape[1])


def _colours(images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v 3 h w"]:
    """Colours from -1 (black) to 1 (white); 0 is the grey of an untrained prediction."""
    return 2 * images - 1
