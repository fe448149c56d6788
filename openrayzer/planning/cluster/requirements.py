"""Checks of the installed packages against the requirements of openrayzer. They import none of these packages."""

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from openrayzer.planning.cluster.findings import Finding

NAME = "openrayzer"
OLDEST = (3, 11)
"""Oldest version of Python on which openrayzer runs."""
FOR_DEVELOPERS = {"dev"}
"""Extras that only people who change openrayzer need."""


def check_python() -> Finding:
    """Whether this Python is new enough."""
    found = f"{platform.python_version()}, {sys.executable}"
    if sys.version_info < OLDEST:
        return Finding("python", "FAILS", f"{found}: needed is {'.'.join(map(str, OLDEST))} or newer")
    return Finding("python", "ok", found)


def check_packages() -> Iterator[Finding]:
    """Whether openrayzer and the packages that it needs are installed, in versions that fit."""
    try:
        here = distribution(NAME)
    except PackageNotFoundError:
        folder = Path(__file__).parents[3]
        yield Finding(NAME, "warning", f"runs from {folder} without being installed: pip install -e {folder}")
        return
    yield Finding(NAME, "ok", f"{here.version}, in {Path(__file__).parents[3]}")
    problems = list(_problems(here, extra=""))
    yield from (Finding("packages", "FAILS", f"{problem}: pip install {remedy}") for problem, remedy in problems)
    if not problems:
        yield Finding("packages", "ok", "all required packages are installed")


def check_extras() -> Iterator[Finding]:
    """Which optional packages are installed."""
    try:
        here = distribution(NAME)
    except PackageNotFoundError:
        return
    for extra in sorted(set(here.metadata.get_all("Provides-Extra") or ()) - FOR_DEVELOPERS):
        problems = [problem for problem, _ in _problems(here, extra=extra)]
        if problems:
            yield Finding(f"extra {extra}", "absent", f"{', '.join(problems)}: pip install '{NAME}[{extra}]'")
        else:
            yield Finding(f"extra {extra}", "ok", "installed")


def _problems(here: Distribution, *, extra: str) -> Iterator[tuple[str, str]]:
    """Each requirement that is not met: the problem, and the argument of ``pip install`` that solves it.

    With an extra, only the requirements that the extra adds.
    """
    from packaging.requirements import Requirement  # a requirement of DeepSpeed

    for text in here.requires or ():
        needed = Requirement(text)
        by_default = needed.marker is None or needed.marker.evaluate({"extra": ""})
        with_extra = needed.marker is None or needed.marker.evaluate({"extra": extra})
        if not with_extra or (extra and by_default):
            continue
        remedy = f"'{needed.name}{needed.specifier}'"
        try:
            found = distribution(needed.name).version
        except PackageNotFoundError:
            yield f"{needed.name} is not installed", remedy
            continue
        if not needed.specifier.contains(found, prereleases=True):
            yield f"{needed.name} {found} does not fit {needed.specifier}", remedy
