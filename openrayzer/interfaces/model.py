"""Interfaces of a model and its parts."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Generic

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from openrayzer.geometry.similarity import similarity_between
from openrayzer.interfaces.errors import InputError, UnposedInputError
from openrayzer.types import Cameras, Prediction, SceneKind, Views, select_views


class Tokenizer(nn.Module, ABC):
    """Images to tokens, one token per square patch, row by row.

    Attributes:
        patch_size: side p of a patch in pixels; n = (h / p) * (w / p).
    """

    patch_size: int

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v n d"]: ...


Rotation = Callable[[Float[Tensor, "b n heads e"]], Float[Tensor, "b n heads e"]]
"""Turns queries and keys by what their tokens' positions say."""


class PositionEncoding(nn.Module, ABC):
    """Where a token is: added to tokens once, or turned into queries and keys of every block, or neither."""

    def __init__(self) -> None:
        super().__init__()

    def embed_patches(
        self, tokens: Float[Tensor, "b v n d"], grid: tuple[int, int], index: Int[Tensor, "b v"]
    ) -> Float[Tensor, "b v n d"]:
        """Patch tokens with their position added.

        Args:
            tokens: row by row.
            grid: rows and columns; n = rows * columns.
            index: place of each view in the list of views that is seen together.
        """
        return tokens

    def embed_cameras(self, tokens: Float[Tensor, "b v c d"], index: Int[Tensor, "b v"]) -> Float[Tensor, "b v c d"]:
        """Camera and register tokens with their view's position added."""
        return tokens

    def rotation(self, positions: Float[Tensor, "b n 2"], head_width: int) -> Rotation:
        """What every block does to its queries and keys.

        Args:
            positions: (row, column) of each token in patches, counted from 1; (0, 0) for tokens that are no patch.
            head_width: width e of one attention head.
        """
        return _unrotated


def _unrotated(heads: Tensor) -> Tensor:
    return heads


class AttentionLayout(nn.Module, ABC):
    """Which tokens see which, block by block."""

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def groups(self, block: int) -> str:
        """How block number ``block`` (from 0) gathers tokens (b, v, n, d) into sequences, in einops words.

        ``"b (v n)"``: all tokens of all views see each other. ``"(b v) n"``: those of one view do.
        """


