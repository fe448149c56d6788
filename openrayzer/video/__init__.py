"""Videos of new views: images in, cameras placed, a path through them, an MP4 out."""

from openrayzer.video.placing import PlacedScene as PlacedScene
from openrayzer.video.placing import place as place
from openrayzer.video.placing import render_frames as render_frames
from openrayzer.video.placing import render_path as render_path
