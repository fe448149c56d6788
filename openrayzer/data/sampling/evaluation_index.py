"""View sampler ``evaluation_index``: published choices of views, in pixelSplat's JSON format."""

from pathlib import Path
from typing import Any

import numpy as np

from openrayzer.interfaces import VIEW_SAMPLERS, InputError, UnusableSceneError, ViewChoice, ViewSampler
from openrayzer.machine.plain_files import FileError, read_json_object

_NAMED = 5  # faults that one message lists


@VIEW_SAMPLERS.register("evaluation_index")
class EvaluationIndex(ViewSampler):
    """Views from a JSON file: scene name -> {"context": [...], "target": [...]}, or null for a scene without a choice.

    Args:
        path: the JSON file. Other keys of an entry are ignored.

    Raises:
        InputError: the file cannot be read or is malformed.
    """

    def __init__(self, *, path: Path | str) -> None:
        self.path = Path(path)
        self.choices = _read_index(self.path)

    def sample(self, key: str, num_frames: int, generator: np.random.Generator, step: int = 0) -> ViewChoice:
        if key not in self.choices:
            raise UnusableSceneError(f"scene {key!r} is not in {self.path}")
        choice = self.choices[key]
        if choice is None:
            raise UnusableSceneError(f"scene {key!r} is null in {self.path}: no valid choice of views")
        beyond = [frame for frame in (*choice.context, *choice.target) if frame >= num_frames]
        if beyond:
            raise UnusableSceneError(
                f"scene {key!r} has {num_frames} frames, {self.path} asks for frame(s) {', '.join(map(str, beyond))}"
            )
        return choice


def _read_index(path: Path) -> dict[str, ViewChoice | None]:
    try:
        entries = read_json_object(path, root=None)
    except FileError as error:
        raise InputError(f"the evaluation index {path} cannot be used: {error}") from error
    choices: dict[str, ViewChoice | None] = {}
    faults = []
    for key, entry in entries.items():
        fault = _entry_fault(entry)
        if fault:
            faults.append(f"scene {key!r}: {fault}")
        elif entry is None:
            choices[key] = None
        else:
            choices[key] = ViewChoice(tuple(entry["context"]), tuple(entry["target"]))
    if faults:
        more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        raise InputError(f"the evaluation index {path} is malformed: {'; '.join(faults[:_NAMED])}{more}")
    return choices


def _entry_fault(entry: Any) -> str:
    if entry is None:
        return ""
    if not isinstance(entry, dict):
        return f"expected null or an object with context and target, got {_kind(entry)}"
    for name in ("context", "target"):
        frames = entry.get(name)
        if not isinstance(frames, list) or not frames:
            return f"{name!r} must be a list of frame numbers, got {_kind(frames)}"
        for frame in frames:
            if type(frame) is not int or frame < 0:
                return f"{name!r} holds {frame!r:.20}; a frame number must be a whole number, 0 or more"
    return ""


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", type(None): "nothing"}
    return "an empty list" if value == [] else names.get(type(value), "a number")
