"""The table that the GPU suite prints at its end: the machine, and result, seconds and measurements of each check."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

FIGURE = "figure"
"""Name of a check's measurements in pytest's user properties."""
LONGEST = 240


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        name: pytest's name of the test.
        result: "passed", "skipped", "FAILED" or "ERROR".
        seconds: duration of the test.
        found: its measurements, or the reason why it was skipped or failed.
    """

    name: str
    result: str
    seconds: float
    found: str


def table(machine: Mapping[str, str], checks: Sequence[Check]) -> Iterator[str]:
    """The table as Markdown."""
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
    """A readable title: ``tests/gpu/test_a.py::test_it_works[one-two]`` becomes ``it works: one, two``."""
    test, _, case = name.rpartition("::")[2].removesuffix("]").partition("[")
    words = test.removeprefix("test_").replace("_", " ")
    return f"{words}: {case.replace('-', ', ')}" if case else words


def _cell(text: str) -> str:
    """The text in one line without characters that end a cell."""
    line = " ".join(text.replace("|", "/").split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."
