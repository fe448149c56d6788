"""Results of checks, and their table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "absent", "warning", "FAILS"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        what: subject of the check in a few words.
        verdict: "absent" is an optional part that is not installed; with "warning" a run can start, with "FAILS" it
            should not.
        found: values with units, or the problem and its remedy.
    """

    what: str
    verdict: Verdict
    found: str


def table(findings: Sequence[Finding]) -> str:
    """One line for each finding. Failures come last, so that they stand right above the prompt."""
    order = {"ok": 0, "absent": 1, "warning": 2, "FAILS": 3}
    rows = sorted(findings, key=lambda finding: order[finding.verdict])
    width = max(len(finding.what) for finding in rows)
    return "\n".join(f"{row.what:<{width}}  {row.verdict:<7}  {row.found}" for row in rows)
