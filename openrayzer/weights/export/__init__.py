"""Export weights to a folder that can be published on the Hugging Face hub."""

from openrayzer.weights.export.export_folder import Exported as Exported
from openrayzer.weights.export.export_folder import export_weights as export_weights