class AttentionBackend(ABC):
    """A way to compute softmax(q k^T / sqrt(e)) v."""

    def __init__(self) -> None: ...

    @abstractmethod
    def refusal(self, query: Float[Tensor, "b n heads e"]) -> str:
        """Why this backend cannot run a call with such queries; empty if it can."""

    @abstractmethod
    def attend(
        self,
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
    ) -> Float[Tensor, "b n heads e"]: ...

    def attend_with_lse(
        self,
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
    ) -> tuple[Float[Tensor, "b n heads e"], Float[Tensor, "b heads n"]]:
        """The result of ``attend``, without a graph, and the log-sum-exp of each query's scores, in float32 or better.

        The log-sum-exp merges attention to several sets of keys. The default keeps all n * m scores in memory.
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
            gradient: of ``out``.
            query: as in ``attend_with_lse``.
            key: some or all of the keys that the queries see.
            value: their values.
            out: the result of attention to all keys that the queries see.
            lse: the log-sum-exp of the scores of all these keys.

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
    """q k^T / sqrt(e), float32 or better."""
    scores = torch.einsum("bnhe,bmhe->bhnm", query * query.shape[-1] ** -0.5, key)
    return scores if scores.dtype == torch.float64 else scores.float()


class CameraHead(nn.Module, ABC):
    """Cameras from tokens; each batch element by itself, in float32 whatever the autocast dtype.

    Attributes:
        compares_views: whether a pose is read from two views' tokens together, so that it means something even
            where the views have not seen each other before.
        predicts_intrinsics: whether the intrinsics are read from the tokens; if not, they are only a guess, and the
            model should be given the true ones.
    """

    compares_views: ClassVar[bool] = False
    predicts_intrinsics: bool = True

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, tokens: Float[Tensor, "b v n d"], image_size: tuple[int, int]) -> Cameras:
        """One camera per view.

        Args:
            tokens: each view's camera tokens where the model has some, else its patch tokens; n may be any
                number from 1 on.
            image_size: height and width in pixels, for the aspect ratio.
        """


class Fusion(nn.Module, ABC):
    """Context images and their rays to tokens.

    Attributes:
        reads_tokens: whether the image tokens are used; if not, the pixels are.
    """

    reads_tokens: ClassVar[bool]

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def forward(
        self,
        images: Float[Tensor, "b v 3 h w"],
        tokens: Float[Tensor, "b v t d"],
        plucker: Float[Tensor, "b v 6 h w"],
    ) -> Float[Tensor, "b v n d"]:
        """One token per patch; ``tokens`` are the image tokens, or none (t = 0) where they are not read."""


class Renderer(nn.Module, ABC):
    """Ray tokens of target views and a scene's memory to tokens that hold the views; views never see each other."""

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
            memory: what is known of the scene.
            positions: (row, column) of each patch, or where its ray points, in patches.
            memory_positions: the same of the memory's tokens; (0, 0) for what is no patch.
            position_encoding: turns queries and keys.
            backend: computes attention.
        """

    def prepare(
        self,
        memory: Float[Tensor, "b k d"],
        *,
        memory_positions: Float[Tensor, "b k 2"],
        position_encoding: PositionEncoding,
    ) -> tuple[Tensor, ...]:
        """What of the memory no view changes, to be computed once; nothing by default.

        A renderer that has something takes it in ``forward`` as ``prepared``, and makes the same of it.
        """
        return ()


class Model(nn.Module, ABC, Generic[SceneKind]):
    """Three maps: images -> cameras, images + cameras -> scene, scene + cameras -> images.

    ``class MyModel(Model[MyScene])`` defines ``MyScene`` beside it; see ``openrayzer.types.Scene``.

    Attributes:
        posed: whether true cameras must be given; such a model has no ``estimate``.
        needs_intrinsics: whether ``estimate`` must be given the true intrinsics.
        patch_size: image height and width must be multiples of it; 1 for a model without patches.
    """

    posed: ClassVar[bool]
    needs_intrinsics: bool = False
    patch_size: int = 1

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def estimate(self, images: Float[Tensor, "b v 3 h w"], intrinsics: Float[Tensor, "b v 4"] | None = None) -> Cameras:
        """Cameras of any number of views, in a frame of the model's own choice.

        Args:
            images: the views.
            intrinsics: the true ones, where they are known: they take the place of estimated ones.

        Raises:
            UnposedInputError: this model cannot; it needs true cameras, or true intrinsics that were not given.
        """

    @abstractmethod
    def reconstruct(
        self, images: Float[Tensor, "b v 3 h w"], cameras: Cameras, index: Int[Tensor, "b v"] | None = None
    ) -> SceneKind:
        """The scene that the context views show; once per scene.

        Args:
            images: the context views.
            cameras: their cameras.
            index: their places in the list of views whose cameras were estimated together, for position
                encodings that count views; 0, 1, 2, ... by default.
        """

    @abstractmethod
    def render(self, scene: SceneKind, cameras: Cameras) -> Float[Tensor, "b v 3 h w"]:
        """The scene as the cameras see it; as often as wanted."""

    def render_maps(self, scene: SceneKind, cameras: Cameras) -> Mapping[str, Float[Tensor, "b v _ h w"]]:
        """Further maps of the same views by name, such as depth or opacity, with 1 or 3 channels; none by default.

        Sample pictures, reports and videos show them.
        """
        return {}

    def locate(
        self,
        scene: SceneKind,
        images: Float[Tensor, "b v 3 h w"],
        cameras: Cameras,
        context_images: Float[Tensor, "b vc 3 h w"],
        *,
        intrinsics: Float[Tensor, "b v 4"] | None = None,
        index: Int[Tensor, "b v"] | None = None,
        context_index: Int[Tensor, "b vc"] | None = None,
    ) -> Cameras:
        """Cameras of further views in the frame of a scene. No view influences the camera of another.

        The default estimates each view together with the context views, in one list, and applies the similarity that
        maps the new poses of the context onto ``cameras``. A model that finds a camera from a scene and an image
        overrides it.

        Args:
            scene: reconstructed from the context views; the default does not use it.
            images: the views to locate.
            cameras: cameras of the context views, in the frame of ``scene``.
            context_images: the context views.
            intrinsics: true intrinsics of ``images``, for a model that needs them.
            index: positions of ``images`` in the clip. The default sorts each list by position, because the estimate of
                a model may depend on the order. Without it, the view follows the context.
            context_index: positions of the context views in the clip.

        Returns:
            One camera for each of ``images``, shapes (b, v).

        Raises:
            UnposedInputError: the model does not estimate cameras, or it needs intrinsics.
        """
        (b, v), vc = images.shape[:2], context_images.shape[1]
        if index is None or context_index is None:
            context_index = torch.arange(vc, device=images.device).expand(b, vc)
            index = context_index.new_full((b, v), vc)

        def lists(of_context: Tensor, of_views: Tensor) -> Tensor:
            """(b, vc, ...) and (b, v, ...) to (b * v, vc + 1, ...): the context and one view."""
            repeated = of_context[:, None].expand(b, v, *of_context.shape[1:])
            return torch.cat([repeated, of_views[:, :, None]], dim=2).flatten(0, 1)

        order = lists(context_index, index).argsort(dim=1, stable=True)
        known = None if intrinsics is None else select_views(lists(cameras.intrinsics, intrinsics), order)
        seen = self.estimate(select_views(lists(context_images, images), order), known).select(order.argsort(dim=1))
        poses = seen.c2w.double()
        fixed = cameras.c2w.double()[:, None].expand(b, v, vc, 4, 4).flatten(0, 1)
        located = similarity_between(poses[:, :-1], fixed).poses(poses[:, -1:])
        shape = (b, v, -1)
        return Cameras(
            located.to(cameras.c2w.dtype).unflatten(0, (b, v))[:, :, 0], seen.intrinsics[:, -1].reshape(shape)
        )

    def extend(
        self,
        scene: SceneKind,
        images: Float[Tensor, "b v 3 h w"],
        cameras: Cameras,
        index: Int[Tensor, "b v"] | None = None,
    ) -> SceneKind:
        """The scene that ``reconstruct`` makes of the views of ``scene`` and these after them, at the cost of these.

        Only where that is exact: for models whose context views never see later ones. What was prepared is prepared
        again, because it has grown.

        Args:
            scene: of the earlier views.
            images: further context views, of the same size.
            cameras: their cameras, in the frame of those of the earlier views.
            index: their places as ``reconstruct`` counts them; by default they follow the earlier views.

        Raises:
            InputError: the model's context views all see each other, or the images do not fit the scene.
        """
        raise InputError(
            f"{type(self).__name__} sees all views of a scene at once, so none can be added; "
            "reconstruct it anew from the earlier and the new ones"
        )

    def prepare(self, scene: SceneKind) -> SceneKind:
        """The same scene, of which many calls of ``render`` follow: what they all compute is computed once, here."""
        return scene

    def check_size(self, image_size: tuple[int, int]) -> None:
        """Refuse images that the model cannot take; by default, sides that are no multiples of ``patch_size``.

        Args:
            image_size: height and width in pixels.

        Raises:
            InputError: the message says which sides would work.
        """
        if any(side % self.patch_size for side in image_size):
            height, width = (max(1, round(side / self.patch_size)) * self.patch_size for side in image_size)
            raise InputError(
                f"images of {image_size[0]} x {image_size[1]} pixels (height x width) do not fit the model: both sides "
                f"must be multiples of {self.patch_size}, e.g. {height} {width}"
            )

    def check_extension(self, scene: SceneKind, images: Float[Tensor, "b v 3 h w"]) -> None:
        """Refuse images that cannot extend ``scene``.

        Raises:
            InputError: their size differs from the scene's, or their batch does.
        """
        size = (images.shape[-2], images.shape[-1])
        if size != scene.image_size:
            height, width = scene.image_size
            raise InputError(
                f"the scene was made of images of {height} x {width} pixels, the new ones have {size[0]} x {size[1]}"
            )
        if images.shape[0] != scene.batch_size:
            raise InputError(
                f"the new images are of {images.shape[0]} scenes, and {scene.batch_size} are to be extended"
            )

    def check_roles(self, context: Int[Tensor, "b vc"], target: Int[Tensor, "b vt"], scenes: Sequence[str]) -> None:
        """Refuse clips that the model must not be trained with; called on the CPU, before they are moved to a GPU.

        Args:
            context: positions of the context views.
            target: positions of the target views.
            scenes: name of each batch element's scene.

        Raises:
            InputError: a clip must not be used; the message names its views and a remedy.
        """

    def forward(self, views: Views) -> Prediction:
        """Estimate, reconstruct from the context, render the targets: what training differentiates."""
        cameras = self.cameras_of(views)
        scene = self.reconstruct(views.context_images, cameras.select(views.context), views.context)
        targets = cameras.select(views.target)
        images = self.render(scene, targets)
        return Prediction(images, cameras, extra_images={} if self.training else self.render_maps(scene, targets))

    def cameras_of(self, views: Views) -> Cameras:
        """Cameras of all views: the given ones for a posed model, else estimated from all images jointly.

        Raises:
            UnposedInputError: the model needs poses or intrinsics and ``views`` come without cameras.
        """
        if self.posed:
            return self._known_cameras(views, "camera poses")
        if self.needs_intrinsics:
            return self.estimate(views.images, self._known_cameras(views, "intrinsics").intrinsics)
        return self.estimate(views.images)

    def _known_cameras(self, views: Views, what: str) -> Cameras:
        if views.cameras is None:
            raise UnposedInputError(f"{type(self).__name__} needs {what}, and {views.scenes[0]!r} has none")
        return views.cameras
