"""Weights of ours for others: a folder as the Hugging Face hub expects it."""

from openrayzer.weights.export.export_folder import Exported as Exported
from openrayzer.weights.export.export_folder import export_weights as export_weights
