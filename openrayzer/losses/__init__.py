"""Prediction and target to one number; each file registers one loss."""

from openrayzer.losses import l1 as l1
from openrayzer.losses import lpips as lpips
from openrayzer.losses import mse as mse
from openrayzer.losses import perceptual as perceptual
from openrayzer.losses import ssim as ssim
