"""Clips: where they come from, which views are chosen, how they become batches."""

from openrayzer.data import autoregressive as autoregressive
from openrayzer.data import chunks as chunks
from openrayzer.data import colmap as colmap
from openrayzer.data import dl3dv as dl3dv
from openrayzer.data import evaluation_index as evaluation_index
from openrayzer.data import images as images
from openrayzer.data import opencv_cameras as opencv_cameras
from openrayzer.data import overlap_curriculum as overlap_curriculum
from openrayzer.data import processed as processed
from openrayzer.data import published_windows as published_windows
from openrayzer.data import synthetic as synthetic
from openrayzer.data import video as video
from openrayzer.data import view_samplers as view_samplers
