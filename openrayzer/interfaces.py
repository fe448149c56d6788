"""The sockets: every interchangeable part's base class and its registry, on one screen.

Implementations import this file; it imports none of them. The constructor of an implementation is its JSON
schema: each parameter is named and typed, what has no default is required (or comes from ``shared``).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from openrayzer.types import Cameras, Prediction, Scene, Views
from registry import Registry

PLUGIN_GROUP = "openrayzer.plugins"
"""Entry-point group in which installed packages announce their plugins."""


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


class Model(nn.Module, ABC):
    """Three maps: images -> cameras, images + cameras -> scene, scene + cameras -> images.

    Attributes:
        posed: whether true cameras must be given; such a model has no ``estimate``.
        needs_intrinsics: whether ``estimate`` must be given the true intrinsics.
        patch_size: image height and width must be multiples of it.
    """

    posed: ClassVar[bool]
    needs_intrinsics: bool = False
    patch_size: int

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
    ) -> Scene:
        """The scene that the context views show; once per scene.

        Args:
            images: the context views.
            cameras: their cameras.
            index: their places in the list of views whose cameras were estimated together, for position
                encodings that count views; 0, 1, 2, ... by default.
        """

    @abstractmethod
    def render(self, scene: Scene, cameras: Cameras) -> Float[Tensor, "b v 3 h w"]:
        """The scene as the cameras see it; as often as wanted."""

    def extend(
        self,
        scene: Scene,
        images: Float[Tensor, "b v 3 h w"],
        cameras: Cameras,
        index: Int[Tensor, "b v"] | None = None,
    ) -> Scene:
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

    def prepare(self, scene: Scene) -> Scene:
        """The same scene, of which many calls of ``render`` follow: what they all compute is computed once, here."""
        return scene

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
        return Prediction(self.render(scene, cameras.select(views.target)), cameras)

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


class UnposedInputError(ValueError):
    """A model that needs cameras was given images without them."""


class Loss(nn.Module, ABC):
    """Prediction and target to one number, computed in float32."""

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def forward(
        self, prediction: Float[Tensor, "b v 3 h w"], target: Float[Tensor, "b v 3 h w"]
    ) -> Float[Tensor, ""]: ...


class BrokenSceneError(ValueError):
    """A scene or frame that cannot be used; the message names file, scene, frame and fault."""


@dataclass(frozen=True)
class Frames:
    """Some frames of one scene as they are stored, in the order asked for.

    Attributes:
        images: one uint8 array (h, w, 3), RGB, per frame.
        c2w: camera to world (f, 4, 4) float32, OpenCV axes; None where the source has no poses.
        intrinsics: (f, 4) float32, normalised by image size; None where the source has no poses.
    """

    images: list[np.ndarray]
    c2w: np.ndarray | None
    intrinsics: np.ndarray | None

    def each(self) -> Iterator["Frames"]:
        """The same frames, one at a time."""
        for place, image in enumerate(self.images):
            one = slice(place, place + 1)
            c2w = None if self.c2w is None else self.c2w[one]
            yield Frames([image], c2w, None if self.intrinsics is None else self.intrinsics[one])

    @staticmethod
    def joined(parts: Iterable["Frames"]) -> "Frames":
        """The frames of all parts in their order; without cameras if one of them has none, or there is none."""
        parts = list(parts)
        c2w = [part.c2w for part in parts if part.c2w is not None]
        intrinsics = [part.intrinsics for part in parts if part.intrinsics is not None]
        posed = 0 < len(parts) == len(c2w) == len(intrinsics)
        return Frames(
            [image for part in parts for image in part.images],
            np.concatenate(c2w) if posed else None,
            np.concatenate(intrinsics) if posed else None,
        )


class Dataset(ABC):
    """A source of scenes. Frame numbers are positions in the original sequence, always.

    Attributes:
        posed: whether the scenes have cameras.
        problems: scenes that were left out when the source was opened, one sentence each.
    """

    posed: bool
    problems: tuple[str, ...] = ()

    def __init__(self) -> None: ...

    @abstractmethod
    def open(self) -> None:
        """Find the scenes; cheap, done once before anything else.

        Raises:
            InputError: there is nothing usable; the message says what was looked for and where.
        """

    @abstractmethod
    def __len__(self) -> int:
        """Number of usable scenes."""

    @abstractmethod
    def key(self, scene: int) -> str:
        """The scene's name, unique in this source."""

    @abstractmethod
    def num_frames(self, scene: int) -> int:
        """Length of the original sequence, broken frames included.

        Raises:
            BrokenSceneError: the scene turns out unusable only now.
        """

    @abstractmethod
    def read(self, scene: int, frames: Sequence[int]) -> Frames:
        """Decode some frames.

        Raises:
            BrokenSceneError: a frame or camera among them cannot be used.
        """

    def stream(self, scene: int, frames: Sequence[int]) -> Iterator[Frames]:
        """What ``read`` gives, one frame at a time; training reads this way.

        By default all are decoded first. Overriding it pays where frames can be decoded alone: each is shrunk before
        the next is decoded, so that large ones are never held together and small ones stay in the processor's cache.

        Raises:
            BrokenSceneError: see ``read``; frames before it may have been given.
        """
        yield from self.read(scene, frames).each()

    def version(self, scene: int, frame: int) -> tuple[str, str]:
        """Where a frame comes from, and what that was like when asked, so that a change of either can be told.

        Empty texts where that cannot be told; such a frame is never cached.

        Raises:
            BrokenSceneError: the scene cannot be used.
        """
        return "", ""


