"""Scenes that are folders with one table of cameras."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from openrayzer.data.chunk_files.format import Origin
from openrayzer.data.scene_names import relative_key
from openrayzer.data.sources.image_scenes import ImageScenes, find_posed
from openrayzer.data.sources.lazy_scenes import nothing_found


class CaptureFolders(ImageScenes):
    """A dataset whose scenes are the folders with certain files; a subclass loads them.

    Attributes:
        tables: names of the files; a folder with one of these combinations is a scene.
    """

    posed = True
    tables: ClassVar[tuple[frozenset[str], ...]]

    def __init__(
        self,
        *,
        root: Path | str,
        scenes: Path | str | None = None,
        scan_limit: int = 256,
        follow_links: bool = False,
    ) -> None:
        super().__init__(root=root, scenes=scenes, scan_limit=scan_limit, follow_links=follow_links)

    def find(self, problems: list[str]) -> Iterable[tuple[str, Path]]:
        table = " or ".join(" with ".join(sorted(names)) for names in self.tables)
        found = find_posed(self, lambda files: any(names <= set(files) for names in self.tables), problems, table=table)
        if not found:
            raise nothing_found(f"no scenes: looked for {table} in {self.root} and the folders below it", problems)
        return [(relative_key(folder, self.root), folder) for folder in found]

    def origin(self, scene: int) -> Origin:
        """The times of the frames in microseconds; none if they are unknown."""
        return Origin("", self.table(scene).times)

    @property
    def confining(self) -> Path | None:
        """Folder that links must not leave; None for any place."""
        return None if self.follow_links else self.root
