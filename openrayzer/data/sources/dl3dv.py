"""Dataset ``dl3dv``: DL3DV as it is downloaded."""

from pathlib import Path

from openrayzer.data.sources.nerfstudio.transforms import Transforms
from openrayzer.interfaces import DATASETS


@DATASETS.register("dl3dv")
class Dl3dv(Transforms):
    """DL3DV's raw scenes: the dataset ``transforms``, with smaller images preferred.

    Args:
        root: a scene, or a folder with scenes up to 6 levels below it. A scene is a folder with transforms.json.
        reductions: reductions of the images to look for, preferred ones first. For ``images/0001.png`` in
            transforms.json, 4 is ``images_4/0001.png`` and 1 is ``images/0001.png``. The first folder with all images
            is read, or else the folder with most of them.
        scenes: text file with the names of the scenes to use, one per line; None for all scenes.
        scan_limit: largest number of scenes that opening checks; about 5 ms each.
        follow_links: whether links may lead out of ``root``.
    """

    def __init__(
        self,
        *,
        root: Path | str,
        reductions: tuple[int, ...] = (4, 8, 1, 2),
        scenes: Path | str | None = None,
        scan_limit: int = 256,
        follow_links: bool = False,
    ) -> None:
        super().__init__(
            root=root, reductions=reductions, scenes=scenes, scan_limit=scan_limit, follow_links=follow_links
        )
