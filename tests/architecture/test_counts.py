"""Counts of rooms, files and names: ``python tests/architecture/test_counts.py`` prints them beside their limits."""

import ast
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "openrayzer"
FORMER_ROOMS = ("evaluation", "evaluating", "reports", "comparing")
"""Names of four rooms that evaluated models; only ``evaluation`` still exists."""


def sources(folder: Path = PACKAGE) -> list[Path]:
    """All Python files except ``__init__.py``."""
    return sorted(file for file in folder.rglob("*.py") if file.name != "__init__.py")


def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def first_level() -> list[str]:
    """Folders and files directly under openrayzer/; caches and empty folders do not count."""
    return sorted(
        path.name for path in PACKAGE.iterdir() if path.suffix == ".py" or (path.is_dir() and any(path.rglob("*.py")))
    )


def evaluation_rooms() -> list[str]:
    return [room for room in FORMER_ROOMS if room in first_level()]


def imports_training(file: Path) -> bool:
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        if any(f"{module}.".startswith("openrayzer.training.") for module in modules):
            return True
    return False


def rooms_that_import_training() -> list[str]:
    """Rooms outside of training/, benchmarks/ and cli/, which holds the commands."""
    rooms = {file.relative_to(PACKAGE).parts[0] for file in PACKAGE.rglob("*.py") if imports_training(file)}
    return sorted(rooms - {"training", "benchmarks", "cli"})


def crowded_folders() -> list[str]:
    """Folders of data/ and training/ with more than 15 files directly inside."""
    files = [file for room in ("data", "training") for file in sources(PACKAGE / room)]
    counts = Counter(str(file.parent.relative_to(ROOT)) for file in files)
    return sorted(folder for folder, count in counts.items() if count > 15)


def repeated(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)


def repeated_file_names() -> list[str]:
    return repeated(file.stem for file in sources())


def repeated_class_names() -> list[str]:
    """Classes on the first level of a module; private ones count."""
    return repeated(node.name for file in sources() for node in tree_of(file).body if isinstance(node, ast.ClassDef))


COUNTS: list[tuple[str, Callable[[], list[str]], int]] = [
    ("names on the first level of openrayzer/", first_level, 19),
    ("rooms that evaluate models", evaluation_rooms, 1),
    ("rooms outside of training/ that import it, benchmarks/ and cli/ aside", rooms_that_import_training, 0),
    ("folders of data/ and training/ with more than 15 files", crowded_folders, 0),
    ("file names that stand twice", repeated_file_names, 4),
    ("class names that stand twice", repeated_class_names, 0),
]
"""Title, function that finds the names, and largest number of names."""


@pytest.mark.parametrize(("what", "find", "most"), COUNTS, ids=[what for what, _, _ in COUNTS])
def test_a_count_stays_below_its_limit(what: str, find: Callable[[], list[str]], most: int):
    found = find()
    assert len(found) <= most, f"{what}: {', '.join(found)}"


def table() -> str:
    """The counts beside their limits, with up to six names each."""
    rows = [f"{'count':>5}  {'most':>4}"]
    for what, find, most in COUNTS:
        found = find()
        names = f": {', '.join(found)}" if 0 < len(found) <= 6 else ""
        rows.append(f"{len(found):>5}  {most:>4}  {what}{names}")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
