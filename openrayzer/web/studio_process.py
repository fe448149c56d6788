"""The process of the worker. It imports torch while the page's own process imports gradio."""

import multiprocessing
import os
import threading
from collections.abc import Mapping
from multiprocessing.managers import BaseManager, BaseProxy
from typing import Any

from openrayzer.web.answers import Step


class StepsProxy(BaseProxy):
    """The steps of a job in the worker. ``close`` ends the job, between two steps."""

    _exposed_ = ("__next__", "close")

    def __iter__(self) -> "StepsProxy":
        return self

    def __next__(self) -> Step:
        return self._callmethod("__next__")  # type: ignore[func-returns-value, return-value]

    def close(self) -> None:
        """End the job."""
        self._callmethod("close")


class StudioManager(BaseManager):
    """Starts the process and calls the ``Studio`` in it. Each thread of the page has a connection of its own."""


class StudioProcess:
    """The worker, from the page's side. The process ends when ``close`` is called or the page's process ends.

    Args:
        runs: see ``Studio``.
        folder: see ``Studio``.
        device: see ``Studio``; None: a GPU if there is one.
        hub: see ``Studio``.
    """

    def __init__(self, runs: Mapping[str, str], *, folder: str, device: str | None, hub: bool) -> None:
        self._arguments = (dict(runs), folder, device, hub)
        self._closed = False
        self.restart()

    def restart(self) -> None:
        """Start the process, also in place of one that crashed. Its scenes are gone then. After ``close``, do nothing.

        A job that runs while the server ends loses its worker, too, and nothing would end a new one.
        """
        if self._closed:
            return
        self._manager = StudioManager(ctx=multiprocessing.get_context("spawn"))
        self._studio: Any = None
        self._failure: BaseException | None = None
        self._ready = threading.Thread(target=self._start, daemon=True)
        self._ready.start()

    def _start(self) -> None:
        try:
            self._manager.start(_end_with_page)
            self._studio = self._manager.make_studio(*self._arguments)  # type: ignore[attr-defined]
        except BaseException as error:
            self._failure = error

    @property
    def studio(self) -> Any:
        """A proxy of the ``Studio``. The first access waits for the process."""
        self._ready.join()
        if self._failure is not None:
            raise RuntimeError("the worker did not start") from self._failure
        return self._studio

    def close(self) -> None:
        """End the process."""
        self._closed = True
        self._ready.join()
        if self._failure is None:
            self._manager.shutdown()


def make_studio(runs: Mapping[str, str], folder: str, device: str | None, hub: bool) -> Any:
    """The ``Studio`` of this process."""
    from openrayzer.video.run_inputs import default_device  # slow to import, and only in this process
    from openrayzer.web.studio import Studio

    return Studio(runs, folder=folder, device=device or default_device(), hub=hub)


def _end_with_page() -> None:
    """End this process when the page's process is gone, even if that was killed."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


_JOBS = ("reconstruct", "film")
StudioManager.register("steps", proxytype=StepsProxy, create_method=False)
StudioManager.register(
    "make_studio",
    callable=make_studio,
    exposed=("check", "processor_seconds", "describe", "view", "photo", "file", "forget", *_JOBS),
    method_to_typeid=dict.fromkeys(_JOBS, "steps"),
)
