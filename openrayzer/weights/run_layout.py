"""Names of everything in a run folder."""

FILE = "statistics.jsonl"


HANG = "hang"
