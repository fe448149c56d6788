"""Pictures embedded in the page up to a number of bytes; the page links to the others."""

import base64
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

MEDIA_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}


@dataclass
class Album:
    """Sources of ``img`` elements for the pictures of a folder.

    Attributes:
        folder: the folder; files outside are not read.
        bytes_left: bytes of pictures that can still be embedded.
        embedded: number of embedded pictures.
        linked: number of pictures that did not fit and have their path in the folder as source.
        linked_bytes: size of the linked pictures.
        missing: paths that cannot be read or are no pictures inside the folder.
    """

    folder: Path
    bytes_left: int
    embedded: int = 0
    linked: int = 0
    linked_bytes: int = 0
    missing: list[str] = field(default_factory=list)

    def source(self, path: str) -> str | None:
        """Data URI or relative address of the picture at ``path``; None if there is no picture."""
        file = self.folder / path
        media_type = MEDIA_TYPES.get(file.suffix.lower())
        inside = file.resolve().is_relative_to(self.folder.resolve())
        if media_type is None or not inside or not file.is_file():
            self.missing.append(path)
            return None
        size = file.stat().st_size
        if size > self.bytes_left:
            self.bytes_left = 0  # no later picture is embedded, so that the pictures of a scene stay together
            self.linked, self.linked_bytes = self.linked + 1, self.linked_bytes + size
            return quote(path)
        self.bytes_left, self.embedded = self.bytes_left - size, self.embedded + 1
        return f"data:{media_type};base64,{base64.b64encode(file.read_bytes()).decode('ascii')}"
