"""Weights of ours for others: a folder as the Hugging Face hub expects it."""

from openrayzer.export.folder import Exported as Exported
from openrayzer.export.folder import export_weights as export_weights
