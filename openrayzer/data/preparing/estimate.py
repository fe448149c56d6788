"""What a conversion will take, as a person reads it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """What a conversion will take, from a sample of frames."""

    num_scenes: int
    num_frames: int
    num_done: int
    bytes_per_frame: float
    seconds_per_frame: float
    processes: int
    free_bytes: int

    @property
    def num_bytes(self) -> float:
        """Space that is still needed."""
        return (self.num_frames - self.num_done) * self.bytes_per_frame

    @property
    def seconds(self) -> float:
        """Time that is still needed."""
        return (self.num_frames - self.num_done) * self.seconds_per_frame / self.processes

    def __str__(self) -> str:
        done = f", {self.num_done} of them done" if self.num_done else ""
        return (
            f"{self.num_scenes} scenes, {self.num_frames} frames{done}: about {self.num_bytes / 1e6:.1f} MB "
            f"({self.free_bytes / 1e6:.0f} MB are free) and {_duration(self.seconds)} with {self.processes} process(es)"
        )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
