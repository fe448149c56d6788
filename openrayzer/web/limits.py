"""Limits of the uploads and choices of a visitor. Importing it does not import torch."""

from typing import Literal

LEAST_VIEWS = 2
MOST_VIEWS = 32
"""Least and largest number of views that a model sees."""
MOST_PHOTOS = 64
MOST_PHOTO_BYTES = 64 << 20
MOST_VIDEO_BYTES = 512 << 20
MOST_REQUEST_BYTES = 600 << 20
"""Largest request to the server, with all photos of an upload together."""

EXAMPLES: dict[str, tuple[int, Literal["sideways", "back_and_forth"]]] = {
    "Study": (101, "sideways"),
    "Round table": (111, "back_and_forth"),
    "Bookcase": (105, "sideways"),
}
"""Name of each example, with the seed of its room and the motion of its camera."""
