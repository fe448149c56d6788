"""Example photos: frames of synthetic rooms, rendered when somebody asks for them."""

from pathlib import Path
from tempfile import TemporaryDirectory

import cv2

from openrayzer.data.sources.chunks import Chunks
from openrayzer.data.synthetic_rooms.scenes import FilmSettings, write_rooms
from openrayzer.web.limits import EXAMPLES

FRAMES = 10
IMAGE_SIZE = (128, 128)
FOCAL_RANGE = (0.8, 1.3)


def example_photos(name: str, folder: Path) -> Path:
    """The folder with the photos of an example. The first call for ``folder`` renders them.

    Args:
        name: one of ``EXAMPLES``.
        folder: the folder of the examples.
    """
    photos = folder / name
    if photos.is_dir():
        return photos
    seed, motion = EXAMPLES[name]
    film = FilmSettings(
        num_train=0,
        num_test=1,
        num_frames=FRAMES,
        image_size=IMAGE_SIZE,
        motion=1.0,
        seed=seed,
        focal_range=FOCAL_RANGE,
        motions=(motion,),
        exposure=0.0,
    )
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as temporary:
        chunks, unfinished = Path(temporary) / "chunks", Path(temporary) / "photos"
        write_rooms(chunks, film, processes=1)
        room = Chunks(root=chunks, split="test", posed=False)
        room.open()
        unfinished.mkdir()
        for frame, image in enumerate(room.read(0, range(FRAMES)).images):
            path = unfinished / f"frame_{frame:02}.png"
            cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        unfinished.rename(photos)
    return photos
