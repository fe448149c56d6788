"""Losses: rendered and true images to one number."""

from openrayzer.components.losses import l1 as l1
from openrayzer.components.losses import lpips as lpips
from openrayzer.components.losses import mse as mse
from openrayzer.components.losses import perceptual as perceptual
from openrayzer.components.losses import ssim as ssim
