"""Baseline ``colmap``: the cameras of COLMAP, by the package pycolmap."""

import math
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from openrayzer.data.pixels.resizing import to_bytes
from openrayzer.evaluation.baselines.baseline import Baseline, BaselineResult
from openrayzer.evaluation.metrics.camera_metrics import pose_metrics
from openrayzer.evaluation.scenes.measuring import row_of
from openrayzer.geometry.intrinsics import from_pixels
from openrayzer.interfaces import InputError
from openrayzer.types import Cameras, Views

_SEED = 0
_QUIET = 3
"""Log level at which COLMAP prints only the message of a crash."""


class ColmapCameras(Baseline):
    """COLMAP on all views of a clip: SIFT, exhaustive matching, incremental mapping, one pinhole camera per clip.

    It sees the images in the size of the evaluation. The settings are COLMAP's own. If a view stays unregistered, a
    second attempt has lower thresholds for the contrast of features, the number of inliers and the angle of the first
    triangulation, as small images need them. The attempt with more registered views counts.

    ``colmap`` counts a pair with an unregistered view as an error at every threshold. ``colmap_registered`` leaves such
    pairs out, so no other method can be compared with it.

    Raises:
        InputError: pycolmap is not installed.
    """

    name = "colmap"
    description = (
        "COLMAP on all views of a scene in the size of the evaluation. In the row colmap, pairs with an unregistered "
        "view count as errors; the row colmap_registered leaves them out."
    )

    def __init__(self) -> None:
        super().__init__()
        try:
            import pycolmap
        except ModuleNotFoundError as error:
            raise InputError("the baseline 'colmap' needs pycolmap: pip install 'openrayzer[colmap]'") from error
        self.pycolmap: ModuleType = pycolmap

    def measure(self, views: Views) -> list[BaselineResult]:
        return [self._scene(views, row) for row in range(len(views.scenes))]

    def _scene(self, views: Views, row: int) -> BaselineResult:
        started = time.monotonic()
        cameras = self.cameras(views.images[row])
        seconds = time.monotonic() - started
        registered = _registered(cameras)
        share = float(registered.double().mean())
        poses = {} if views.cameras is None else _judged(cameras, registered, row_of(views.cameras, row))
        return BaselineResult(
            poses=poses,
            numbers={"seconds": seconds, "scenes_registered": float(share == 1), "views_registered": share},
        )

    def cameras(self, images: Float[Tensor, "v 3 h w"]) -> Cameras:
        """Cameras of one scene (1, v); those of unregistered views are NaN."""
        level, self.pycolmap.logging.minloglevel = self.pycolmap.logging.minloglevel, _QUIET
        try:
            with TemporaryDirectory() as folder:
                for number, image in enumerate(images):
                    file = Path(folder, "images", f"{number:06}.png")
                    file.parent.mkdir(exist_ok=True)
                    Image.fromarray(to_bytes(image).numpy()).save(file)
                attempts = [self._attempt(Path(folder), images, small=False)]
                if not _registered(attempts[0]).all():
                    attempts.append(self._attempt(Path(folder), images, small=True))
        finally:
            self.pycolmap.logging.minloglevel = level
        return max(attempts, key=lambda cameras: int(_registered(cameras).sum()))  # the first of equally good ones

    def _attempt(self, folder: Path, images: Float[Tensor, "v 3 h w"], *, small: bool) -> Cameras:
        pycolmap = self.pycolmap
        reading, features = pycolmap.ImageReaderOptions(), pycolmap.FeatureExtractionOptions()
        matching, mapping = pycolmap.FeatureMatchingOptions(), pycolmap.IncrementalPipelineOptions()
        reading.camera_model = "SIMPLE_PINHOLE"
        features.num_threads = matching.num_threads = mapping.num_threads = 1  # the same result every time
        mapping.min_model_size, mapping.extract_colors = 2, False
        if small:
            features.sift.peak_threshold = 0.002
            mapping.mapper.init_min_num_inliers, mapping.mapper.abs_pose_min_num_inliers = 30, 15
            mapping.mapper.init_min_tri_angle = 4.0
        database, pictures = folder / f"small_{small}.db", folder / "images"
        pycolmap.set_random_seed(_SEED)
        pycolmap.extract_features(
            database,
            pictures,
            camera_mode=pycolmap.CameraMode.SINGLE,
            reader_options=reading,
            extraction_options=features,
            device=pycolmap.Device.cpu,
        )
        pycolmap.match_exhaustive(database, matching_options=matching, device=pycolmap.Device.cpu)
        models = pycolmap.incremental_mapping(database, pictures, folder, options=mapping)
        return _largest(list(models.values()), images)


def _largest(models: list[Any], images: Float[Tensor, "v 3 h w"]) -> Cameras:
    """The cameras of the reconstruction with most views."""
    count, _, height, width = images.shape
    c2w, intrinsics = torch.full((1, count, 4, 4), math.nan), torch.full((1, count, 4), math.nan)
    for model in sorted(models, key=lambda model: model.num_reg_images())[-1:]:
        for image in model.images.values():
            if not image.has_pose:
                continue
            view, (focal, x, y) = int(Path(image.name).stem), image.camera.params
            c2w[0, view] = torch.eye(4)
            c2w[0, view, :3] = torch.from_numpy(image.cam_from_world().inverse().matrix())
            intrinsics[0, view] = from_pixels(torch.tensor([focal, focal, x, y]), (height, width))
    return Cameras(c2w, intrinsics)


def _judged(cameras: Cameras, registered: Bool[Tensor, " v"], true: Cameras) -> dict[str, dict[str, float]]:
    """Pose metrics over all pairs of views, and over the pairs of registered views."""
    every, seen = pose_metrics(cameras, true), registered.nonzero().T
    if seen.shape[1] < 2:
        return {"colmap": every, "colmap_registered": dict.fromkeys(every, math.nan)}
    return {"colmap": every, "colmap_registered": pose_metrics(cameras.select(seen), true.select(seen))}


def _registered(cameras: Cameras) -> Bool[Tensor, " v"]:
    return cameras.c2w[0].isfinite().flatten(1).all(dim=1)
