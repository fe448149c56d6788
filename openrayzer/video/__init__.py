"""Videos of new views: estimate cameras from images, reconstruct the scene, render it along a camera path."""

from openrayzer.video.placing import PlacedScene as PlacedScene
from openrayzer.video.placing import place as place
from openrayzer.video.placing import render_frames as render_frames
from openrayzer.video.placing import render_path as render_path
