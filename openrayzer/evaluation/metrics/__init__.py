"""Metrics of rendered images and of cameras, and the baselines beside them."""

from openrayzer.evaluation.metrics import image_metrics as image_metrics
