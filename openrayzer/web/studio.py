"""The computations of the page: scenes of visitors, in the process of the worker. This file does not import gradio."""

import logging
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openrayzer.data.pixels.scaled_decoding import decoding_for
from openrayzer.interfaces import BrokenSceneError, InputError, UnposedInputError
from openrayzer.video.named_paths import NAMES
from openrayzer.video.placing import place
from openrayzer.video.run_inputs import check_device
from openrayzer.video.views import InputViews, read_views
from openrayzer.web.answers import Picture, Refused, Step
from openrayzer.web.examples import example_photos
from openrayzer.web.kept_scene import COLOUR, KeptScene
from openrayzer.web.limits import EXAMPLES, LEAST_VIEWS, MOST_VIEWS
from openrayzer.web.loaded_models import LoadedModel, ModelShelf
from openrayzer.web.scene_files import file_table, video_frames, video_reason, write_file
from openrayzer.web.uploads import Upload, take_upload
from registry import RegistryError

MOST_SCENES = 8
"""Number of scenes that stay in memory; the one that was unused for the longest time goes first."""
_PATH = re.compile(r"(?<![\w:/])/(?:[^\s/:;,'\"()]+/)*([^\s/:;,'\"()]+)")
_ADVICE = re.compile(r"; use --num_views for more|; use the --num_views [^;.]*")
_SIZES = re.compile(r"images have \d+ different sizes \([^)]*\)")

logger = logging.getLogger(__name__)


class Studio:
    """Loads models, makes scenes, and renders them. Several threads may call it; jobs run one after the other.

    Args:
        runs: name for the visitor -> run folder or weight folder.
        folder: folder for all files of visitors.
        device: where models compute.
        hub: whether visitors may name a model on the Hugging Face hub.
    """

    def __init__(self, runs: Mapping[str, str], *, folder: str, device: str, hub: bool) -> None:
        self.device = device
        self.models = ModelShelf(runs, device=device, hub=hub)
        self.folder = Path(folder)
        self.scenes: dict[str, KeptScene] = {}
        self.owners: dict[str, str] = {}
        self._job = threading.Lock()
        self._visitor = ""  # of the scene in work; empty once its tab is closed

    def check(self) -> None:
        """Raise ``Refused`` if the device does not exist."""
        with plain_words():
            check_device(self.device)

    def processor_seconds(self) -> float:
        """Processor time that this process has used."""
        return time.process_time()

    def describe(self, model: str) -> dict[str, Any]:
        """Load a model and return its facts for the page, see ``LoadedModel.facts``."""
        with plain_words(), self._job:
            return self.models.load(model).facts()

    def reconstruct(
        self, session: str, model: str, *, files: Sequence[str] = (), example: str | None = None, num_views: int | None
    ) -> Iterator[Step]:
        """Make a scene of photos, a video or an example. The page draws the result of the last step.

        Args:
            session: the visitor; a new scene replaces the visitor's old one.
            model: name of the model.
            files: paths of the uploaded files.
            example: name of an example, in place of files.
            num_views: number of views that the model sees, evenly chosen; None: as many as in training.
        """
        with plain_words(), self._job:
            self._visitor = session
            yield Step("Loading the model", 0.0)
            loaded = self.models.load(model)
            if loaded.refusal:
                raise Refused(loaded.refusal)
            yield Step("Reading the photos" if example is None else "Rendering the example", 0.15)
            token = secrets.token_urlsafe(16)
            folder = self.folder / "scenes" / token
            try:
                upload = self._upload(files, example, folder / "upload")
                views = read_photos(upload, loaded, num_views)
                count = len(views.names)
                yield Step(f"Finding the cameras of {count} views and building the scene", 0.35)
                start = time.perf_counter()
                placed = place(loaded.model, views.images, scene_scale=loaded.scene_scale)
                seconds = time.perf_counter() - start
                yield Step("Drawing the cameras", 0.9)
                notes = tuple(_plain(note, self.folder) for note in (*upload.problems, *views.notes))
                scene = KeptScene(loaded, views, placed, folder, notes, seconds)
                result = self._result(token, scene)
                if self._visitor != session:
                    raise Refused("The page was closed.")
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            shutil.rmtree(folder / "upload", ignore_errors=True)
            self._drop_all(session)
            self._keep(token, session, scene)
            yield Step(f"Done in {seconds:.1f} seconds", 1.0, result)

    def view(
        self, token: str, path: str, step: int, *, turn: float = 0.0, lift: float = 0.0, shown: str = COLOUR
    ) -> Picture:
        """A view of a scene; see ``KeptScene.camera`` and ``KeptScene.picture``."""
        with plain_words():
            scene = self._scene(token)
            return scene.picture(scene.camera(path, step, turn=turn, lift=lift), shown)

    def photo(self, token: str, number: int) -> Picture:
        """A photo of a scene, as the model saw it."""
        with plain_words():
            return self._scene(token).photo(number)

    def film(self, token: str, path: str, shown: str = COLOUR) -> Iterator[Step]:
        """Make the video of a path. The result of the last step names its file, see ``file``."""
        with plain_words(), self._job:
            scene = self._scene(token)
            reason = video_reason(scene)
            if reason:
                raise Refused(f"No video can be made: {reason}.")
            if path not in NAMES or shown not in (COLOUR, *scene.maps):
                raise Refused("There is no such camera path or map.")
            name = f"{path}_{shown}.mp4"
            if not (scene.folder / name).is_file():
                for share in video_frames(scene, scene.paths[path], scene.folder / name, shown=shown):
                    yield Step("Rendering the video", share)
            yield Step("The video is ready", 1.0, {"token": token, "file": name})

    def file(self, token: str, name: str) -> str:
        """Path of a file of a scene: a video that ``film`` made, or one of ``FILES``, written on demand."""
        with plain_words():
            scene = self._scene(token)
            video = scene.folder / name
            if name in {f"{path}_{shown}.mp4" for path in NAMES for shown in (COLOUR, *scene.maps)}:
                if not video.is_file():
                    raise Refused("Make the video first.")
                return str(video)
            with self._job:
                return str(write_file(scene, name))

    def forget(self, session: str) -> None:
        """Delete the scenes and files of a visitor, also the scene in work."""
        if self._visitor == session:
            self._visitor = ""
        self._drop_all(session)

    def _drop_all(self, session: str) -> None:
        for token in [token for token, owner in self.owners.items() if owner == session]:
            self._drop(token)

    def _upload(self, files: Sequence[str], example: str | None, folder: Path) -> Upload:
        if example is None:
            return take_upload([Path(file) for file in files], folder)
        if example not in EXAMPLES:
            raise Refused("There is no such example.")
        folder.mkdir(parents=True)
        return Upload(example_photos(example, self.folder / "examples"))

    def _result(self, token: str, scene: KeptScene) -> dict[str, Any]:
        return scene.drawing() | {
            "token": token,
            "model": scene.loaded.name,
            "notes": list(scene.notes),
            "seconds": scene.seconds,
            "files": file_table(scene),
            "video": video_reason(scene),
        }

    def _keep(self, token: str, session: str, scene: KeptScene) -> None:
        scene.used = time.monotonic()
        self.scenes[token], self.owners[token] = scene, session
        while len(self.scenes) > MOST_SCENES:
            self._drop(min(self.scenes, key=lambda key: self.scenes[key].used))

    def _drop(self, token: str) -> None:
        scene = self.scenes.pop(token)
        del self.owners[token]
        shutil.rmtree(scene.folder, ignore_errors=True)

    def _scene(self, token: str) -> KeptScene:
        if token not in self.scenes:
            raise Refused("This scene is no longer there. Press Run again.")
        self.scenes[token].used = time.monotonic()
        return self.scenes[token]


