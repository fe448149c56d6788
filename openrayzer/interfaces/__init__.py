"""The sockets: the base class and the registry of every interchangeable part.

Implementations import from here; nothing here imports an implementation. The constructor of an implementation is its
JSON schema: each parameter has a name and a type. A parameter without a default is required; ``shared`` may give it.
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
from openrayzer.interfaces.model import AttentionBackend as AttentionBackend
from openrayzer.interfaces.model import AttentionLayout as AttentionLayout
from openrayzer.interfaces.model import CameraHead as CameraHead
from openrayzer.interfaces.model import Fusion as Fusion
from openrayzer.interfaces.model import Model as Model
from openrayzer.interfaces.model import PositionEncoding as PositionEncoding
from openrayzer.interfaces.model import Renderer as Renderer
from openrayzer.interfaces.model import Rotation as Rotation
from openrayzer.interfaces.model import Tokenizer as Tokenizer
from openrayzer.interfaces.registries import ATTENTION_BACKENDS as ATTENTION_BACKENDS
from openrayzer.interfaces.registries import ATTENTION_LAYOUTS as ATTENTION_LAYOUTS
from openrayzer.interfaces.registries import AUGMENTATIONS as AUGMENTATIONS
from openrayzer.interfaces.registries import CAMERA_HEADS as CAMERA_HEADS
from openrayzer.interfaces.registries import DATASETS as DATASETS
from openrayzer.interfaces.registries import FUSIONS as FUSIONS
from openrayzer.interfaces.registries import LOGGERS as LOGGERS
from openrayzer.interfaces.registries import LOSSES as LOSSES
from openrayzer.interfaces.registries import METRICS as METRICS
from openrayzer.interfaces.registries import MODELS as MODELS
from openrayzer.interfaces.registries import OPTIMIZERS as OPTIMIZERS
from openrayzer.interfaces.registries import PLUGIN_GROUP as PLUGIN_GROUP
from openrayzer.interfaces.registries import POSITION_ENCODINGS as POSITION_ENCODINGS
from openrayzer.interfaces.registries import REGISTRIES as REGISTRIES
from openrayzer.interfaces.registries import RENDERERS as RENDERERS
from openrayzer.interfaces.registries import SCHEDULES as SCHEDULES
from openrayzer.interfaces.registries import TOKENIZERS as TOKENIZERS
from openrayzer.interfaces.registries import VIEW_SAMPLERS as VIEW_SAMPLERS
from openrayzer.interfaces.registries import registered_name as registered_name
from openrayzer.interfaces.training import Logger as Logger
from openrayzer.interfaces.training import Loss as Loss
from openrayzer.interfaces.training import Optimizer as Optimizer
from openrayzer.interfaces.training import Schedule as Schedule
