"""Training on DeepSpeed. It receives built objects and knows no model class.

Importing this package registers the built-in optimizers, schedules and loggers.
"""

from openrayzer.training import optimizers as optimizers
from openrayzer.training import schedules as schedules
from openrayzer.training.logs import loggers as loggers
from openrayzer.training.logs import tracking as tracking