def read_photos(upload: Upload, loaded: LoadedModel, num_views: int | None) -> InputViews:
    """The views that the model sees: evenly chosen photos or frames, resized and cropped.

    Raises:
        Refused: fewer than ``LEAST_VIEWS`` can be read.
    """
    most = min(max(num_views or loaded.num_views, LEAST_VIEWS), MOST_VIEWS)
    with decoding_for(loaded.image_size):
        views = read_views(upload.source, image_size=loaded.image_size, num_views=None, most=most)
    if len(views.names) < LEAST_VIEWS:
        what = "The video has a single frame" if upload.source.is_file() else "A single photo can be read"
        raise Refused(f"{what}; a scene needs at least {LEAST_VIEWS} views. {' '.join(views.notes)}".strip())
    return views


@contextmanager
def plain_words() -> Iterator[None]:
    """Turn every error into a ``Refused`` for the visitor; errors that are bugs go to the log, with their traceback."""
    try:
        yield
    except Refused as error:
        raise Refused(_plain(str(error), None)) from error
    except (InputError, UnposedInputError, BrokenSceneError, RegistryError) as error:
        raise Refused(_plain(str(error), None)) from error
    except Exception as error:
        logger.exception("a request of the page failed")
        raise Refused(
            "Something went wrong in the program, not in your photos. The log of the server has the details."
        ) from error


def _plain(message: str, folder: Path | None) -> str:
    """A message without paths of the server and without options of the command line."""
    if folder is not None:
        message = message.replace(f"{folder}/", "")
    message = _ADVICE.sub("; choose more views to use more", message, count=1)
    message = _SIZES.sub("photos have different sizes", message)  # their sizes may be those of reduced copies
    return _PATH.sub(r"\1", message)
