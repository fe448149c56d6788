"""Read context views from a folder of images, a video or a scene of a data set, with true cameras if given."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.data.pixels.resizing import fit_image, fit_intrinsics
from openrayzer.data.sampling.view_samplers import spread
from openrayzer.data.sources.chunks import Chunks
from openrayzer.data.sources.colmap import MODEL_FOLDERS, Colmap
from openrayzer.data.sources.dl3dv import Dl3dv
from openrayzer.data.sources.image_scenes import ImageScenes
from openrayzer.data.sources.images import Images
from openrayzer.data.sources.lazy_scenes import LazyScenes
from openrayzer.data.sources.nerfstudio.transforms import TABLE as NERFSTUDIO
from openrayzer.data.sources.video import VIDEO_SUFFIXES, Video
from openrayzer.interfaces import BrokenSceneError, Dataset, InputError
from openrayzer.types import Cameras
from openrayzer.video.camera_files import read_cameras

_NAMED = 5  # largest number of scenes or images that a message names


@dataclass(frozen=True)
class InputViews:
    """Context views.

    Attributes:
        images: the views, in [0, 1].
        names: a file name for each view; made up for frames of a video or of a data set.
        frames: indices of the views in the folder, video or scene.
        known: true cameras; None if none are given.
        notes: remarks for the user on the choice and the cropping, one sentence each.
    """

    images: Float[Tensor, "1 v 3 h w"]
    names: tuple[str, ...]
    frames: tuple[int, ...]
    known: Cameras | None = None
    notes: tuple[str, ...] = ()


def read_views(
    source: str | Path,
    *,
    image_size: tuple[int, int],
    num_views: int | None,
    most: int,
    window: tuple[int, int] | None = None,
    cameras: str | Path | None = None,
) -> InputViews:
    """Read views from a folder of images or a video: evenly chosen, including the first and the last.

    Each image is resized to cover ``image_size`` and cropped at its centre; the images may have different sizes.

    Args:
        source: a folder of images or a video file.
        image_size: height and width in pixels.
        num_views: number of views; None takes all images, but at most ``most``.
        most: see ``num_views``.
        window: first and last frame to choose from; None for all.
        cameras: a JSON file of ``export_cameras``, matched by file names; or a transforms.json or a folder with a
            COLMAP model, which then provides the images, without lens distortion.

    Raises:
        InputError: there are too few images, no image can be read, or the cameras do not match the images.
    """
    source, cameras = Path(source), None if cameras is None else Path(cameras)
    described = cameras is not None and _describes_scene(cameras)
    dataset = _described(cameras, source) if cameras is not None and described else _plain(source)
    dataset.open()
    if len(dataset) > 1:
        names = [dataset.key(scene) for scene in range(min(len(dataset), _NAMED))]
        raise InputError(
            f"{source} holds {len(dataset)} scenes ({', '.join(names)}, ...); give the folder of one scene"
        )
    files = _names(dataset)
    usable = [frame for frame in range(len(files)) if frame not in dataset.table(0).frame_faults]
    if described and source.is_dir() and source.absolute() != dataset.root.absolute():
        usable = _listed(source, files, usable)
    chosen = _choose(usable, num_views=num_views, most=most, window=window, source=source)
    views = _read(dataset, 0, files, chosen, image_size)
    notes = [*dataset.problems[:_NAMED], *views.notes]
    if num_views is None and window is None:
        notes += _unused(chosen, usable)
    if cameras is not None and not described:
        views = replace(views, known=_matched(cameras, views, image_size))
    return replace(views, notes=tuple(notes))


def read_scene_views(
    root: str | Path,
    *,
    scene: str | None,
    posed: bool,
    image_size: tuple[int, int],
    num_views: int | None,
    most: int,
    window: tuple[int, int] | None = None,
) -> InputViews:
    """Read views of a held-out scene from a folder of chunks, see ``Chunks``; evenly chosen, as by ``read_views``.

    Args:
        root: folder of the folder ``test``.
        scene: name of the scene; None takes the first.
        posed: whether to read the cameras of the scene.
        image_size: height and width in pixels.
        num_views: number of views; None takes all frames, but at most ``most``.
        most: see ``num_views``.
        window: first and last frame to choose from; None for all.

    Raises:
        InputError: there is no such scene, it has too few frames, or no frame can be read.
    """
    dataset = Chunks(root=root, split="test", posed=posed)
    dataset.open()
    keys = [dataset.key(number) for number in range(len(dataset))]
    if scene is not None and scene not in keys:
        some = ", ".join(keys[:_NAMED])
        raise InputError(f"{root} has no held-out scene {scene!r}; it has {len(keys)}, such as {some}")
    number = 0 if scene is None else keys.index(scene)
    frames = range(dataset.num_frames(number))
    chosen = _choose(frames, num_views=num_views, most=most, window=window, source=f"{root}, scene {keys[number]}")
    views = _read(dataset, number, [_frame_name(frame) for frame in frames], chosen, image_size)
    unused = _unused(chosen, frames) if num_views is None and window is None else []
    return replace(views, notes=(*views.notes, *unused))


def _plain(source: Path) -> LazyScenes:
    if source.is_file() and source.suffix.lower() not in VIDEO_SUFFIXES:
        raise InputError(
            f"{source} is not a video ({', '.join(sorted(VIDEO_SUFFIXES))}); for images, give their folder"
        )
    return Video(root=source) if source.is_file() else Images(root=source)


def _describes_scene(cameras: Path) -> bool:
    """Return True for a transforms.json or a folder, False for a file in our own form."""
    if not cameras.exists():
        raise InputError(f"there is no {cameras}")
    return cameras.is_dir() or cameras.name == NERFSTUDIO


def _described(cameras: Path, source: Path) -> ImageScenes:
    folder = cameras if cameras.is_dir() else cameras.parent
    if (folder / NERFSTUDIO).is_file() and not _has_model(folder):
        return Dl3dv(root=folder)
    if not _has_model(folder):
        raise InputError(f"{folder} has neither {NERFSTUDIO} nor a COLMAP model in {', '.join(MODEL_FOLDERS)}")
    beside = source.is_dir() and source.absolute().parent == folder.absolute()
    return Colmap(root=folder, images=source.name if beside else "images")


def _has_model(folder: Path) -> bool:
    return any((folder / name / f"cameras.{kind}").is_file() for name in MODEL_FOLDERS for kind in ("bin", "txt"))


def _names(dataset: LazyScenes) -> list[str]:
    """Return a unique name for each frame; it includes the folder if images in several folders have the same name."""
    if isinstance(dataset, ImageScenes):
        files = dataset.table(0).files
        names = [PurePosixPath(file).name for file in files]
        return names if len(set(names)) == len(names) else [file.replace("/", "_") for file in files]
    return [_frame_name(frame) for frame in range(dataset.num_frames(0))]


def _frame_name(frame: int) -> str:
    return f"frame_{frame:06}.png"


def _unused(chosen: Sequence[int], usable: Sequence[int]) -> list[str]:
    """Return a note if not all usable images were chosen."""
    if len(usable) == len(chosen):
        return []
    return [f"{len(chosen)} of {len(usable)} images are used; use --num_views for more"]


def _listed(source: Path, files: Sequence[str], usable: Sequence[int]) -> list[int]:
    """Return the frames with an image of the same name in ``source``; suffixes may differ."""
    there = {file.stem for file in source.iterdir() if file.is_file()}
    listed = [frame for frame in usable if Path(files[frame]).stem in there]
    if not listed:
        raise InputError(f"{source} holds no image that has a camera; {len(usable)} images have cameras")
    return listed


def _choose(
    usable: Sequence[int], *, num_views: int | None, most: int, window: tuple[int, int] | None, source: str | Path
) -> list[int]:
    where = str(source)
    if window is not None:
        usable = [frame for frame in usable if window[0] <= frame <= window[1]]
        where += f", frames {window[0]} to {window[1]}"
    if not usable:
        raise InputError(f"{where}: there is no usable image")
    count = min(most, len(usable)) if num_views is None else num_views
    if count < 1:
        raise InputError(f"--num_views must be 1 or more, got {count}")
    if count > len(usable):
        raise InputError(f"{where}: {count} views are requested, but there are only {len(usable)} images")
    return spread(list(usable), count)


def _read(
    dataset: Dataset, scene: int, files: Sequence[str], chosen: Sequence[int], image_size: tuple[int, int]
) -> InputViews:
    images, c2w, intrinsics, kept, notes = [], [], [], [], []
    sizes: dict[tuple[int, ...], str] = {}
    for frame in chosen:
        try:
            stored = dataset.read(scene, [frame])
        except BrokenSceneError as error:
            notes.append(f"left out: {error}")
            continue
        stored_size = stored.images[0].shape[:2]
        sizes.setdefault(stored_size, files[frame])
        images.append(fit_image(stored.images[0], image_size))
        kept.append(frame)
        if stored.c2w is not None and stored.intrinsics is not None:
            c2w.append(stored.c2w[0])
            intrinsics.append(fit_intrinsics(stored.intrinsics[0], stored_size, image_size))
    if not images:
        raise InputError(f"no image can be read; {notes[0]}")
    if len(sizes) > 1:
        some = ", ".join(f"{name} {size[1]} x {size[0]}" for size, name in list(sizes.items())[:_NAMED])
        notes.append(f"images have {len(sizes)} different sizes ({some}): each is resized and cropped at its centre")
    known = None
    if c2w:
        known = Cameras(torch.from_numpy(np.stack(c2w))[None], torch.from_numpy(np.stack(intrinsics))[None])
    names = tuple(files[frame] for frame in kept)
    return InputViews(torch.from_numpy(np.stack(images))[None], names, tuple(kept), known, tuple(notes))


def _matched(file: Path, views: InputViews, image_size: tuple[int, int]) -> Cameras:
    """Read the camera of each view from a file in our own form."""
    table = read_cameras(file)
    check_proportions(file, table.image_size, image_size)
    places = {name: place for place, name in enumerate(table.images) if name is not None}
    absent = [name for name in views.names if name not in places]
    if absent:
        some = ", ".join(absent[:_NAMED])
        raise InputError(
            f"{file} has no camera for {len(absent)} of {len(views.names)} views ({some}); use the --num_views that it "
            "was exported with"
        )
    return table.cameras.select(torch.tensor([[places[name] for name in views.names]]))


def check_proportions(file: Path, stated: tuple[int, int] | None, image_size: tuple[int, int]) -> None:
    """Check that images have the aspect ratio for which a file states intrinsics.

    Raises:
        InputError: the aspect ratios differ by more than 1 %.
    """
    if stated is not None and abs(stated[0] * image_size[1] / (stated[1] * image_size[0]) - 1) > 0.01:
        raise InputError(
            f"{file} has cameras for images of {stated[1]} x {stated[0]} pixels, but --image_size is "
            f"{image_size[1]} x {image_size[0]}, which has another aspect ratio"
        )
