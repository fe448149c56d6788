"""The table that the GPU suite prints at its end: the machine, and of every check its result, seconds and figures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

FIGURE = "figure"
"""Name under which a check leaves what it has measured, in pytest's user properties."""
LONGEST = 240


@dataclass(frozen=True)
class Check:
    """One line.

    Attributes:
        name: of the test, as pytest calls it.
        result: "passed", "skipped", "FAILED" or "ERROR".
        seconds: it took.
        found: what it measured, or why it was skipped or failed.
    """

    name: str
    result: str
    seconds: float
    found: str


def table(machine: Mapping[str, str], checks: Sequence[Check]) -> Iterator[str]:
    """Markdown, to be pasted into an issue."""
    yield "| machine | |"
    yield "|---|---|"
    for fact, value in machine.items():
        yield f"| {fact} | {_cell(value)} |"
    yield ""
    yield "| check | result | seconds | figure |"
    yield "|---|---|---|---|"
    for check in checks:
        yield f"| {_title(check.name)} | {check.result} | {check.seconds:.1f} | {_cell(check.found)} |"
    counts = {result: sum(check.result == result for check in checks) for result in {check.result for check in checks}}
    total = sum(check.seconds for check in checks)
    yield ""
    yield f"{', '.join(f'{count} {result}' for result, count in sorted(counts.items()))}; {total:.0f} s"


def _title(name: str) -> str:
    """``tests/gpu/test_a.py::test_it_works[one-two]`` as ``it works: one, two``."""
    test, _, case = name.rpartition("::")[2].removesuffix("]").partition("[")
    words = test.removeprefix("test_").replace("_", " ")
    return f"{words}: {case.replace('-', ', ')}" if case else words


def _cell(text: str) -> str:
    """One line without what would end a cell."""
    line = " ".join(text.replace("|", "/").split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."
