"""Frames for comparison: nearest input | new view, with all inputs below."""

from collections.abc import Sequence

import numpy as np
from einops import repeat
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from openrayzer.data.pixels.resizing import to_bytes
from openrayzer.data.sampling.view_samplers import spread
from openrayzer.geometry.focus import camera_distance, extent_of
from openrayzer.types import Cameras

MAX_STRIP = 8
"""Largest number of input views in the strip below; more views are thinned out evenly."""
LEAST_HEIGHT = 256
"""Smaller pictures are enlarged by an integer factor to at least this height in pixels."""
GAP, LINE, FONT_SIZE, FRAME = 8, 24, 14, 4
"""In pixels: gap between pictures, line of text, font size, frame around the nearest input."""
INK, PAPER, MARK = (20, 20, 20), (255, 255, 255), (220, 60, 20)


def nearest_views(path: Cameras, views: Cameras) -> Int[Tensor, " f"]:
    """Return the index of the nearest view for each camera of a path, by angle and position.

    Args:
        path: cameras of the frames, (1, f).
        views: cameras of the views, (1, v).
    """
    frames = repeat(path.c2w[0], "f i j -> f v i j", v=views.num_views)
    distance = camera_distance(frames, views.c2w.expand_as(frames), extent_of(views.c2w)[:, None])
    return distance.argmin(dim=1)


class SideBySide:
    """Draws the frames of a video that shows new views beside the inputs.

    Args:
        images: the input views, in [0, 1].
        names: captions of the input views.
        num_frames: number of frames of the video, for the captions.
    """

    def __init__(self, images: Float[Tensor, "1 v 3 h w"], names: Sequence[str], *, num_frames: int) -> None:
        self.names, self.num_frames = names, num_frames
        height, width = images.shape[-2:]
        factor = -(-LEAST_HEIGHT // height)
        self.size = (width * factor, height * factor)
        self.views = [self._tile(image) for image in images[0]]
        shown = spread(list(range(len(names))), MAX_STRIP)
        across = 2 * self.size[0] + GAP
        thumb = min((across - (MAX_STRIP - 1) * GAP) // MAX_STRIP, self.size[0])
        self.thumb = (thumb, max(1, thumb * height // width))
        self.strip = {view: self.views[view].resize(self.thumb, Image.Resampling.BOX) for view in shown}
        self.canvas = (across + 2 * GAP, self.size[1] + 2 * LINE + self.thumb[1] + 2 * GAP)
        self.font = ImageFont.load_default(size=FONT_SIZE)

    def frame(self, image: Float[Tensor, "3 h w"], *, number: int, nearest: int) -> UInt8[np.ndarray, "h2 w2 3"]:
        """Draw one frame, RGB.

        Args:
            image: the new view, in [0, 1].
            number: index of the frame, from 0.
            nearest: index of the nearest input view.
        """
        canvas = Image.new("RGB", self.canvas, PAPER)
        draw = ImageDraw.Draw(canvas)
        right = 2 * GAP + self.size[0]
        self._caption(draw, (GAP, GAP // 2), f"nearest input: {self.names[nearest]}")
        self._caption(draw, (right, GAP // 2), f"new view {number + 1} of {self.num_frames}")
        canvas.paste(self.views[nearest], (GAP, LINE))
        canvas.paste(self._tile(image), (right, LINE))
        below = LINE + self.size[1]
        self._caption(draw, (GAP, below + GAP // 2), f"{len(self.names)} input views")
        for place, (view, thumb) in enumerate(self.strip.items()):
            left = GAP + place * (self.thumb[0] + GAP)
            canvas.paste(thumb, (left, below + LINE))
            if view == nearest:
                box = (left, below + LINE, left + self.thumb[0] - 1, below + LINE + self.thumb[1] - 1)
                draw.rectangle(box, outline=MARK, width=FRAME)
        return np.asarray(canvas)

    def _caption(self, draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str) -> None:
        """Draw text, cut to the width of a picture."""
        while text and draw.textlength(text, font=self.font) > self.size[0]:
            text = text[:-1]
        draw.text(place, text, fill=INK, font=self.font)

    def _tile(self, image: Float[Tensor, "3 h w"]) -> Image.Image:
        return Image.fromarray(to_bytes(image).numpy()).resize(self.size, Image.Resampling.NEAREST)
