"""The values that pass from the worker to the page. Importing them does not import torch."""

from dataclasses import dataclass
from typing import Any


class Refused(Exception):  # noqa: N818 - a refusal is an answer
    """A request that cannot be fulfilled. The message is for the visitor: plain words, without paths of the server."""


@dataclass(frozen=True)
class Step:
    """The state of a job.

    Attributes:
        text: the present work of the job, for the visitor.
        share: finished share of the job in [0, 1]; None if it is unknown.
        result: the result of a finished job, plain JSON; None before.
    """

    text: str
    share: float | None = None
    result: dict[str, Any] | None = None


@dataclass(frozen=True)
class Picture:
    """An encoded picture of a scene.

    Attributes:
        content: bytes of a JPEG or PNG file.
        media_type: its MIME type.
        milliseconds: time that rendering and encoding took.
        c2w: the first three rows of the camera's pose, row by row.
    """

    content: bytes
    media_type: str
    milliseconds: float
    c2w: tuple[float, ...]
