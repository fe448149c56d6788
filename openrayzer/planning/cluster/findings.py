"""What a check has found, and all of them as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "FAILS"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        what: was looked at, in a few words.
        verdict: "warning" lets a run start, "FAILS" should not.
        found: values with units, or what is wrong and what to do.
    """

    what: str
    verdict: Verdict
    found: str


def table(findings: Sequence[Finding]) -> str:
    """One line each, what fails last, so that it stands above the prompt."""
    order = {"ok": 0, "warning": 1, "FAILS": 2}
    rows = sorted(findings, key=lambda finding: order[finding.verdict])
    width = max(len(finding.what) for finding in rows)
    return "\n".join(f"{row.what:<{width}}  {row.verdict:<7}  {row.found}" for row in rows)
