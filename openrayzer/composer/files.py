"""Reading of experiment files: strict JSON with the position of each error, and the chain of ``extends``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrayzer.composer.build import ExperimentError, join
from registry import did_you_mean

SHIPPED = Path(__file__).parents[1] / "shipped"
"""Folder with the folders experiments/ and ds_configs/ of openrayzer; in a clone they are links."""


@dataclass(frozen=True)
class Document:
    """One parsed file."""

    path: Path
    values: dict[str, Any]


def experiment_file(given: Path | str, *, folder: Path = Path()) -> Path:
    """The file of an experiment.

    Args:
        given: a path, or the name of an experiment that openrayzer ships, e.g. ``rayzer_demo``.
        folder: the folder for relative paths.
    """
    path = folder / given
    shipped = SHIPPED / "experiments" / f"{given}.json"
    return shipped if _is_name(given) and not path.is_file() and shipped.is_file() else path


def _is_name(given: Path | str) -> bool:
    return Path(given).name == str(given) and not Path(given).suffix


def read_chain(path: Path | str) -> list[Document]:
    """The file and all files that it extends, the outermost base first.

    ``extends`` is the name of a shipped experiment, or a path that is relative to the file that contains it.

    Raises:
        ExperimentError: a file is missing, is not a JSON object, or has a key twice; or the chain is a cycle.
    """
    path, chain = Path(path), list[Document]()
    while True:
        document = Document(path, read_object(path))
        chain.insert(0, document)
        base = document.values.get("extends")
        if base is None:
            return chain
        if not isinstance(base, str):
            raise ExperimentError([f"extends: expected a path, got {base!r:.60}"], source=path)
        path = experiment_file(base, folder=path.parent)
        if any(path.resolve() == seen.path.resolve() for seen in chain):
            names = " -> ".join([*(seen.path.name for seen in reversed(chain)), path.name])
            raise ExperimentError([f"extends: the files extend each other in a cycle: {names}"], source=document.path)
        if not path.is_file():
            raise ExperimentError([f"extends: {_missing(path, base)}"], source=document.path)


def read_object(path: Path | str) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ExperimentError: see ``read_chain``; the position of a syntax error is ``file:line:column``.
    """
    path = Path(path)
    if not path.is_file():
        raise ExperimentError([_missing(path, path)])
    try:
        values = parse_json(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ExperimentError([f"{path}:{error.lineno}:{error.colno}: {error.msg}"]) from error
    except RecursionError as error:
        raise ExperimentError([f"{path}: nested too deeply"]) from error
    except (ExperimentError, OSError, ValueError) as error:
        problems = error.problems if isinstance(error, ExperimentError) else [str(error)]
        raise ExperimentError([f"{path}: {problem}" for problem in problems]) from error
    if not isinstance(values, dict):
        raise ExperimentError([f"{path}: an experiment is a JSON object {{...}}, got {values!r:.60}"])
    return values


def parse_json(text: str) -> Any:
    """Parse strict JSON; NaN, Infinity and duplicate keys are errors.

    Raises:
        json.JSONDecodeError: the text is not JSON.
        ExperimentError: keys appear twice in one object; the message lists all with their JSON paths.
        ValueError: there is a NaN or an Infinity.
    """
    twice: list[tuple[dict[str, Any], str]] = []

    def as_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        names = [name for name, _ in pairs]
        twice.extend((made, name) for name in made if names.count(name) > 1)
        return made

    values = json.loads(text, object_pairs_hook=as_object, parse_constant=_refuse_constant)
    if twice:
        raise ExperimentError([f"{join(_path_of(made, values), name)}: appears twice" for made, name in twice])
    return values


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _path_of(wanted: Any, values: Any, path: str = "") -> str:
    """JSON path of the object ``wanted`` itself; empty if a duplicate key above it has removed it."""
    if wanted is values:
        return path
    items: list[tuple[str, Any]] = []
    if isinstance(values, dict):
        items = [(join(path, key), value) for key, value in values.items()]
    elif isinstance(values, list):
        items = [(f"{path}[{index}]", value) for index, value in enumerate(values)]
    return next(filter(None, (_path_of(wanted, value, place) for place, value in items)), "")


def _missing(path: Path, given: Path | str) -> str:
    """Why there is no experiment at ``path``, which a user gave as ``given``."""
    shipped = [file.stem for file in (SHIPPED / "experiments").glob("*.json")]
    files = [file.name for file in path.parent.glob("*.json")]
    if path.is_dir():
        names = sorted(file.name for file in path.glob("*.json"))
        return f"{path} is a folder; name a file in it: {', '.join(names) or '(it has no .json files)'}"
    if _is_name(given):
        return f"there is no experiment named {str(given)!r}{did_you_mean(str(given), [*shipped, *files])}"
    if path.suffix == ".json" and path.stem in shipped:
        return f"there is no file {path}; the name {path.stem} alone selects the experiment that openrayzer ships"
    if not path.parent.is_dir():
        return f"there is no file {path}, nor a folder {path.parent}"
    return f"there is no file {path}{did_you_mean(path.name, files)}"
