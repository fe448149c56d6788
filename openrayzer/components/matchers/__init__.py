"""Matchers: places of points of each view in other views."""

from openrayzer.components.matchers import patch_correlation as patch_correlation
