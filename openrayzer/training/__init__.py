"""The training run on DeepSpeed: receives built objects, knows no model. Importing registers the built-in parts."""

from openrayzer.training import optimizers as optimizers
from openrayzer.training import schedules as schedules
from openrayzer.training.logs import loggers as loggers
