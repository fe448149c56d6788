"""The training run on DeepSpeed: receives built objects, knows no model. Importing registers the built-in parts."""

from openrayzer.training import loggers as loggers
from openrayzer.training import optimizers as optimizers
from openrayzer.training import schedules as schedules
