"""Dataset ``colmap``: COLMAP's sparse models and their images."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from openrayzer.data.pixels.lens_distortion import Lens, LensError, check_lens
from openrayzer.data.scene_names import relative_key
from openrayzer.data.sources.colmap_model import ColmapCamera, ColmapImage, read_cameras, read_images
from openrayzer.data.sources.image_scenes import (
    ImageScene,
    ImageScenes,
    PosedFrame,
    find_posed,
    is_image,
    posed_scene,
)
from openrayzer.data.sources.lazy_scenes import nothing_found
from openrayzer.data.stated_cameras import camera_to_world, image_sides, pose_of_quaternion
from openrayzer.interfaces import DATASETS
from openrayzer.machine.plain_files import FileError, Listing, inner_name, natural_order

MODEL_FOLDERS = ("sparse", "sparse/0", "colmap/sparse/0", "colmap/sparse", "dense/sparse", ".")
"""Folders of a scene that may hold its model; the first one with a model is used."""

_OURS = {  # COLMAP's model -> model of ``Lens`` with the same coefficients
    "SIMPLE_PINHOLE": "opencv", "PINHOLE": "opencv", "SIMPLE_RADIAL": "opencv", "RADIAL": "opencv",
    "OPENCV": "opencv", "FULL_OPENCV": "opencv", "SIMPLE_RADIAL_FISHEYE": "fisheye", "RADIAL_FISHEYE": "fisheye",
    "OPENCV_FISHEYE": "fisheye", "SIMPLE_FISHEYE": "fisheye", "FISHEYE": "fisheye",
}  # fmt: skip
_ONE_FOCAL = frozenset({"RADIAL", "RADIAL_FISHEYE"})
"""Models with one focal length and a name that does not begin with SIMPLE."""


@DATASETS.register("colmap")
class Colmap(ImageScenes):
    """COLMAP's sparse models, text or binary; lens distortion is removed when a frame is read.

    A scene is a folder with ``images`` and a model in ``sparse/0`` or ``sparse``. Its frames are all its images in
    natural order of their names; images that COLMAP did not register are missing frames. Rare camera models (FOV, thin
    prism) need pycolmap.

    Args:
        root: a scene, or a folder with scenes up to 6 levels below it.
        images: folder of the images of a scene, e.g. images_4 for smaller images.
        model: folder of the model of a scene; None tries the usual folders.
        scenes: text file with the names of the scenes to use, one per line; None for all scenes.
        scan_limit: largest number of scenes that opening checks; checking reads the tables of each model.
        follow_links: whether links may lead out of ``root``.
    """

    posed = True

    def __init__(
        self,
        *,
        root: Path | str,
        images: str = "images",
        model: str | None = None,
        scenes: Path | str | None = None,
        scan_limit: int = 64,
        follow_links: bool = False,
    ) -> None:
        super().__init__(root=root, scenes=scenes, scan_limit=scan_limit, follow_links=follow_links)
        self.images, self.folders = images, MODEL_FOLDERS if model is None else (model,)

    def find(self, problems: list[str]) -> Iterable[tuple[str, Path]]:
        scenes = find_posed(self, _has_model, problems, table="COLMAP model", scene_of=self._scene_of)
        places = [(relative_key(scene, self.root), scene) for scene in scenes]
        if not places:
            what = f"no COLMAP model in {self.root} or the folders below it: looked for cameras.bin or cameras.txt"
            raise nothing_found(what, problems)
        return places

    def _scene_of(self, folder: Path) -> Path:
        """The scene of the folder of a model: the nearest parent with images, within the root."""
        for above in (folder, *folder.parents):
            if (above / self.images).is_dir() and above != folder / self.images:
                return above
            if above == self.root:
                break
        return folder

    def load(self, place: Path) -> ImageScene:
        root = None if self.follow_links else self.root
        folder = next((place / name for name in self.folders if _is_model(place / name)), None)
        if folder is None:
            raise FileError(f"there is no model in {', '.join(self.folders)}")
        cameras = read_cameras(folder, root=root)
        lenses = {number: camera if isinstance(camera, str) else lens_of(camera) for number, camera in cameras.items()}
        there = Listing(place / self.images)
        registered: dict[str, list[ColmapImage]] = {}
        for image in read_images(folder, root=root):
            registered.setdefault(_file(image.name, place), []).append(image)
        below = {name.rpartition("/")[0] for name in registered} | {""}
        files = {f"{up}/{file}".lstrip("/") for up in below if ".." not in up for file in there.files(up or ".")
                 if is_image(file)}  # fmt: skip
        entries = [(name, registered.get(name, [])) for name in sorted(files | registered.keys(), key=natural_order)]
        return posed_scene(place, entries, lambda entry: _frame(*entry, lenses, there, self.images))


def _has_model(files: list[str]) -> bool:
    return bool({"cameras.bin", "cameras.txt"} & set(files)) and bool({"images.bin", "images.txt"} & set(files))


def _is_model(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("cameras.bin", "cameras.txt"))


def _file(name: str, place: Path) -> str:
    try:
        return inner_name(name, place)
    except FileError:
        return name  # ``_frame`` reports the fault of this name


def _frame(
    name: str, registered: list[ColmapImage], lenses: Mapping[int, Lens | str], there: Listing, images: str
) -> PosedFrame:
    file = inner_name(name, there.scene)
    if not registered:
        raise FileError(f"{name} was not registered by COLMAP")
    if len(registered) > 1:
        raise FileError(f"{name} is registered {len(registered)} times")
    if file not in there:
        raise FileError(f"{name} is not in {there.scene}")
    lens = lenses.get(registered[0].camera, f"it has camera {registered[0].camera}, which the model does not have")
    if isinstance(lens, str):
        raise FileError(lens)
    try:
        c2w = camera_to_world(pose_of_quaternion(registered[0].quaternion, registered[0].translation))
    except FileError as error:
        raise FileError(f"{name} has no usable pose: {error}") from error
    return PosedFrame(f"{images}/{file}", c2w, lens)


def lens_of(camera: ColmapCamera) -> Lens | str:
    """The lens of a camera, or a sentence on its fault.

    Raises:
        InputError: the model needs pycolmap, and pycolmap is not installed.
    """
    try:
        size = image_sides(camera.height, camera.width)
        if camera.model == "EQUIRECTANGULAR":
            raise LensError("a panorama is not an image of a pinhole camera")
        parameters = camera.parameters
        focals = 1 if camera.model in _ONE_FOCAL or camera.model.startswith("SIMPLE_") else 2
        (cx, cy), rest = parameters[focals : focals + 2], parameters[focals + 2 :]
        model = _OURS.get(camera.model, camera.model)
        lens = Lens(
            (parameters[0], parameters[focals - 1], cx, cy), size, model, rest if camera.model in _OURS else parameters
        )
        check_lens(lens)
    except (FileError, LensError) as error:
        return f"its camera cannot be used: {error}"
    return lens
