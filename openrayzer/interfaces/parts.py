"""Interfaces of the parts of models. The shape letters are those of ``openrayzer.types``."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from openrayzer.interfaces.errors import InputError
from openrayzer.types import Cameras


class Tokenizer(nn.Module, ABC):
    """Images to tokens: one token per square patch, row by row. The tokens of an image depend on this image alone.

    Attributes:
        patch_size: side p of a patch in pixels; n = (h / p) * (w / p).
        feature_width: width e of ``block_features``; 0 if there are none.
    """

    patch_size: int
    feature_width: int = 0

    def __init__(self) -> None:
        super().__init__()

    def block_features(
        self, images: Float[Tensor, "b v 3 h w"], blocks: Sequence[int]
    ) -> list[Float[Tensor, "b v n e"]]:
        """Patch tokens after some blocks of a pretrained network, without a norm, for an objective that teaches.

        Args:
            images: images in [0, 1]; sides are multiples of ``patch_size``.
            blocks: numbers of the blocks, counted from 1, in rising order.

        Raises:
            InputError: the tokenizer has no blocks, or too few.
        """
        raise InputError(f"tokenizer {type(self).__name__} has no blocks with features; take 'dinov2' or 'dinov3'")

    @abstractmethod
    def forward(self, images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v n d"]:
        """Tokens of images in [0, 1].

        Raises:
            ValueError: the image sides are not multiples of ``patch_size``.
        """


Rotation = Callable[[Float[Tensor, "b n heads e"]], Float[Tensor, "b n heads e"]]
"""Rotates queries or keys by the positions of their tokens."""


class PositionEncoding(nn.Module, ABC):
    """Tells a network the positions of tokens.

    An encoding changes the tokens once (``embed_patches``, ``embed_cameras``), or the queries and keys of every block
    (``rotation``), or both. By default, it changes nothing.

    Attributes:
        reads_view_index: whether the tokens of a view depend on its position in the list of views. A model can then
            learn cameras from the list instead of the images.
    """

    reads_view_index: bool = False

    def __init__(self) -> None:
        super().__init__()

    def embed_patches(
        self, tokens: Float[Tensor, "b v n d"], grid: tuple[int, int], index: Int[Tensor, "b v"]
    ) -> Float[Tensor, "b v n d"]:
        """Patch tokens with their positions added.

        Args:
            tokens: patch tokens, row by row.
            grid: number of rows and columns of patches; n = rows * columns.
            index: position of each view in the list of views that the model sees together.
        """
        return tokens

    def embed_cameras(self, tokens: Float[Tensor, "b v c d"], index: Int[Tensor, "b v"]) -> Float[Tensor, "b v c d"]:
        """Camera and register tokens with the positions of their views added; ``index`` as in ``embed_patches``."""
        return tokens

    def rotation(self, positions: Float[Tensor, "b n 2"], head_width: int) -> Rotation:
        """The function that every block applies to its queries and to its keys.

        Args:
            positions: (row, column) of each token in patches, counted from 1; (0, 0) for a token without a position.
            head_width: width e of one attention head.

        Raises:
            InputError: the encoding cannot rotate heads of this width.
        """
        return _unrotated


def _unrotated(heads: Tensor) -> Tensor:
    return heads


class AttentionLayout(nn.Module, ABC):
    """The tokens that attend to each other, block by block."""

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def groups(self, block: int) -> str:
        """The einops pattern by which a block arranges tokens (b, v, n, d) into sequences (..., d).

        With ``"b (v n)"``, all tokens of all views attend to each other; with ``"(b v) n"``, the tokens of one view do.

        Args:
            block: number of the block, from 0.
        """


class AttentionBackend(ABC):
    """An implementation of attention, softmax(q k^T / sqrt(e)) v."""

    def __init__(self) -> None: ...

    @abstractmethod
    def refusal(self, query: Float[Tensor, "b n heads e"]) -> str:
        """The reason why this backend cannot take such queries (device, dtype, width); empty if it can."""

    @abstractmethod
    def attend(
        self,
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
    ) -> Float[Tensor, "b n heads e"]:
        """The attention of n queries to m keys, in the dtype of ``query``.

        Raises:
            InputError: the backend cannot run; the message names it and gives the reason.
        """

    def attend_with_lse(
        self,
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
    ) -> tuple[Float[Tensor, "b n heads e"], Float[Tensor, "b heads n"]]:
        """The result of ``attend``, and the log-sum-exp of the scores of each query, in float32 or float64.

        No gradient flows through the results. The log-sum-exp serves to merge attention to several sets of keys. The
        default needs memory for all n * m scores.
        """
        scores = _scores(query, key)
        lse = scores.logsumexp(dim=-1)
        weights = (scores - lse[..., None]).exp().to(value.dtype)
        return torch.einsum("bhnm,bmhe->bnhe", weights, value), lse

    def attend_backward(
        self,
        gradient: Float[Tensor, "b n heads e"],
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
        out: Float[Tensor, "b n heads e"],
        lse: Float[Tensor, "b heads n"],
    ) -> tuple[Float[Tensor, "b n heads e"], Float[Tensor, "b m heads e"], Float[Tensor, "b m heads e"]]:
        """The contribution of these keys to the gradients of queries, keys and values.

        Args:
            gradient: gradient of ``out``.
            query: the queries.
            key: some or all of the keys to which the queries attend.
            value: the values of these keys.
            out: result of attention to all keys, including the keys of other calls.
            lse: log-sum-exp of the scores of all keys.

        Source: Dao et al. 2022, "FlashAttention", algorithm 4.
        """
        weights = (_scores(query, key) - lse[..., None]).exp()
        along = torch.einsum("bnhe,bnhe->bhn", gradient.to(lse.dtype), out.to(lse.dtype))
        products = torch.einsum("bnhe,bmhe->bhnm", gradient, value).to(lse.dtype)
        of_scores = (weights * (products - along[..., None]) * query.shape[-1] ** -0.5).to(query.dtype)
        return (
            torch.einsum("bhnm,bmhe->bnhe", of_scores, key),
            torch.einsum("bhnm,bnhe->bmhe", of_scores, query),
            torch.einsum("bhnm,bnhe->bmhe", weights.to(gradient.dtype), gradient),
        )


def _scores(query: Float[Tensor, "b n heads e"], key: Float[Tensor, "b m heads e"]) -> Float[Tensor, "b heads n m"]:
    """q k^T / sqrt(e) in float32 or float64."""
    scores = torch.einsum("bnhe,bmhe->bhnm", query * query.shape[-1] ** -0.5, key)
    return scores if scores.dtype == torch.float64 else scores.float()


class CameraHead(nn.Module, ABC):
    """Cameras from tokens, in float32 even under autocast. Batch elements do not influence each other.

    Attributes:
        compares_views: whether the head computes a pose from the tokens of two views. Only such a head gives useful
            poses after a network in which views do not attend to each other.
        predicts_intrinsics: whether the head computes intrinsics from tokens. Other heads return a constant guess,
            and the user should give the true intrinsics.
    """

    compares_views: ClassVar[bool] = False
    predicts_intrinsics: bool = True

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, tokens: Float[Tensor, "b v n d"], image_size: tuple[int, int]) -> Cameras:
        """One camera per view.

        Args:
            tokens: the camera tokens of each view, or its patch tokens in a model without camera tokens; n >= 1.
            image_size: height and width in pixels. The intrinsics depend on the aspect ratio.
        """


class Fusion(nn.Module, ABC):
    """Computes tokens from context images and their rays, one per patch.

    Attributes:
        reads_tokens: whether the fusion reads image tokens; other fusions read the pixels.
        keeps_views_apart: whether the tokens of a view depend on this view alone, and not on its place in the list.
        shares_views: whether ``forward`` gives the right tokens where each of several processes has a share of the
            views, see ``layers.view_shares``. A fusion that keeps views apart does.
    """

    reads_tokens: ClassVar[bool]
    keeps_views_apart: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()

    @property
    def shares_views(self) -> bool:
        return self.keeps_views_apart

    @abstractmethod
    def forward(
        self,
        images: Float[Tensor, "b v 3 h w"],
        tokens: Float[Tensor, "b v t d"],
        plucker: Float[Tensor, "b v 6 h w"],
    ) -> Float[Tensor, "b v n d"]:
        """One token per patch.

        Args:
            images: images in [0, 1].
            tokens: their image tokens, t = n; or t = 0 for a fusion that reads pixels.
            plucker: Plücker coordinates of the rays of all pixels, see ``geometry.rays.plucker_rays``.
        """


class Renderer(nn.Module, ABC):
    """Base class of all renderers. A model takes one of the two kinds: ``ContextRenderer`` or ``GeometricRenderer``."""

    def __init__(self) -> None:
        super().__init__()


class ContextRenderer(Renderer):
    """Base class of renderers of scenes that a model makes from the tokens of context views.

    A ``TokenRenderer`` reads the tokens of the scene. A ``GaussianRenderer`` turns them into Gaussians and draws these.
    """

    def __init__(self) -> None:
        super().__init__()


class TokenRenderer(ContextRenderer):
    """Computes image tokens of target views from their ray tokens and a scene. Views do not attend to each other.

    Attributes:
        num_layers: number of layers of the encoder that the renderer reads. For 1, it reads the tokens of the scene.
            For more, ``forward`` and ``prepare`` also take the keyword ``earlier``: the same tokens after
            ``num_layers`` - 1 earlier encoder blocks. The blocks are spread evenly over the encoder, and the last one
            is the encoder's last.
        reads_shares: whether ``forward`` takes a memory of which each process has a share, if processes share the views
            of a clip (``layers.view_shares``). Other renderers get the whole memory on each process.
    """

    num_layers: int = 1
    reads_shares: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def forward(
        self,
        rays: Float[Tensor, "b v n d"],
        memory: Float[Tensor, "b k d"],
        *,
        positions: Float[Tensor, "b v n 2"],
        memory_positions: Float[Tensor, "b k 2"],
        position_encoding: PositionEncoding,
        backend: AttentionBackend,
    ) -> Float[Tensor, "b v n d"]:
        """Tokens of the target views.

        Args:
            rays: one token per patch of each target view.
            memory: tokens of the scene.
            positions: (row, column) of each patch, or the direction of its ray, both in units of patches.
            memory_positions: positions of the tokens of the scene; (0, 0) for a token without a position.
            position_encoding: rotates queries and keys.
            backend: computes attention.
        """

    def prepare(
        self,
        memory: Float[Tensor, "b k d"],
        *,
        memory_positions: Float[Tensor, "b k 2"],
        position_encoding: PositionEncoding,
    ) -> tuple[Tensor, ...]:
        """Tensors that depend on the memory alone, computed once for many calls of ``forward``; empty by default.

        Each tensor is (b, k, ...), and its values for one token depend on this token alone, so that longer memories
        are joined from shorter ones. A renderer that returns some tensors takes them in ``forward`` as the keyword
        ``prepared``. With or without them, ``forward`` returns the same.
        """
        return ()


class RenderedViews(NamedTuple):
    """Rendered views.

    Attributes:
        images: the views, in [0, 1] or slightly beyond.
        maps: further maps by name, with 1 or 3 channels, such as the z-depth in units of the scene.
    """

    images: Float[Tensor, "b v 3 h w"]
    maps: Mapping[str, Float[Tensor, "b v _ h w"]]


class GeometricRenderer(Renderer):
    """Base class of renderers that read the images and cameras of context views.

    An ``ImageRenderer`` reads them for each target view. A ``SurfaceRenderer`` makes Gaussians of them and draws these.
    """

    def __init__(self) -> None:
        super().__init__()


class ImageRenderer(GeometricRenderer):
    """Computes target views from the images and cameras of context views. Target views do not influence each other."""

    @abstractmethod
    def prepare(self, images: Float[Tensor, "b v 3 h w"]) -> tuple[Tensor, ...]:
        """Tensors (b, v, ...) that all renderings of these context views share; views do not influence each other.

        Args:
            images: context views in [0, 1].
        """

    @abstractmethod
    def forward(
        self,
        images: Float[Tensor, "b vc 3 h w"],
        context: Cameras,
        cameras: Cameras,
        *,
        prepared: tuple[Tensor, ...] = (),
    ) -> RenderedViews:
        """Views of the size of the context views.

        Args:
            images: context views in [0, 1].
            context: their cameras.
            cameras: cameras of the target views.
            prepared: the result of ``prepare``, if it has been computed.
        """