@dataclass(frozen=True)
class ViewChoice:
    """Frame numbers of one clip; a frame may be in both.

    Attributes:
        context: frames that are given to the model.
        target: frames that are rendered and judged.
        order: all of them, each once, as they follow each other on the view axis; empty for rising numbers.
    """

    context: tuple[int, ...]
    target: tuple[int, ...]
    order: tuple[int, ...] = ()

    @property
    def frames(self) -> tuple[int, ...]:
        """All frames of the clip, each once, as they follow each other on the view axis."""
        return self.order or tuple(sorted({*self.context, *self.target}))


class ViewSampler(ABC):
    """Which frames of a scene, and which of them are context and which target."""

    def __init__(self) -> None: ...

    @abstractmethod
    def sample(self, key: str, num_frames: int, generator: np.random.Generator, step: int = 0) -> ViewChoice:
        """One choice; all randomness comes from ``generator``.

        Args:
            key: the scene's name.
            num_frames: its length, broken frames included.
            generator: of random numbers.
            step: optimizer step for which the clip is loaded, for choices that grow harder.

        Raises:
            UnusableSceneError: the scene has no valid choice, e.g. too few frames.
        """

    def for_step(self, step: int, generator: np.random.Generator) -> "ViewSampler":
        """What samples all training clips of one optimizer step, on all ranks: what they must share is drawn here.

        A sampler whose numbers of views vary returns one with fixed numbers, since a batch needs equal ones.

        Args:
            step: the optimizer step.
            generator: of random numbers that are the same for all clips of the step, and for them only.
        """
        return self

    def difficulty(self, step: int) -> Mapping[str, float]:
        """Named numbers that say how hard the choices of an optimizer step are; logged beside the loss."""
        return {}


@dataclass(frozen=True)
class Clip:
    """The chosen views of one scene; a frame that is context and target is there once.

    Attributes:
        scene: the scene's name.
        images: (v, 3, h, w) float32 in [0, 1]: what the model sees.
        frames: (v,) frame numbers, in the order of the view axis.
        context: (vc,) positions on the view axis that are given to the model.
        target: (vt,) positions on the view axis that are rendered and judged.
        c2w: (v, 4, 4) float32 as the source has them; None without poses.
        intrinsics: (v, 4) float32 of the images as they are here; None without poses.
        clean: (v, 3, h, w), what targets are compared with, where it is not what the model sees; else None.
    """

    scene: str
    images: np.ndarray
    frames: np.ndarray
    context: np.ndarray
    target: np.ndarray
    c2w: np.ndarray | None
    intrinsics: np.ndarray | None
    clean: np.ndarray | None = None

    def with_images(self, change: Callable[[np.ndarray], np.ndarray]) -> "Clip":
        """The clip with all its images changed alike, the clean ones, too."""
        clean = None if self.clean is None else change(self.clean)
        return replace(self, images=change(self.images), clean=clean)


