"""A viewer for the web, Spark on three.js in Chromium, shows exported Gaussians as our rasteriser does.

The test needs Chromium and a folder with two packages of npm, whose name is in OPENRAYZER_VIEWER:

    npm install --prefix /tmp/viewer three@0.187.0 @sparkjsdev/spark@2.2.0
    OPENRAYZER_VIEWER=/tmp/viewer pytest -m slow tests/video/test_viewer.py
"""

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from openrayzer.geometry.rotations import pose_from, so3_exp
from openrayzer.interfaces import RASTERISERS, Gaussians
from openrayzer.types import Cameras
from openrayzer.video.splat_files import write_gaussians

PAGE = Path(__file__).with_name("viewer.html")
KINDS = {".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm"}
HEIGHT, WIDTH = 96, 128
SECONDS = 120
"""Longest wait for a picture; software rendering of a small one takes a few seconds."""


def viewer() -> tuple[str, Path]:
    """Chromium and the folder of packages; without them, the test is skipped."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no Chromium")
    modules = Path(os.environ.get("OPENRAYZER_VIEWER", "")) / "node_modules"
    if not (modules / "@sparkjsdev/spark").is_dir():
        pytest.skip("OPENRAYZER_VIEWER names no folder with the packages three and @sparkjsdev/spark of npm")
    return browser, modules


@contextmanager
def served(folder: Path, modules: Path, settings: dict[str, object]) -> Iterator[tuple[str, Queue[tuple[str, bytes]]]]:
    """The address of the page, and a queue that receives a picture or an error."""
    found: Queue[tuple[str, bytes]] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/settings":
                return self.answer(json.dumps(settings).encode(), "application/json")
            if self.path == "/":
                return self.answer(PAGE.read_bytes(), "text/html")
            inside = self.path.removeprefix("/modules/")
            file = folder / self.path[1:] if inside == self.path else modules / inside
            if not file.is_file():
                return self.send_error(404)
            return self.answer(file.read_bytes(), KINDS.get(file.suffix, "application/octet-stream"))

        def do_POST(self) -> None:
            found.put((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.answer(b"", "text/plain")

        def answer(self, content: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", found
        finally:
            server.shutdown()
            thread.join()


def seen_by_viewer(folder: Path, name: str, c2w: Tensor, intrinsics: Tensor) -> np.ndarray:
    """The viewer's picture of the file ``name`` in ``folder``, (h, w, 3) RGB in [0, 1], on black."""
    browser, modules = viewer()
    settings = {
        "file": name, "width": WIDTH, "height": HEIGHT, "c2w": c2w.tolist(), "intrinsics": intrinsics.tolist(),
    }  # fmt: skip
    with served(folder, modules, settings) as (address, found):
        command = [
            browser, "--headless", f"--user-data-dir={folder / 'profile'}", "--no-first-run",
            "--use-angle=swiftshader", "--enable-unsafe-swiftshader",  # WebGL on the CPU
            *(["--no-sandbox"] if os.geteuid() == 0 else []), address,
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            path, content = found.get(timeout=SECONDS)
        finally:
            process.terminate()
            process.wait(timeout=30)
    assert path == "/picture", content.decode()
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).astype(np.float32) / 255


def heap(count: int = 400) -> Gaussians:
    """A heap of long coloured Gaussians in front of a camera at the origin, with colours that depend on the side."""
    generator = torch.Generator().manual_seed(3)
    means = torch.randn(1, count, 3, generator=generator) * torch.tensor([0.7, 0.5, 0.6]) + torch.tensor([0, 0, 3.0])
    return Gaussians(
        means=means,
        scales=0.06 * (0.6 * torch.randn(1, count, 3, generator=generator)).exp(),
        rotations=torch.randn(1, count, 4, generator=generator),
        opacities=torch.sigmoid(1.5 * torch.randn(1, count, generator=generator)),
        harmonics=torch.randn(1, count, 9, 3, generator=generator) * torch.tensor([0.8] + 8 * [0.15])[:, None],
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "degree", "most"),
    [("heap.ply", 2, 0.012), ("heap.splat", 0, 0.004)],  # Spark keeps higher harmonics with few bits
)
def test_a_viewer_for_the_web_shows_our_picture(tmp_path: Path, name: str, degree: int, most: float):
    gaussians = heap()
    write_gaussians(tmp_path / name, gaussians)
    c2w = pose_from(so3_exp(torch.tensor([0.05, -0.2, 0.1])), torch.tensor([0.5, -0.1, 0.2]))
    intrinsics = torch.tensor([0.9, 1.2, 0.43, 0.58])
    theirs = seen_by_viewer(tmp_path, name, c2w, intrinsics)
    ours = drawn(gaussians, degree, c2w, intrinsics)
    assert ours.std() > 0.1
    assert np.abs(theirs - ours).mean() < most
    assert np.abs(theirs - ours).max() < 0.1
    moved = c2w.clone()
    moved[0, 3] += 0.03
    assert np.abs(theirs - drawn(gaussians, degree, moved, intrinsics)).mean() > 2 * most
    if degree:
        assert np.abs(theirs - drawn(gaussians, 0, c2w, intrinsics)).mean() > 2 * most


def drawn(gaussians: Gaussians, degree: int, c2w: Tensor, intrinsics: Tensor) -> np.ndarray:
    """Our picture in the form of ``seen_by_viewer``, with the harmonics up to a degree."""
    some = replace(gaussians, harmonics=gaussians.harmonics[:, :, : (degree + 1) ** 2])
    cameras = Cameras(c2w[None, None], intrinsics[None, None])
    views = RASTERISERS["torch"]().rasterise(some, cameras, (HEIGHT, WIDTH), background=torch.zeros(1, 1, 3))
    return views.images[0, 0].clamp(0, 1).movedim(0, -1).numpy()
