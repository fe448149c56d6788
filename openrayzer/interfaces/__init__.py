"""The base classes of all components and their registries. Read this package first.

A component is a class that an experiment file selects by its registered name. It subclasses a base class of this
package and registers itself: ``@CAMERA_HEADS.register("my_head")``. Components import this package; it imports no
component.

The signature of the constructor is the JSON schema of the component. Parameters are keyword-only, have type
annotations, and are described under ``Args``. A parameter without a default must have a value, in the component's JSON
object or in the section ``shared`` of the experiment. A parameter annotated with a base class of this package is a
component.

The contract tests build a small component from its signature. A class whose constructor needs files has a static method
``example(folder)``, which writes small files into ``folder`` and returns constructor arguments.

    parts.py       tokenizers, position encodings, attention, camera heads, fusions, renderers
    matching.py    matches between views, and the cameras that explain them
    gaussians.py   scenes of explicit Gaussians, and rasterisers, which draw them
    explicit_scenes.py  scenes of Gaussians, and renderers that make and draw them
    model.py       models: images -> cameras -> scene -> images
    data.py        datasets, view samplers, augmentations, and the values that pass between them
    training.py    objectives, losses, optimizers, schedules, loggers
    evaluation.py  metrics of rendered views
    errors.py      exceptions that callers handle
    registries.py  one registry for each base class
"""

from openrayzer.interfaces.data import Augmentation as Augmentation
from openrayzer.interfaces.data import Clip as Clip
from openrayzer.interfaces.data import Dataset as Dataset
from openrayzer.interfaces.data import Frames as Frames
from openrayzer.interfaces.data import ViewChoice as ViewChoice
from openrayzer.interfaces.data import ViewSampler as ViewSampler
from openrayzer.interfaces.errors import BrokenSceneError as BrokenSceneError
from openrayzer.interfaces.errors import InputError as InputError
from openrayzer.interfaces.errors import UnposedInputError as UnposedInputError
from openrayzer.interfaces.errors import UnusableSceneError as UnusableSceneError
from openrayzer.interfaces.errors import concerning as concerning
from openrayzer.interfaces.evaluation import Metric as Metric
from openrayzer.interfaces.explicit_scenes import GaussianRenderer as GaussianRenderer
from openrayzer.interfaces.explicit_scenes import GaussianScene as GaussianScene
from openrayzer.interfaces.explicit_scenes import SurfaceRenderer as SurfaceRenderer
from openrayzer.interfaces.gaussians import Gaussians as Gaussians
from openrayzer.interfaces.gaussians import RasterisedViews as RasterisedViews
from openrayzer.interfaces.gaussians import Rasteriser as Rasteriser
from openrayzer.interfaces.matching import CameraSolver as CameraSolver
from openrayzer.interfaces.matching import Matcher as Matcher
from openrayzer.interfaces.matching import Matches as Matches
from openrayzer.interfaces.matching import SolvedCameras as SolvedCameras
from openrayzer.interfaces.model import Model as Model
from openrayzer.interfaces.parts import AttentionBackend as AttentionBackend
from openrayzer.interfaces.parts import AttentionLayout as AttentionLayout
from openrayzer.interfaces.parts import CameraHead as CameraHead
from openrayzer.interfaces.parts import ContextRenderer as ContextRenderer
from openrayzer.interfaces.parts import Fusion as Fusion
from openrayzer.interfaces.parts import GeometricRenderer as GeometricRenderer
from openrayzer.interfaces.parts import ImageRenderer as ImageRenderer
from openrayzer.interfaces.parts import PositionEncoding as PositionEncoding
from openrayzer.interfaces.parts import RenderedViews as RenderedViews
from openrayzer.interfaces.parts import Renderer as Renderer
from openrayzer.interfaces.parts import Rotation as Rotation
from openrayzer.interfaces.parts import Tokenizer as Tokenizer
from openrayzer.interfaces.parts import TokenRenderer as TokenRenderer
from openrayzer.interfaces.registries import ATTENTION_BACKENDS as ATTENTION_BACKENDS
from openrayzer.interfaces.registries import ATTENTION_LAYOUTS as ATTENTION_LAYOUTS
from openrayzer.interfaces.registries import AUGMENTATIONS as AUGMENTATIONS
from openrayzer.interfaces.registries import CAMERA_HEADS as CAMERA_HEADS
from openrayzer.interfaces.registries import CAMERA_SOLVERS as CAMERA_SOLVERS
from openrayzer.interfaces.registries import DATASETS as DATASETS
from openrayzer.interfaces.registries import FUSIONS as FUSIONS
from openrayzer.interfaces.registries import LOGGERS as LOGGERS
from openrayzer.interfaces.registries import LOSSES as LOSSES
from openrayzer.interfaces.registries import MATCHERS as MATCHERS
from openrayzer.interfaces.registries import METRICS as METRICS
from openrayzer.interfaces.registries import MODELS as MODELS
from openrayzer.interfaces.registries import OBJECTIVES as OBJECTIVES
from openrayzer.interfaces.registries import OPTIMIZERS as OPTIMIZERS
from openrayzer.interfaces.registries import PLUGIN_GROUP as PLUGIN_GROUP
from openrayzer.interfaces.registries import POSITION_ENCODINGS as POSITION_ENCODINGS
from openrayzer.interfaces.registries import RASTERISERS as RASTERISERS
from openrayzer.interfaces.registries import REGISTRIES as REGISTRIES
from openrayzer.interfaces.registries import RENDERERS as RENDERERS
from openrayzer.interfaces.registries import SCHEDULES as SCHEDULES
from openrayzer.interfaces.registries import TOKENIZERS as TOKENIZERS
from openrayzer.interfaces.registries import VIEW_SAMPLERS as VIEW_SAMPLERS
from openrayzer.interfaces.registries import registered_name as registered_name
from openrayzer.interfaces.training import Logger as Logger
from openrayzer.interfaces.training import Loss as Loss
from openrayzer.interfaces.training import Objective as Objective
from openrayzer.interfaces.training import Optimizer as Optimizer
from openrayzer.interfaces.training import Schedule as Schedule
