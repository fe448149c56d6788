"""Dataset ``co3d``: Common Objects in 3D, version 2, as it is downloaded."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from openrayzer.data.scene_names import relative_key
from openrayzer.data.sources.captures.capture_folders import CaptureFolders
from openrayzer.data.sources.captures.co3d_annotations import ANNOTATIONS, FrameAnnotation, annotations_of
from openrayzer.data.sources.image_scenes import ImageScene, PosedFrame, find_posed, posed_scene
from openrayzer.data.sources.lazy_scenes import nothing_found
from openrayzer.data.stated_cameras import times_in_microseconds
from openrayzer.interfaces import DATASETS
from openrayzer.machine.plain_files import FileError, Listing, file_state, list_folder, natural_order


@DATASETS.register("co3d")
class Co3d(CaptureFolders):
    """CO3Dv2: the sequences of each category, with the cameras in frame_annotations.jgz.

    The first use of a category reads its annotations, which takes seconds and up to some gigabytes of memory for the
    large ones. To train on many categories, convert them to chunks. Frames are in natural order of their file names.

    Args:
        root: the folder of the categories, a category, or a folder above them.
        scenes: text file with the names of the scenes to use, ``category/sequence``, one per line; None for all.
        scan_limit: largest number of sequences that opening checks.
        follow_links: whether links may lead out of ``root``.
    """

    tables = (frozenset({ANNOTATIONS}),)

    def find(self, problems: list[str]) -> Iterable[tuple[str, Path]]:
        categories = find_posed(self, lambda files: ANNOTATIONS in files, problems, table=ANNOTATIONS)
        found = [
            (relative_key(category / name, self.root), category / name)
            for category in categories
            for name in list_folder(category)[1]
            if (category / name / "images").is_dir()
        ]
        if not found:
            raise nothing_found(
                f"no sequences: looked for {ANNOTATIONS} in {self.root} and the folders below it, and for "
                "folders with images beside it",
                problems,
            )
        return found

    def load(self, place: Path) -> ImageScene:
        table = place.parent / ANNOTATIONS
        frames = annotations_of(table, file_state(table), self.confining).get(place.name)
        if not frames:
            raise FileError(f"{ANNOTATIONS} has no frames of this sequence")
        ordered = sorted(frames, key=lambda frame: natural_order(frame.path))
        there = Listing(place)
        scene = posed_scene(place, ordered, lambda frame: _frame(frame, there))
        return replace(scene, times=times_in_microseconds([frame.seconds for frame in ordered]))


def _frame(annotation: FrameAnnotation, there: Listing) -> PosedFrame:
    file = annotation.file
    if file not in there:
        raise FileError(f"there is no file {file}")
    return PosedFrame(file, *annotation.camera())
