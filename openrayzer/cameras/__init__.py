"""Tokens to cameras; each file registers one head."""

from openrayzer.cameras import pi3 as pi3
from openrayzer.cameras import quaternion as quaternion
from openrayzer.cameras import rot6d as rot6d
from openrayzer.cameras import se3 as se3
