"""Data: datasets, choice of views, augmentations, loading, and preparation of data sets."""

from openrayzer.data.sampling import autoregressive as autoregressive
from openrayzer.data.sampling import evaluation_index as evaluation_index
from openrayzer.data.sampling import overlap_curriculum as overlap_curriculum
from openrayzer.data.sampling import published_windows as published_windows
from openrayzer.data.sampling import view_samplers as view_samplers
from openrayzer.data.sources import chunks as chunks
from openrayzer.data.sources import colmap as colmap
from openrayzer.data.sources import dl3dv as dl3dv
from openrayzer.data.sources import images as images
from openrayzer.data.sources import opencv_cameras as opencv_cameras
from openrayzer.data.sources import processed as processed
from openrayzer.data.sources import synthetic as synthetic
from openrayzer.data.sources import video as video
from openrayzer.data.sources import video_tars as video_tars
from openrayzer.data.sources.captures import co3d as co3d
from openrayzer.data.sources.captures import llff as llff
from openrayzer.data.sources.captures import mapfree as mapfree
from openrayzer.data.sources.captures import polycam as polycam
from openrayzer.data.sources.captures import record3d as record3d
from openrayzer.data.sources.nerfstudio import scannetpp as scannetpp
from openrayzer.data.sources.nerfstudio import transforms as transforms
