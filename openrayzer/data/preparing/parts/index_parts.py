"""The side index of a folder of chunks, made in parts."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from openrayzer.data.chunk_files.format import CAMERA_COLUMNS
from openrayzer.data.chunk_files.scan import CheckedChunk, CheckedScene, find_chunks
from openrayzer.data.chunk_files.side_index import FRAME, ChunkState
from openrayzer.data.preparing.indexing import IndexReport, LookedAtChunk, look_at_chunks, write_chunk_index
from openrayzer.data.preparing.parts.division import Part
from openrayzer.data.preparing.parts.part_files import Merging, PartFolder, PartResult
from openrayzer.interfaces import InputError
from openrayzer.machine.remote_paths import RemotePath, located


def index_part(folder: Path, output: Path, part: Part, *, processes: int, posed: bool = True) -> PartResult:
    """Look at one part of the chunks in ``folder`` and write the result beside ``output``.

    Raises:
        InputError: there are no chunks, or the part cannot be written.
    """
    chunks = find_chunks(folder)
    numbers = part.numbers(len(chunks))
    return PartFolder(output).run(
        part, lambda: _packed(list(look_at_chunks(chunks, numbers, processes=processes, posed=posed))),
        command="index",
        settings={"folder": str(folder.resolve()), "chunks": _digest([path.name for path in chunks]),
                  "posed": posed},
        contents=_digest([_state(chunks[number]) for number in numbers]),
    )  # fmt: skip


def merge_index(merging: Merging, output: Path) -> IndexReport:
    """Write the side index from all parts.

    Raises:
        NoUsableSceneError: the folder has no usable scene.
        InputError: the folder has other chunks now, a part is damaged, or the index cannot be written.
    """
    folder = located(merging.settings["folder"])
    chunks = find_chunks(folder)
    if _digest([path.name for path in chunks]) != merging.settings["chunks"]:
        raise InputError(f"{folder} has other chunks than when its parts were indexed; delete {merging.folder}, and "
                         "index all parts again")  # fmt: skip
    looked = (chunk for result in merging.results() for chunk in _unpacked(result))
    return write_chunk_index(folder, output, chunks, looked, posed=merging.settings["posed"])


def _packed(looked: Sequence[LookedAtChunk]) -> PartResult:
    scenes = [scene for chunk in looked for scene in chunk.scenes]
    content = [
        {
            "state": [chunk.state.name, chunk.state.size, chunk.state.modified, chunk.state.fingerprint],
            "fault": chunk.checked.fault,
            "scenes": [[scene.key, scene.num_frames, scene.problem] for scene in chunk.checked.scenes],
            "rows": [len(rows) for rows, _ in chunk.scenes],
        }
        for chunk in looked
    ]
    problems = [problem for chunk in looked for problem in _problems(chunk.checked)]
    rows = np.concatenate([np.zeros(0, FRAME), *(rows for rows, _ in scenes)])
    cameras = np.concatenate([np.zeros((0, CAMERA_COLUMNS), np.float32), *(cameras for _, cameras in scenes)])
    return PartResult({"chunks": content}, problems, {"rows": rows, "cameras": cameras})


def _unpacked(result: PartResult) -> Iterator[LookedAtChunk]:
    rows, cameras, first = result.arrays["rows"], result.arrays["cameras"], 0
    for chunk in result.content["chunks"]:
        scenes = []
        for count in chunk["rows"]:
            scenes.append((rows[first : first + count], cameras[first : first + count]))
            first += count
        checked = CheckedChunk([CheckedScene(*scene) for scene in chunk["scenes"]], chunk["fault"])
        yield LookedAtChunk(ChunkState(*chunk["state"]), checked, scenes)


def _problems(checked: CheckedChunk) -> list[str]:
    return [text for text in (checked.fault, *(scene.problem for scene in checked.scenes)) if text]


def _state(path: Path) -> list[int | str]:
    try:
        if isinstance(path, RemotePath):
            return [path.entry().size, path.entry().state]
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode("utf-8", "backslashreplace")).hexdigest()
