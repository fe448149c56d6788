"""The benchmark of scaled decoding compares full and reduced decoding on the same frames."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from openrayzer.benchmarks.sample_scenes import sample_images
from openrayzer.benchmarks.scaled_decoding import compare

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "openrayzer.benchmarks.scaled_decoding"]


@pytest.mark.parametrize(("stored", "factor"), [((272, 400), 2), ((256, 512), 4), ((144, 256), 1)])
def test_only_reduced_frames_differ(stored, factor):
    found = compare(sample_images(2, size=stored), size=(64, 64), rounds=1)
    assert found.factor == factor
    assert len(found.psnr) == 2
    assert min(found.whole, found.reduced) > 0
    if factor == 1:
        assert found.psnr == (np.inf, np.inf)
    else:
        assert all(25 < psnr < 60 for psnr in found.psnr)


def test_files_of_a_folder_are_grouped_by_size(tmp_path):
    for number, size in enumerate([(64, 64), (128, 64), (64, 64)]):
        (tmp_path / f"{number}.jpg").write_bytes(sample_images(1, size=size)[0])
    cv2.imwrite(str(tmp_path / "other.png"), np.zeros((8, 8, 3), np.uint8))
    command = [*COMMAND, "--size", "32", "--rounds", "1", "--images", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("64 x 64 to 32 x 32, 2 frames: 1/2,")
    assert second.startswith("64 x 128 to 32 x 32, 1 frames: 1/2,")


def test_the_error_names_a_folder_without_jpeg_files(tmp_path):
    command = [*COMMAND, "--images", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"--images {tmp_path}: no file there" in done.stderr
