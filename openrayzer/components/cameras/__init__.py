"""Camera heads: tokens to cameras."""

from openrayzer.components.cameras import absolute_quaternion as absolute_quaternion
from openrayzer.components.cameras import pi3 as pi3
from openrayzer.components.cameras import quaternion as quaternion
from openrayzer.components.cameras import rot6d as rot6d
from openrayzer.components.cameras import se3 as se3
