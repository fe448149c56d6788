"""Where a token is; each file registers one encoding."""

from openrayzer.positions import camera_index as camera_index
from openrayzer.positions import combined as combined
from openrayzer.positions import none as none
from openrayzer.positions import rope2d as rope2d
from openrayzer.positions import sinusoidal as sinusoidal
