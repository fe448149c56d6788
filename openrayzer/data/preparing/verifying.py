"""Verification of a dataset: every frame and every depth map is decoded, and every camera checked."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from openrayzer.data.chunk_files.scan import NoUsableSceneError
from openrayzer.data.preparing.parts.division import Part
from openrayzer.data.preparing.processes import parallel_results
from openrayzer.data.preparing.whole_scenes import SceneLength, read_all, scene_lengths
from openrayzer.interfaces import BrokenSceneError, Dataset
from openrayzer.machine.progress import ProgressCounter

ROTATION_TOLERANCE = 1e-3
"""Largest deviation of R R^T from the identity; float32 stays below 1e-6, six printed digits below 1e-5."""

FOCAL_RANGE = (0.1, 20.0)
"""Plausible focal lengths relative to the side of the image; fields of view from 3 to 157 degrees."""

CENTRE_RANGE = (0.2, 0.8)
"""Plausible positions of the principal point relative to the side of the image."""

SQUARE_TOLERANCE = 0.1
"""Largest deviation of the pixel aspect ratio from 1; intrinsics of another image size deviate more."""

_BLOCK = 64  # frames per task


@dataclass(frozen=True)
class SceneReport:
    """Report on one scene.

    Attributes:
        key: the scene's name.
        num_frames: its length.
        sizes: image size as "width x height" -> number of frames.
        broken: number of each unusable frame -> its fault.
        cameras: number of each frame with a wrong or implausible camera -> its fault.
        depths: number of each frame with an unusable depth map -> its fault.
        remarks: unusual but usable properties.
    """

    key: str
    num_frames: int
    sizes: dict[str, int] = field(default_factory=dict)
    broken: dict[int, str] = field(default_factory=dict)
    cameras: dict[int, str] = field(default_factory=dict)
    depths: dict[int, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def problems(self) -> list[str]:
        """Up to one sentence each on broken frames, wrong cameras and unusable depth maps."""
        said = []
        faulty = {
            "frame(s) cannot be used": self.broken,
            "camera(s) look wrong": self.cameras,
            "depth map(s) cannot be used": self.depths,
        }
        for name, faults in faulty.items():
            if faults:
                first = min(faults)
                said.append(f"scene {self.key!r}: {len(faults)} of {self.num_frames} {name}; {faults[first]}")
        return said


@dataclass(frozen=True)
class SourceReport:
    """Report on a dataset: its scenes, and problems that do not belong to one of them."""

    scenes: Sequence[SceneReport]
    source_problems: Sequence[str]

    @property
    def problems(self) -> list[str]:
        """All problems, one sentence each."""
        return [*self.source_problems, *(problem for scene in self.scenes for problem in scene.problems)]

    @property
    def num_frames(self) -> int:
        """Number of all frames."""
        return sum(scene.num_frames for scene in self.scenes)

    @property
    def num_usable(self) -> int:
        """Number of usable frames."""
        return self.num_frames - sum(len(scene.broken) for scene in self.scenes)

    def as_json(self) -> dict[str, Any]:
        """The report as plain values."""
        scenes = [asdict(scene) | {"problems": scene.problems} for scene in self.scenes]
        return {
            "num_scenes": len(self.scenes),
            "num_frames": self.num_frames,
            "num_usable_frames": self.num_usable,
            "num_problems": len(self.problems),
            "problems": list(self.source_problems),
            "scenes": scenes,
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "SourceReport":
        """The report from the values of ``as_json``, possibly read from a JSON file."""
        return SourceReport([_scene_from_json(scene) for scene in values["scenes"]], list(values["problems"]))


def joined_reports(reports: Iterable[SourceReport]) -> SourceReport:
    """The report on a whole dataset from reports on its parts, in order.

    Raises:
        NoUsableSceneError: no scene is usable.
    """
    reports = list(reports)
    problems = [problem for report in reports for problem in report.source_problems]
    scenes = [scene for report in reports for scene in report.scenes]
    if not scenes:
        raise NoUsableSceneError(f"no usable scene: {'; '.join(problems[:3])}")
    return SourceReport(scenes, problems)


def verify(dataset: Dataset, *, processes: int, part: Part | None = None) -> SourceReport:
    """Verify every frame of an opened dataset.

    Args:
        dataset: the dataset.
        processes: largest number of processes.
        part: verify only the scenes of this part; ``joined_reports`` joins the reports of all parts.

    Raises:
        NoUsableSceneError: no scene of the whole dataset is usable.
    """
    problems = list(dataset.problems) if part is None or part.number == 1 else []
    scenes = scene_lengths(dataset, problems, part.numbers(len(dataset)) if part else None)
    blocks = [
        (scene, first, min(first + _BLOCK, scene.num_frames))
        for scene in scenes
        for first in range(0, scene.num_frames, _BLOCK)
    ]
    reports = {scene.key: SceneReport(scene.key, scene.num_frames) for scene in scenes}
    looked = parallel_results(partial(_look_at, dataset), blocks, processes=processes)
    num_frames = sum(scene.num_frames for scene in scenes)
    with ProgressCounter(total=num_frames, unit="frames", title="verify") as counter:
        for (scene, first, last), of_block in looked:
            reports[scene.key] = _joined(reports[scene.key], of_block)
            counter.advance(last - first)
    return SourceReport([_with_remarks(report) for report in reports.values()], problems)


def camera_fault(c2w: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int]) -> str:
    """The fault of a wrong or implausible camera; empty for a good one.

    Args:
        c2w: (4, 4) camera to world.
        intrinsics: (4,) fx, fy, cx, cy divided by width, height, width, height.
        size: height and width of the image in pixels.
    """
    if not (np.isfinite(c2w).all() and np.isfinite(intrinsics).all()):
        return "it has numbers that are not finite"
    rotation = c2w[:3, :3].astype(np.float64)
    skew = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if skew > ROTATION_TOLERANCE:
        return f"its rotation is off by {skew:.2g}, more than {ROTATION_TOLERANCE}"
    if np.linalg.det(rotation) < 0:
        return "its rotation is a mirror image"
    if not np.allclose(c2w[3], [0, 0, 0, 1], atol=1e-6):
        return "its last row is not 0, 0, 0, 1"
    fx, fy, cx, cy = intrinsics.tolist()
    if not (FOCAL_RANGE[0] <= fx <= FOCAL_RANGE[1] and FOCAL_RANGE[0] <= fy <= FOCAL_RANGE[1]):
        return f"its focal lengths, {fx:.3g} widths and {fy:.3g} heights, are implausible"
    if not (CENTRE_RANGE[0] <= cx <= CENTRE_RANGE[1] and CENTRE_RANGE[0] <= cy <= CENTRE_RANGE[1]):
        return f"its principal point, at {cx:.3g} of the width and {cy:.3g} of the height, is implausible"
    aspect = fx * size[1] / (fy * size[0])
    if abs(aspect - 1) > SQUARE_TOLERANCE:
        return f"its pixels are not square, {aspect:.3g} to 1: do the intrinsics belong to another image size?"
    return ""


def _look_at(dataset: Dataset, block: tuple[SceneLength, int, int]) -> SceneReport:
    scene, first, last = block
    sizes = Counter[str]()
    broken, cameras, depths, places = dict[int, str](), dict[int, str](), dict[int, str](), list[np.ndarray]()
    for read in read_all(dataset, scene.scene, first, last):
        if read.image is None:
            broken[read.frame] = read.fault
            continue
        height, width = read.image.shape[:2]
        sizes[f"{width} x {height}"] += 1
        if fault := _depth_fault(dataset, scene.scene, read.frame, (height, width)):
            depths[read.frame] = f"frame {read.frame}: {fault}"
        if read.c2w is not None and read.intrinsics is not None:
            if fault := camera_fault(read.c2w, read.intrinsics, (height, width)):
                cameras[read.frame] = f"frame {read.frame}: {fault}"
            places.append(read.c2w[:3, 3])
    still = len(places) > 1 and not np.ptp(np.stack(places), axis=0).any()
    remarks = (f"the camera does not move in frames {first} to {last - 1}",) if still else ()
    return SceneReport(scene.key, scene.num_frames, dict(sizes), broken, cameras, depths, remarks)


def _depth_fault(dataset: Dataset, scene: int, frame: int, size: tuple[int, int]) -> str:
    """The fault of a depth map; empty for a good one, or without depth."""
    try:
        depths = dataset.depths(scene, [frame])
    except BrokenSceneError as error:
        return str(error)
    if depths is None or depths[0].shape == size:
        return ""
    height, width = depths[0].shape
    return f"its depth map has {width} x {height} pixels, its image {size[1]} x {size[0]}"


def _scene_from_json(values: Mapping[str, Any]) -> SceneReport:
    faults = {
        name: {int(frame): fault for frame, fault in values[name].items()} for name in ("broken", "cameras", "depths")
    }
    return SceneReport(values["key"], values["num_frames"], values["sizes"], remarks=tuple(values["remarks"]), **faults)


def _joined(report: SceneReport, part: SceneReport) -> SceneReport:
    return replace(
        report,
        sizes=dict(Counter(report.sizes) + Counter(part.sizes)),
        broken=report.broken | part.broken,
        cameras=report.cameras | part.cameras,
        depths=report.depths | part.depths,
        remarks=(*report.remarks, *part.remarks),
    )


def _with_remarks(report: SceneReport) -> SceneReport:
    if len(report.sizes) < 2:
        return report
    sizes = ", ".join(f"{count} of {size}" for size, count in report.sizes.items())
    return replace(report, remarks=(*report.remarks, f"its frames differ in size: {sizes}"))
