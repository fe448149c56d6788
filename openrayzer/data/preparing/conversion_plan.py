"""Plan of a conversion, the records of its finished chunks, and the files that complete it."""

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from openrayzer.data.chunk_files.format import write_index
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
from openrayzer.data.preparing.folders import write_json
from openrayzer.data.preparing.indexing import index_chunks
from openrayzer.data.preparing.parts.division import Part, missing_parts
from openrayzer.data.preparing.parts.locking import locked
from openrayzer.interfaces import InputError
from openrayzer.machine.plain_files import FileError, read_json_object
from openrayzer.machine.writing import temporary_name, unwritable


@dataclass(frozen=True)
class ConversionPlan:
    """The chunks of a conversion.

    Attributes:
        settings: the source and the format; another conversion has others.
        chunks: name and length of the scenes of each chunk.
        problems: faults of the source, one sentence each.
        parts: number of parts; None if the conversion was begun as a whole.
    """

    settings: dict[str, Any]
    chunks: list[list[list[Any]]]
    problems: list[str]
    parts: int | None

    def numbers(self, part: Part | None) -> range:
        """The numbers of the chunks of a part, or of all chunks."""
        return part.numbers(len(self.chunks)) if part else range(len(self.chunks))

    def write(self, output: Path) -> None:
        """Write the plan into the folder of the conversion."""
        write_json(output / WORK / PLAN, asdict(self))

    def publish(self, output: Path) -> "ConversionPlan":
        """Write the plan unless there is one; of several machines the first decides. Returns the plan that is there."""
        path = output / WORK / PLAN
        new = temporary_name(path)
        write_json(new, asdict(self))
        try:
            os.link(new, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            os.replace(new, path)
        finally:
            new.unlink(missing_ok=True)
        return read_plan(output) or self


def read_plan(output: Path) -> ConversionPlan | None:
    """The plan of an unfinished conversion; None if there is none.

    Raises:
        InputError: it is damaged.
    """
    path = output / WORK / PLAN
    if not path.exists():
        return None
    found = read_object(path)
    settings, chunks, parts = found.get("settings"), found.get("chunks"), found.get("parts")
    sound = isinstance(settings, dict) and isinstance(parts, int | None)
    if not sound or not isinstance(chunks, list) or not all(isinstance(chunk, list) for chunk in chunks):
        raise InputError(f"{path} is damaged; convert into a new folder")
    return ConversionPlan(settings or {}, chunks, list(found.get("problems", ())), parts)


def chunk_record(output: Path, number: int) -> dict[str, Any] | None:
    """The record of a finished chunk; None if it is not finished."""
    try:
        record = read_json_object(output / WORK / record_name(number), root=None)
        whole = record["bytes"] == 0 or (output / record["name"]).stat().st_size == record["bytes"]
        counted = isinstance(record["scenes"], dict) and isinstance(record["problems"], list)
        return record if whole and counted else None
    except (FileError, KeyError, OSError, TypeError):
        return None


def record_name(number: int) -> str:
    """Name of the record of a chunk."""
    return f"{number:06}.json"


def unfinished(output: Path, numbers: Iterable[int]) -> list[int]:
    """The chunks, of some, that are not finished."""
    return [number for number in numbers if chunk_record(output, number) is None]


def merge_conversion(output: Path, *, processes: int) -> dict[str, Any]:
    """Complete a conversion whose parts are all finished; return the manifest. It needs no source.

    Raises:
        InputError: parts are missing, another process uses the folder, or it has no conversion.
    """
    require_ours(output)
    with locked(output):
        if (output / MANIFEST_NAME).exists():
            manifest = read_object(output / MANIFEST_NAME)
            if not manifest_chunks(output, manifest)[1]:
                clear_work(output)
                return manifest
        plan = read_plan(output)
        if plan is None:
            raise InputError(f"{output} has no conversion in parts; start one with: convert --part 1/N")
        if missing := unfinished(output, plan.numbers(None)):
            raise InputError(f"{output}: {_missing_parts(plan, missing)}")
        clear_temporary(output)
        return finish_conversion(output, plan, processes=processes)


def finish_conversion(output: Path, plan: ConversionPlan, *, processes: int) -> dict[str, Any]:
    """Write the index, the side index and the manifest of a conversion; return the manifest.

    Raises:
        InputError: a chunk is missing, or the files cannot be written.
        NoUsableSceneError: no frame could be used.
    """
    records = [record for number in plan.numbers(None) if (record := chunk_record(output, number))]
    if len(records) < len(plan.chunks):
        raise InputError(f"{output}: chunks changed while they were written; run the same command again to continue")
    chunks = [record for record in records if record["bytes"]]
    problems = [*plan.problems, *(problem for record in records for problem in record["problems"])]
    if not chunks:
        raise NoUsableSceneError(f"no usable scene: {'; '.join(problems[:3])}")
    index = {key: record["name"] for record in chunks for key in record["scenes"]}
    counts = [counted for record in chunks for counted in record["scenes"].values()]
    manifest = {
        "settings": plan.settings,
        "num_scenes": len(index),
        "num_frames": sum(counted["num_frames"] for counted in counts),
        "num_missing_frames": sum(len(counted["missing"]) for counted in counts),
        "num_bytes": sum(record["bytes"] for record in chunks),
        "problems": problems,
        "chunks": chunks,
        "plan": plan.chunks,
    }
    try:
        write_index(output, index)
    except OSError as error:
        raise unwritable(output, error) from error
    index_chunks(output, output / FRAME_INDEX_NAME, processes=processes, posed=plan.settings["posed"])
    write_json(output / MANIFEST_NAME, manifest)
    clear_work(output)
    return manifest


def _missing_parts(plan: ConversionPlan, missing: list[int]) -> str:
    """The parts that hold missing chunks, in a sentence with the remedy."""
    if plan.parts is None:
        return (
            f"{len(missing)} of {len(plan.chunks)} chunks are missing; run the same convert command again to continue"
        )
    return missing_parts({Part(1, plan.parts).of(number, len(plan.chunks)) for number in missing})
