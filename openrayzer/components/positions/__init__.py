"""Position encodings of tokens."""

from openrayzer.components.positions import camera_index as camera_index
from openrayzer.components.positions import combined as combined
from openrayzer.components.positions import none as none
from openrayzer.components.positions import rope2d as rope2d
from openrayzer.components.positions import sinusoidal as sinusoidal