class Augmentation:
    """A change of training clips that keeps images and cameras consistent; an implementation overrides either method.

    A clip's decisions are a function of the generator alone: whoever loads the clip, and whenever, it is the same.
    """

    def __init__(self) -> None: ...

    def cut(self, frames: Frames, image_size: tuple[int, int], generator: np.random.Generator) -> Frames:
        """Change the views as they are stored, before they are resized and cropped to ``image_size``."""
        return frames

    def apply(self, clip: Clip, generator: np.random.Generator) -> Clip:
        """Change the finished clip; its arrays may be shared and are not to be written to."""
        return clip


class UnusableSceneError(ValueError):
    """A scene from which a view sampler cannot choose; not a fault of the data."""


class Optimizer(ABC):
    """How gradients become steps."""

    def __init__(self) -> None: ...

    @abstractmethod
    def build(self, model: nn.Module) -> torch.optim.Optimizer: ...


class Schedule(ABC):
    """The learning rate over the run."""

    def __init__(self) -> None: ...

    @abstractmethod
    def factor(self, step: int, steps: int) -> float:
        """What the optimizer's learning rate is multiplied by at ``step`` (from 0) of ``steps``."""


class Logger(ABC):
    """Where numbers and pictures of a run go; only rank 0 calls it. A failing logger never stops training."""

    def __init__(self) -> None: ...

    @abstractmethod
    def open(self, run_folder: Path, experiment: Mapping[str, Any]) -> None:
        """Called once before the first record; ``experiment`` is the resolved JSON."""

    @abstractmethod
    def record(self, values: Mapping[str, Any]) -> None:
        """One line of ``metrics.jsonl``: step, split, loss, psnr, ..."""

    def picture(self, step: int, path: Path) -> None:
        """A picture that was written to the run folder."""

    def close(self) -> None:
        """Called once at the end, also after a failure."""


class InputError(ValueError):
    """What the user gave cannot work; tools print the message without a traceback and exit with code 2."""


TOKENIZERS = Registry("tokenizer", Tokenizer, home="openrayzer.components.tokenizers")
POSITION_ENCODINGS = Registry("position_encoding", PositionEncoding, home="openrayzer.components.positions")
ATTENTION_LAYOUTS = Registry("attention_layout", AttentionLayout, home="openrayzer.components.layouts")
ATTENTION_BACKENDS = Registry("attention_backend", AttentionBackend, home="openrayzer.components.attention")
CAMERA_HEADS = Registry("camera_head", CameraHead, home="openrayzer.components.cameras")
FUSIONS = Registry("fusion", Fusion, home="openrayzer.components.fusion")
RENDERERS = Registry("renderer", Renderer, home="openrayzer.components.renderers")
MODELS = Registry("model", Model, home="openrayzer.models")
LOSSES = Registry("loss", Loss, home="openrayzer.components.losses")
DATASETS = Registry("dataset", Dataset, home="openrayzer.data")
VIEW_SAMPLERS = Registry("view_sampler", ViewSampler, home="openrayzer.data")
AUGMENTATIONS = Registry("augmentation", Augmentation, home="openrayzer.data.augmentations")
OPTIMIZERS = Registry("optimizer", Optimizer, home="openrayzer.training")
SCHEDULES = Registry("schedule", Schedule, home="openrayzer.training")
LOGGERS = Registry("logger", Logger, home="openrayzer.training")

REGISTRIES = (
    TOKENIZERS, POSITION_ENCODINGS, ATTENTION_LAYOUTS, ATTENTION_BACKENDS, CAMERA_HEADS, FUSIONS, RENDERERS,
    MODELS, LOSSES, DATASETS, VIEW_SAMPLERS, AUGMENTATIONS, OPTIMIZERS, SCHEDULES, LOGGERS,
)  # fmt: skip
