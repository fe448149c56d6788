"""The division of a preparation into parts for several machines."""

from collections.abc import Iterable
from dataclasses import dataclass

from openrayzer.interfaces import InputError

PART_NAME = r"part_(\d+)_of_(\d+)"
"""Regular expression of ``Part.name``."""

_NAMED = 20  # parts that one message lists


@dataclass(frozen=True)
class Part:
    """One part of a preparation, such as part 3 of 16.

    Attributes:
        number: number of the part, from 1.
        total: number of parts.
    """

    number: int
    total: int

    @staticmethod
    def parse(text: str) -> "Part":
        """The part that a text such as ``3/16`` names.

        Raises:
            InputError: the text is not of this form, or the number is out of range.
        """
        number, _, total = text.partition("/")
        if not (number.isascii() and number.isdecimal() and total.isascii() and total.isdecimal()):
            raise InputError(f"--part takes NUMBER/TOTAL, e.g. 3/16, got {text!r:.40}")
        part = Part(int(number), int(total))
        if not 1 <= part.number <= part.total:
            wrong = f"parts are numbered from 1 to {part.total}" if part.total else "TOTAL must be 1 or more"
            raise InputError(f"--part {text}: {wrong}")
        return part

    @property
    def name(self) -> str:
        """Name for files."""
        return f"part_{self.number}_of_{self.total}"

    def __str__(self) -> str:
        return f"part {self.number}/{self.total}"

    def numbers(self, count: int) -> range:
        """The numbers of this part among ``count`` things; parts are disjoint, and the things of a part neighbours."""
        return range(count * (self.number - 1) // self.total, count * self.number // self.total)

    def of(self, number: int, count: int) -> "Part":
        """The part, among as many parts as this one has, that holds thing ``number`` of ``count``."""
        return next(part for part in self.all_parts() if number in part.numbers(count))

    def all_parts(self) -> list["Part"]:
        """All parts of the same division."""
        return [Part(number, self.total) for number in range(1, self.total + 1)]


def missing_parts(parts: Iterable[Part]) -> str:
    """A sentence that names missing parts, with the remedy."""
    found = sorted(parts, key=lambda part: part.number)
    named = ", ".join(str(part.number) for part in found[:_NAMED])
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return (
        f"{len(found)} of {found[0].total} parts are missing: {named}{more}; run them, e.g. with --part "
        f"{found[0].number}/{found[0].total}, then merge again"
    )
