"""From experiment files to objects. A check of the whole file comes before the first object is built."""

from openrayzer.composer.build import ExperimentError as ExperimentError
from openrayzer.composer.build import Plan as Plan
from openrayzer.composer.build import construct as construct
from openrayzer.composer.build import plan as plan
from openrayzer.composer.build import resolved as resolved
from openrayzer.composer.experiment import ExperimentPlan as ExperimentPlan
from openrayzer.composer.experiment import load_experiment as load_experiment
from openrayzer.composer.files import SHIPPED as SHIPPED
from openrayzer.composer.files import experiment_file as experiment_file
