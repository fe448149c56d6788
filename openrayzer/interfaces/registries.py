"""One registry for each base class."""

from openrayzer.interfaces.data import Augmentation, Dataset, ViewSampler
from openrayzer.interfaces.evaluation import Metric
from openrayzer.interfaces.gaussians import Rasteriser
from openrayzer.interfaces.matching import CameraSolver, Matcher
from openrayzer.interfaces.model import Model
from openrayzer.interfaces.parts import (
    AttentionBackend,
    AttentionLayout,
    CameraHead,
    Fusion,
    PositionEncoding,
    Renderer,
    Tokenizer,
)
from openrayzer.interfaces.training import Logger, Loss, Objective, Optimizer, Schedule
from registry import Registry

PLUGIN_GROUP = "openrayzer.plugins"
"""Entry-point group by which installed packages offer plugins."""

TOKENIZERS = Registry("tokenizer", Tokenizer, home="openrayzer.components.tokenizers")
POSITION_ENCODINGS = Registry("position_encoding", PositionEncoding, home="openrayzer.components.positions")
ATTENTION_LAYOUTS = Registry("attention_layout", AttentionLayout, home="openrayzer.components.layouts")
ATTENTION_BACKENDS = Registry("attention_backend", AttentionBackend, home="openrayzer.components.attention")
CAMERA_HEADS = Registry("camera_head", CameraHead, home="openrayzer.components.cameras")
MATCHERS = Registry("matcher", Matcher, home="openrayzer.components.matchers")
CAMERA_SOLVERS = Registry("camera_solver", CameraSolver, home="openrayzer.components.solvers")
FUSIONS = Registry("fusion", Fusion, home="openrayzer.components.fusion")
RENDERERS = Registry("renderer", Renderer, home="openrayzer.components.renderers")
RASTERISERS = Registry("rasteriser", Rasteriser, home="openrayzer.components.rasterisers")
MODELS = Registry("model", Model, home="openrayzer.models")
OBJECTIVES = Registry("objective", Objective, home="openrayzer.components.objectives")
LOSSES = Registry("loss", Loss, home="openrayzer.components.losses")
DATASETS = Registry("dataset", Dataset, home="openrayzer.data")
VIEW_SAMPLERS = Registry("view_sampler", ViewSampler, home="openrayzer.data")
AUGMENTATIONS = Registry("augmentation", Augmentation, home="openrayzer.data.augmentations")
OPTIMIZERS = Registry("optimizer", Optimizer, home="openrayzer.training")
SCHEDULES = Registry("schedule", Schedule, home="openrayzer.training")
LOGGERS = Registry("logger", Logger, home="openrayzer.training")
METRICS = Registry("metric", Metric, home="openrayzer.evaluation.metrics")

REGISTRIES = (
    TOKENIZERS, POSITION_ENCODINGS, ATTENTION_LAYOUTS, ATTENTION_BACKENDS, CAMERA_HEADS, MATCHERS, CAMERA_SOLVERS,
    FUSIONS, RENDERERS, RASTERISERS,
    MODELS, OBJECTIVES, LOSSES, DATASETS, VIEW_SAMPLERS, AUGMENTATIONS, OPTIMIZERS, SCHEDULES, LOGGERS, METRICS,
)  # fmt: skip
"""All registries, in the order of ``openrayzer list``."""


def registered_name(component: Model | Dataset) -> str:
    """The registered name of a component; the name of its class if it is not registered."""
    registry = MODELS if isinstance(component, Model) else DATASETS
    names = [entry.name for entry in registry if entry.target is type(component)]
    return names[0] if names else type(component).__name__
