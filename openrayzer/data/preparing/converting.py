"""Conversion of any dataset to chunks, in parallel or in parts on several machines; it continues if interrupted.

The output folder holds the chunks, ``index.json``, ``frame_index.bin`` and ``manifest.json``. An unfinished conversion
also has ``.convert/``, with the plan and one record per finished chunk, and ``.lock``.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from openrayzer.data.chunk_files.format import write_chunk
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
from openrayzer.data.preparing.conversion_plan import (
    ConversionPlan,
    chunk_record,
    finish_conversion,
    read_plan,
    record_name,
    unfinished,
)
from openrayzer.data.preparing.estimate import Estimate, divide, sample_frames
from openrayzer.data.preparing.folders import require_apart, write_json
from openrayzer.data.preparing.parts.division import Part
from openrayzer.data.preparing.parts.locking import Lock, locked
from openrayzer.data.preparing.processes import parallel_results
from openrayzer.data.preparing.recoding import Recoding, recode_scene
from openrayzer.data.preparing.whole_scenes import SceneLength, contents, scene_lengths
from openrayzer.interfaces import Dataset, InputError
from openrayzer.machine.progress import ProgressCounter

_LEAST_CHUNK = 8e6  # bytes
_CHUNKS = 256  # so many chunks at least, if they are not below the least size: work for many processes and machines
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
        where = {"root": str(root.resolve())} if isinstance(root, Path) else {}
        names = hashlib.sha256(json.dumps([dataset.key(scene) for scene in range(len(dataset))]).encode()).hexdigest()
        self.settings = {"source": source | where, "posed": dataset.posed, "scenes": names,
                         "contents": contents(dataset, range(len(dataset))), **asdict(recoding)}  # fmt: skip

    def run(self, say: Callable[[str], object]) -> dict[str, Any]:
        """Convert all scenes that are left; return the manifest.

        Args:
            say: function that receives the estimate, as text, before the conversion starts.

        Raises:
            InputError: another process uses the output, it belongs to another conversion, or the disk is full.
            NoUsableSceneError: the dataset has no usable frame.
        """
        with self._opened(None) as lock:
            manifest = self._finished(say)
            if manifest is None:
                plan = self._convert(None, say, lock.touch)
                manifest = finish_conversion(self.output, plan, processes=self.processes)
            return manifest

    def run_part(self, part: Part, say: Callable[[str], object]) -> list[str]:
        """Convert one part of the chunks; return the problems of its scenes. ``merge_conversion`` completes the parts.

        Args:
            part: the part.
            say: as for ``run``.

        Raises:
            InputError: as for ``run``, or the conversion has another number of parts.
        """
        with self._opened(part) as lock:
            manifest = self._finished(say)
            if manifest is not None:
                return manifest["problems"]
            plan = self._convert(part, say, lock.touch)
            left = len(unfinished(self.output, plan.numbers(None)))
            say(f"{part} of {self.output} is done; {left} of all {len(plan.chunks)} chunks are left")
            records = [chunk_record(self.output, number) for number in plan.numbers(part)]
            return [problem for record in records if record for problem in record["problems"]]

    @contextmanager
    def _opened(self, part: Part | None) -> Iterator[Lock]:
        require_ours(self.output)  # before the lock is written into it
        with locked(self.output, part) as lock:
            require_ours(self.output)
            yield lock

    def _finished(self, say: Callable[[str], object]) -> dict[str, Any] | None:
        """The manifest of a finished conversion; None if chunks are missing or damaged."""
        path = self.output / MANIFEST_NAME
        if not path.exists():
            return None
        manifest = read_object(path)
        self._require_same(manifest.get("settings"), path)
        whole, damaged = manifest_chunks(self.output, manifest)
        if not damaged:
            say(f"{self.output} is complete already")
            clear_work(self.output)
            return manifest
        say(f"{self.output}: these files are missing or changed and are made again: {', '.join(damaged[:_NAMED])}"
            + (f" and {len(damaged) - _NAMED} more" if len(damaged) > _NAMED else ""))  # fmt: skip
        for record in whole:
            write_json(self.output / WORK / record_name(int(Path(record["name"]).stem)), record)
        ConversionPlan(self.settings, manifest["plan"], [], None).publish(self.output)
        return None

    def _convert(self, part: Part | None, say: Callable[[str], object], touch: Callable[[], object]) -> ConversionPlan:
        """Write the chunks of a part, or all chunks, that are not finished."""
        problems = list(self.dataset.problems)
        scenes = scene_lengths(self.dataset, problems)
        bytes_per_frame, seconds = sample_frames(self.dataset, scenes, self.recoding)
        plan = self._begun(scenes, part) or self._new_plan(scenes, bytes_per_frame)
        estimate = self._estimate(plan, part, bytes_per_frame, seconds)
        say(f"{part}: {estimate}" if part else str(estimate))
        if estimate.num_bytes * _SPARE > estimate.free_bytes:
            raise InputError(f"{self.output}: not enough space on its disk: {estimate}")
        there = replace(plan, problems=problems, parts=part.total if part else plan.parts).publish(self.output)
        plan = replace(there, problems=problems, parts=part.total if part else there.parts)
        if plan != there:  # a plan that was begun as a whole, or by an older version
            plan.write(self.output)
        clear_temporary(self.output, plan.numbers(part) if part else None)
        self._write_chunks(plan, scenes, plan.numbers(part), estimate, touch)
        return plan

    def _begun(self, scenes: Sequence[SceneLength], part: Part | None) -> ConversionPlan | None:
        """The plan of an interrupted conversion; None if there is none."""
        plan = read_plan(self.output)
        if plan is None:
            return None
        path = self.output / WORK / PLAN
        self._require_same(plan.settings, path)
        if [scene for chunk in plan.chunks for scene in chunk] != [[scene.key, scene.num_frames] for scene in scenes]:
            raise InputError(
                f"the source has other scenes than when {self.output} was begun; convert into a new folder"
            )
        if part and plan.parts not in (None, part.total):
            raise InputError(
                f"{self.output} is converted in {plan.parts} parts; give --part K/{plan.parts}, or no --part to "
                "convert the rest on this machine"
            )
        return plan

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

    def _new_plan(self, scenes: Sequence[SceneLength], bytes_per_frame: float) -> ConversionPlan:
        """A plan that depends on the source and the format only, so that all machines make the same."""
        num_frames = sum(scene.num_frames for scene in scenes)
        size = min(self.chunk_bytes, max(bytes_per_frame * num_frames / _CHUNKS, _LEAST_CHUNK))
        chunks = divide(scenes, size / bytes_per_frame)
        return ConversionPlan(self.settings, chunks, [], None)

    def _estimate(self, plan: ConversionPlan, part: Part | None, bytes_per_frame: float, seconds: float) -> Estimate:
        chunks = {number: plan.chunks[number] for number in plan.numbers(part)}
        frames = {number: sum(length for _, length in chunk) for number, chunk in chunks.items()}
        num_left = sum(frames[number] for number in unfinished(self.output, chunks))
        num_frames = sum(frames.values())
        return Estimate(
            sum(map(len, chunks.values())), num_frames, num_frames - num_left, bytes_per_frame, seconds,
            max(min(self.processes, len(chunks)), 1), shutil.disk_usage(self.output).free,
        )  # fmt: skip

    def _write_chunks(
        self, plan: ConversionPlan, scenes: Sequence[SceneLength], numbers: range, size: Estimate,
        touch: Callable[[], object],
    ) -> None:  # fmt: skip
        firsts = [0, *accumulate(len(chunk) for chunk in plan.chunks)]
        tasks = [(number, tuple(scenes[firsts[number] : firsts[number + 1]]))
                 for number in unfinished(self.output, numbers)]  # fmt: skip
        work = partial(_convert_chunk, self.dataset, self.recoding, self.output)
        done = parallel_results(work, tasks, processes=self.processes, ordered=False)
        with ProgressCounter(total=size.num_frames - size.num_done, unit="frames", title="convert") as counter:
            for (_, converted), fault in done:
                if fault:
                    raise InputError(fault)
                touch()
                counter.advance(sum(scene.num_frames for scene in converted))


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
        write_json(output / WORK / record_name(number), record)
    except OSError as error:
        return f"{path} cannot be written: {error.strerror or error}; run the same command again to continue"
    except InputError as error:
        return str(error)
    return ""


def _problem(key: str, missing: dict[int, str], count: int) -> str:
    first = min(missing)
    what = "is left out: no frame can be used" if len(missing) == count else f"{len(missing)} frame(s) are missing"
    return f"scene {key!r}: {what}; {missing[first]}"
