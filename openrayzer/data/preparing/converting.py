"""Conversion of any dataset to chunks, in parallel; an interrupted conversion continues.

The output folder holds the chunks, ``index.json``, ``frame_index.bin`` and ``manifest.json``. An unfinished conversion
also has ``.convert/``, with the plan and one record per finished chunk, and ``.lock``.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from openrayzer.data.chunk_files.format import write_chunk, write_index
from openrayzer.data.chunk_files.scan import NoUsableSceneError
from openrayzer.data.chunk_files.side_index import FRAME_INDEX_NAME
from openrayzer.data.preparing.conversion_folder import (
    MANIFEST_NAME,
    PLAN,
    WORK,
    clear_temporary,
    clear_work,
    manifest_chunks,
    read_object,
    require_ours,
)
from openrayzer.data.preparing.estimate import Estimate, divide, sample_frames
from openrayzer.data.preparing.folders import require_apart, write_json
from openrayzer.data.preparing.indexing import index_chunks
from openrayzer.data.preparing.locking import locked
from openrayzer.data.preparing.processes import parallel_results
from openrayzer.data.preparing.recoding import Recoding, recode_scene
from openrayzer.data.preparing.whole_scenes import SceneLength, scene_lengths
from openrayzer.interfaces import BrokenSceneError, Dataset, InputError
from openrayzer.machine.plain_files import FileError, read_json_object
from openrayzer.machine.progress import ProgressCounter

_LEAST_CHUNK = 8e6  # bytes
_CHUNKS_PER_PROCESS = 4
_NAMED = 5  # files that one message lists
_SPARE = 1.1  # free space that is required, relative to the estimate


class Conversion:
    """A new or interrupted conversion; ``run`` does the work that is left.

    Args:
        dataset: an opened dataset.
        output: folder for the chunks.
        source: the dataset as named in an experiment; an interrupted conversion continues only with the same one.
        recoding: format of the images.
        chunk_bytes: approximate size of a chunk; a scene is never divided.
        processes: largest number of processes.

    Raises:
        InputError: an argument is out of range, or one of the folders of source and output lies in the other.
    """

    def __init__(
        self,
        dataset: Dataset,
        output: Path | str,
        *,
        source: dict[str, Any],
        recoding: Recoding,
        chunk_bytes: float,
        processes: int,
    ) -> None:
        recoding.check()
        if not chunk_bytes > 0:
            raise InputError(f"the size of chunks must be above 0, got {chunk_bytes}")
        output, root = Path(output), getattr(dataset, "root", None)
        if isinstance(root, Path):
            require_apart(output, root)
        self.dataset, self.output, self.recoding = dataset, output, recoding
        self.processes, self.chunk_bytes = processes, chunk_bytes
        where = {"root": os.path.realpath(root)} if isinstance(root, Path) else {}
        names = hashlib.sha256(json.dumps([dataset.key(scene) for scene in range(len(dataset))]).encode()).hexdigest()
        self.settings = {"source": source | where, "posed": dataset.posed, "scenes": names,
                         "contents": _contents(dataset), **asdict(recoding)}  # fmt: skip

    def run(self, say: Any) -> dict[str, Any]:
        """Convert all scenes that are left; return the manifest.

        Args:
            say: function that receives the estimate, as text, before the conversion starts.

        Raises:
            InputError: another process uses the output, it belongs to another conversion, or the disk is full.
            NoUsableSceneError: the dataset has no usable frame.
        """
        require_ours(self.output)
        with locked(self.output) as lock:
            require_ours(self.output)
            finished = self._finished(say)
            if finished is not None:
                say(f"{self.output} is complete already")
                return finished
            problems = list(self.dataset.problems)
            scenes = scene_lengths(self.dataset, problems)
            begun = self._begun(scenes)
            estimate, plan = self._estimate(scenes, begun)
            say(str(estimate))
            if estimate.num_bytes * _SPARE > estimate.free_bytes:
                raise InputError(f"{self.output}: not enough space on its disk: {estimate}")
            self._write(PLAN, {"settings": self.settings, "chunks": plan})
            self._convert(scenes, plan, lock.touch, estimate)
            return self._finish(plan, problems)

    def _finished(self, say: Any) -> dict[str, Any] | None:
        """The manifest of a finished conversion; None if chunks are missing or damaged."""
        path = self.output / MANIFEST_NAME
        if not path.exists():
            return None
        manifest = read_object(path)
        self._require_same(manifest.get("settings"), path)
        whole, damaged = manifest_chunks(self.output, manifest)
        if not damaged:
            clear_work(self.output)
            return manifest
        say(f"{self.output}: these files are missing or changed and are made again: {', '.join(damaged[:_NAMED])}"
            + (f" and {len(damaged) - _NAMED} more" if len(damaged) > _NAMED else ""))  # fmt: skip
        for record in whole:
            self._write(f"{Path(record['name']).stem}.json", record)
        self._write(PLAN, {"settings": self.settings, "chunks": manifest["plan"]})
        return None

    def _begun(self, scenes: Sequence[SceneLength]) -> list[list[list[Any]]]:
        """The plan of an interrupted conversion; empty if there is none."""
        clear_temporary(self.output)
        path = self.output / WORK / PLAN
        if not path.exists():
            return []
        found = read_object(path)
        self._require_same(found.get("settings"), path)
        chunks = found.get("chunks")
        if not isinstance(chunks, list) or not all(isinstance(chunk, list) for chunk in chunks):
            raise InputError(f"{path} is damaged; convert into a new folder")
        planned = [scene for chunk in chunks for scene in chunk]
        if planned != [[scene.key, scene.num_frames] for scene in scenes]:
            raise InputError(
                f"the source has other scenes than when {self.output} was begun; convert into a new folder"
            )
        return chunks

    def _require_same(self, settings: Any, path: Path) -> None:
        if settings == self.settings:
            return
        was = settings if isinstance(settings, dict) else {}
        same = {name for name, value in self.settings.items() if was.get(name) == value}
        if same >= self.settings.keys() - {"scenes", "contents"}:
            what = "files of the source changed since" if "scenes" in same else "the source has other scenes than when"
            raise InputError(f"{what} {path} was written; convert into a new folder")
        changes = [f"{name} was {was.get(name)!r}, is {value!r}" for name, value in self.settings.items()
                   if was.get(name) != value]  # fmt: skip
        raise InputError(f"{path} is of another conversion: {'; '.join(changes)}; convert into a new folder")

    def _estimate(
        self, scenes: Sequence[SceneLength], begun: list[list[list[Any]]]
    ) -> tuple[Estimate, list[list[list[Any]]]]:
        bytes_per_frame, seconds = sample_frames(self.dataset, scenes, self.recoding)
        num_frames = sum(scene.num_frames for scene in scenes)
        size = min(
            self.chunk_bytes, max(bytes_per_frame * num_frames / self.processes / _CHUNKS_PER_PROCESS, _LEAST_CHUNK)
        )
        plan = begun or divide(scenes, size / bytes_per_frame)
        done = sum(length for number, chunk in enumerate(plan) if self._record(number) for _, length in chunk)
        free = shutil.disk_usage(self.output).free
        used = min(self.processes, len(plan))
        return Estimate(len(scenes), num_frames, done, bytes_per_frame, seconds, used, free), plan

    def _record(self, number: int) -> dict[str, Any] | None:
        """The record of a finished chunk; None if it is not finished."""
        path = self.output / WORK / f"{number:06}.json"
        try:
            record = read_json_object(path, root=None)
            whole = record["bytes"] == 0 or (self.output / record["name"]).stat().st_size == record["bytes"]
            counted = isinstance(record["scenes"], dict) and isinstance(record["problems"], list)
            return record if whole and counted else None
        except (FileError, KeyError, OSError, TypeError):
            return None

    def _convert(
        self, scenes: Sequence[SceneLength], plan: Sequence[Sequence[Any]], touch: Any, size: Estimate
    ) -> None:
        tasks, first = [], 0
        for number, chunk in enumerate(plan):
            if self._record(number) is None:
                tasks.append((number, tuple(scenes[first : first + len(chunk)])))
            first += len(chunk)
        work = partial(_convert_chunk, self.dataset, self.recoding, self.output)
        done = parallel_results(work, tasks, processes=self.processes, ordered=False)
        with ProgressCounter(total=size.num_frames - size.num_done, unit="frames", title="convert") as counter:
            for (_, converted), fault in done:
                if fault:
                    raise InputError(fault)
                touch()
                counter.advance(sum(scene.num_frames for scene in converted))

    def _finish(self, plan: Sequence[Any], problems: list[str]) -> dict[str, Any]:
        records = [record for number in range(len(plan)) if (record := self._record(number))]
        if len(records) < len(plan):
            raise InputError(
                f"{self.output}: chunks changed while they were written; run the same command again to continue"
            )
        chunks = [record for record in records if record["bytes"]]
        for record in records:
            problems += record["problems"]
        if not chunks:
            raise NoUsableSceneError(f"no usable scene: {'; '.join(problems[:3])}")
        index = {key: record["name"] for record in chunks for key in record["scenes"]}
        counts = [counted for record in chunks for counted in record["scenes"].values()]
        manifest = {
            "settings": self.settings,
            "num_scenes": len(index),
            "num_frames": sum(counted["num_frames"] for counted in counts),
            "num_missing_frames": sum(len(counted["missing"]) for counted in counts),
            "num_bytes": sum(record["bytes"] for record in chunks),
            "problems": problems,
            "chunks": chunks,
            "plan": plan,
        }
        try:
            write_index(self.output, index)
        except OSError as error:
            raise InputError(f"{self.output} cannot be written to: {error.strerror or error}") from error
        target = self.output / FRAME_INDEX_NAME
        index_chunks(self.output, target, processes=self.processes, posed=self.dataset.posed)
        write_json(self.output / MANIFEST_NAME, manifest)
        clear_work(self.output)
        return manifest

    def _write(self, name: str, content: Any) -> None:
        write_json(self.output / WORK / name, content)


def _convert_chunk(dataset: Dataset, recoding: Recoding, output: Path, task: tuple[int, Sequence[SceneLength]]) -> str:
    """Write one chunk and then its record; return an empty text, or the reason of a failure."""
    number, scenes = task
    path = output / f"{number:06}.torch"
    recoded = [recode_scene(dataset, scene, recoding) for scene in scenes]
    kept = [scene for scene in recoded if scene.usable]
    problems = [_problem(scene.scene.key, scene.missing, len(scene.scene.images)) for scene in recoded if scene.missing]
    record = {"name": path.name, "bytes": 0, "sha256": "", "scenes": {}, "problems": problems}
    try:
        if kept:
            write_chunk(path, [scene.scene for scene in kept])
            with open(path, "rb") as file:
                record["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
            record["bytes"] = path.stat().st_size
            record["scenes"] = {
                scene.scene.key: {"num_frames": len(scene.scene.images), "missing": sorted(scene.missing)}
                for scene in kept
            }
        write_json(output / WORK / f"{number:06}.json", record)
    except OSError as error:
        return f"{path} cannot be written: {error.strerror or error}; run the same command again to continue"
    except InputError as error:
        return str(error)
    return ""


def _contents(dataset: Dataset) -> str:
    """A digest that changes with the files of the dataset, as far as ``Dataset.version`` reports them."""
    found = hashlib.sha256()
    for scene in range(len(dataset)):
        try:
            for frame in range(dataset.num_frames(scene)):
                found.update(repr(_version(dataset, scene, frame)).encode())
        except BrokenSceneError as error:
            found.update(str(error).encode())
    return found.hexdigest()


def _version(dataset: Dataset, scene: int, frame: int) -> tuple[str, str]:
    try:
        return dataset.version(scene, frame)
    except BrokenSceneError:
        return "", ""


def _problem(key: str, missing: dict[int, str], count: int) -> str:
    first = min(missing)
    what = "is left out: no frame can be used" if len(missing) == count else f"{len(missing)} frame(s) are missing"
    return f"scene {key!r}: {what}; {missing[first]}"
