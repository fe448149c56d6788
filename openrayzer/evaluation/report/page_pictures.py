"""Pictures inside the page, as far as they fit; the others are read from beside it."""

import base64
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

MEDIA_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}


@dataclass
class Album:
    """Gives pictures of a folder as what an ``img`` can show, until ``room`` is used up.

    Attributes:
        folder: nothing outside of it is read.
        room: bytes of pictures that may still be embedded.
        embedded: number of pictures embedded.
        linked: number of pictures that found no room and are referred to by their path in the folder.
        linked_bytes: size of those.
        missing: pictures that cannot be read, or are none of ours.
    """

    folder: Path
    room: int
    embedded: int = 0
    linked: int = 0
    linked_bytes: int = 0
    missing: list[str] = field(default_factory=list)

    def source(self, path: str) -> str | None:
        """Data URI, or relative address, of the picture at ``path``; None where there is none."""
        file = self.folder / path
        media_type = MEDIA_TYPES.get(file.suffix.lower())
        inside = file.resolve().is_relative_to(self.folder.resolve())
        if media_type is None or not inside or not file.is_file():
            self.missing.append(path)
            return None
        size = file.stat().st_size
        if size > self.room:
            self.room = 0  # whole scenes rather than gaps: once one did not fit, none does
            self.linked, self.linked_bytes = self.linked + 1, self.linked_bytes + size
            return quote(path)
        self.room, self.embedded = self.room - size, self.embedded + 1
        return f"data:{media_type};base64,{base64.b64encode(file.read_bytes()).decode('ascii')}"
