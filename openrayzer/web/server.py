"""Start the web page: arguments, temporary folder, worker, server."""

import argparse
import io
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from openrayzer.web.answers import Refused
from openrayzer.web.limits import MOST_VIDEO_BYTES
from openrayzer.web.page_speed import measure_page
from openrayzer.web.studio_process import StudioProcess

PORT = 7860
INPUT_WRONG, INTERRUPTED = 2, 130
STARTED = time.monotonic()
RUNS = Path("runs")
DESCRIPTION = """Open a web page that turns photos or a video into cameras, a scene to move in, a video, and files.

    openrayzer demo                                   # all runs of the folder runs/
    openrayzer demo --run runs/rayzer_demo weights/rayder
    python -m openrayzer.web --run runs/rayzer_demo

Only programs of this machine can open the page, unless --share or --host is given. Uploaded files and scenes are
deleted when the tab closes, after an hour, and when the server ends.

Exit code: 0 done; 2 wrong input; 130 interrupted.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, by default those of the process, and run the server; returns the exit code."""
    try:
        return run(parser().parse_args(arguments))
    except KeyboardInterrupt:
        return INTERRUPTED


def run(arguments: argparse.Namespace) -> int:
    """Run the server until it is interrupted; returns the exit code."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that temporary files are removed
    try:
        return serve(arguments, chosen_runs(arguments.run))
    except Refused as error:
        print(f"error: {error}", file=sys.stderr)
        return INPUT_WRONG


def serve(options: argparse.Namespace, runs: dict[str, str]) -> int:
    """Start the worker and the page, say where it is, and wait."""
    folder = tempfile.mkdtemp(prefix=f"openrayzer_web_{os.getpid()}_")
    hub = options.hub and not options.share
    worker = StudioProcess(runs, folder=folder, device=options.device, hub=hub)
    try:
        page = opened_page(options, worker, list(runs), folder=folder, hub=hub)
        print(f"openrayzer: {page.local_url}", flush=True)
        worker.studio.check()
        if options.measure and runs:
            served = time.monotonic() - STARTED
            print(measure_page(page.local_url, worker.studio, next(iter(runs)), served=served))
            return 0
        if options.share:
            print(public_address(page.share_url, options.port), flush=True)
        threading.Event().wait()
    finally:
        worker.close()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def opened_page(
    options: argparse.Namespace, worker: StudioProcess, runs: Sequence[str], *, folder: str, hub: bool
) -> Any:
    """The page, served; the models may still be loading.

    Raises:
        Refused: gradio is not installed, or the port is taken.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(Path(folder) / "uploads")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    others = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
    os.environ["no_proxy"] = f"{others},{options.host},localhost".lstrip(",")  # gradio opens the page itself once
    try:
        import gradio  # noqa: F401 - slow to import, and optional
    except ImportError as error:
        raise Refused("the web page needs gradio: pip install 'openrayzer[web]'") from error
    from openrayzer.web.demo_page import build_page, page_style
    from openrayzer.web.routes import scene_routes, upload_limit

    page = build_page(worker, runs, hub=hub)
    try:
        with redirect_stdout(io.StringIO()):  # gradio prints advice on its tunnel; ``public_address`` says more
            page.launch(
                server_name=options.host,
                server_port=options.port,
                share=options.share,
                prevent_thread_lock=True,
                quiet=True,
                inbrowser=options.browser,
                show_error=False,
                max_file_size=MOST_VIDEO_BYTES,
                app_kwargs={"routes": scene_routes(lambda: worker.studio), "middleware": [upload_limit()]},
                **page_style(),
            )
    except OSError as error:
        raise Refused(
            f"the page cannot listen at {options.host}, port {options.port}: another program uses the port, or this "
            f"machine has no such address; choose another one, e.g. --port {options.port + 1}"
        ) from error
    return page


def public_address(address: str | None, port: int) -> str:
    """The line about the public address of ``--share``; None: gradio could not open one."""
    if address:
        return f"openrayzer, for everybody: {address}"
    return (
        "note: --share: gradio's servers cannot be reached, so the page has only the address above; to open it on "
        f"another machine, run there: ssh -L {port}:127.0.0.1:{port} NAME_OF_THIS_MACHINE"
    )


def chosen_runs(given: Sequence[Path] | None) -> dict[str, str]:
    """The runs to offer by name: those given, or all of ``RUNS``.

    Raises:
        Refused: a folder does not exist.
    """
    if given is None:
        given = sorted(file.parent for file in RUNS.glob("*/experiment.json"))
        given = [folder for folder in given if (folder / "checkpoints").is_dir() or any(folder.glob("*.safetensors"))]
    missing = [str(folder) for folder in given if not folder.is_dir()]
    if missing:
        raise Refused(f"--run {' '.join(missing)}: there is no such folder; give run folders or weight folders")
    return named_runs(list(given))


def named_runs(folders: list[Path]) -> dict[str, str]:
    """A short name for each folder: its own name, with more of its path where two folders share a name."""
    named: dict[str, str] = {}
    for folder in map(Path.absolute, folders):
        depth = 1
        while "/".join(folder.parts[-depth:]) in named and depth < len(folder.parts):
            depth += 1
        named["/".join(folder.parts[-depth:])] = str(folder)
    return named


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    parser = argparse.ArgumentParser(
        prog="openrayzer demo",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--run",
        type=Path,
        nargs="+",
        metavar="DIR",
        help=f"run folders or weight folders to choose from (default: all in {RUNS}/)",
    )
    add("--port", type=int, default=PORT, metavar="N", help=f"port of the page (default: {PORT})")
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default: this machine only)")
    add("--share", action="store_true", help="also open a public address, by a tunnel of gradio's servers")
    add("--no_hub", dest="hub", action="store_false", help="visitors cannot name models on the Hugging Face hub")
    add("--browser", action="store_true", help="open the page in a browser")
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    add("--measure", action="store_true", help="measure the start and the latency of a view, print them, and end")
    return parser
