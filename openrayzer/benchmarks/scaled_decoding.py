"""Time and image quality of ``data.scaled_decoding``: JPEG frames of several sizes, cropped to 256 x 256.

    python -m openrayzer.benchmarks.scaled_decoding

Full and reduced decoding take turns on the same synthetic frames in one process. Times are processor times, medians
over the rounds. With ``--images DIR`` the frames are the JPEG files of that folder, grouped by size.
"""

import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from openrayzer.benchmarks.sample_scenes import sample_images
from openrayzer.cli import run_tool
from openrayzer.data.pixels.decoding import decode_image, image_size
from openrayzer.data.pixels.resizing import fit_into
from openrayzer.data.pixels.scaled_decoding import reduction
from openrayzer.interfaces import InputError

STORED = ((2160, 3840), (1080, 1920), (540, 960), (360, 640), (512, 512))
"""Heights and widths of the synthetic frames in pixels."""


@dataclass(frozen=True)
class DecodingSpeed:
    """Full and reduced decoding of frames of one size.

    Attributes:
        factor: factor by which reduced decoding shrinks height and width.
        whole: processor time for a fully decoded frame in milliseconds.
        reduced: processor time for a reduced frame in milliseconds.
        psnr: PSNR of the reduced against the full decoding for each frame, after cropping, in dB; infinite if equal.
    """

    factor: int
    whole: float
    reduced: float
    psnr: tuple[float, ...]


def main() -> int:
    """Measure, print a line per size of frames."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--size", type=int, default=256, help="side of the cropped frames in pixels (default: 256)")
    parser.add_argument("--frames", type=int, default=8, help="synthetic frames of each size (default: 8)")
    parser.add_argument("--rounds", type=int, default=9, help="number of rounds; the median counts (default: 9)")
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="measure the JPEG files in DIR and its folders instead"
    )
    arguments = parser.parse_args()
    if min(arguments.size, arguments.frames, arguments.rounds) < 1:
        raise InputError("--size, --frames and --rounds must be 1 or more")
    cv2.setNumThreads(0)
    size = arguments.size, arguments.size
    for (height, width), images in _groups(arguments.images, arguments.frames).items():
        found = compare(images, size=size, rounds=arguments.rounds)
        print(
            f"{width} x {height} to {size[1]} x {size[0]}, {len(images)} frames: 1/{found.factor}, "
            f"{found.whole:.2f} ms whole, {found.reduced:.2f} reduced, "
            f"PSNR {median(found.psnr):.1f} dB, worst {min(found.psnr):.1f}"
        )
    return 0


def compare(images: Sequence[bytes], *, size: tuple[int, int], rounds: int) -> DecodingSpeed:
    """Decode and crop frames at full and at reduced size, alternately.

    Args:
        images: JPEG files of one size.
        size: height and width of the cropped frames in pixels.
        rounds: number of rounds; the median counts.
    """
    results = np.empty((2, len(images), *size, 3), np.uint8)
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for way, covering in enumerate((None, size)):
            begin = time.process_time()
            for data, result in zip(images, results[way], strict=True):
                fit_into(decode_image(data, covering=covering), result)
            seconds[way].append(time.process_time() - begin)
    whole, reduced = (1000 * median(one) / len(images) for one in seconds)
    psnr = tuple(_psnr(*pair) for pair in zip(*results, strict=True))
    return DecodingSpeed(reduction(image_size(images[0]), size), whole, reduced, psnr)


def _psnr(image: np.ndarray, other: np.ndarray) -> float:
    error = float(np.square(image.astype(float) - other).mean())
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def _groups(folder: Path | None, frames: int) -> Mapping[tuple[int, int], Sequence[bytes]]:
    """JPEG files by height and width."""
    if folder is None:
        return {stored: sample_images(frames, size=stored) for stored in STORED}
    groups = defaultdict[tuple[int, int], list[bytes]](list)
    for path in sorted([*folder.rglob("*.jpg"), *folder.rglob("*.jpeg")]):
        data = path.read_bytes()
        groups[image_size(data)].append(data)
    if not groups:
        raise InputError(f"--images {folder}: no file there ends in .jpg or .jpeg")
    return groups


if __name__ == "__main__":
    run_tool(main)
