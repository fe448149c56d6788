"""Kills a run of two ranks at random moments, resumes it, and checks that nothing is lost.

    python tests/training/faults/kills.py --kills 200 --folder /tmp/kills

After every kill, the checkpoint that ``latest`` named is still there, and the newest good checkpoint equals that of an
undisturbed run at the same step to the bit. At the end of every run, weights and losses equal those of the undisturbed
run to the bit. A seed determines the moments; some of them wait for a checkpoint that is being written.
"""

import argparse
import json
import logging
import random
import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch
from ranks import EXPERIMENT, ROOT, TIMEOUT, ForkServer, Run, fork_server

from openrayzer.weights.checkpoints.manifest import damage_of, newest_good

LOG = logging.getLogger(__name__)
KILL, TERM = signal.SIGKILL, signal.SIGTERM
PATTERNS: tuple[tuple[str, signal.Signals, tuple[int, ...]], ...] = (
    ("SIGKILL to rank 0", KILL, (0,)),
    ("SIGKILL to rank 1", KILL, (1,)),
    ("SIGKILL to both", KILL, (0, 1)),
    ("SIGTERM to both", TERM, (0, 1)),
    ("SIGTERM to rank 1", TERM, (1,)),
)
MOMENTS = ("while saving", "at any moment", "at any moment", "while starting")
ALONE = 20.0
"""Seconds in which the other ranks should end by themselves."""
SPAN = 5.0
"""Seconds of training in which a kill may come."""
FP32 = ROOT / "ds_configs/zero2_fp32.json"


@dataclass
class Tally:
    """Counts of a campaign.

    Attributes:
        kills: signals sent to a living run.
        patterns: count of each pattern and kind of moment.
        runs: finished runs that were compared with the undisturbed one.
        resumed: resumes that went on from a checkpoint.
        slowest_end: longest time in seconds between a kill and the end of all ranks.
        by_launcher: ends that needed the SIGTERM of a launcher, e.g. because a rank died before the ranks had met.
    """

    kills: int = 0
    patterns: Counter = field(default_factory=Counter)
    runs: int = 0
    resumed: int = 0
    slowest_end: float = 0.0
    by_launcher: int = 0


class Campaign:
    """Starts, kills and resumes runs until a number of kills is reached.

    Args:
        server: starts the ranks.
        folder: folder of all runs.
        seed: of patterns and moments.
        settings: further ``--set`` values.
    """

    def __init__(self, server: ForkServer, folder: Path, *, seed: int, settings: tuple[str, ...] = ()) -> None:
        self.server, self.folder, self.settings = server, folder, settings
        self.random, self.tally = random.Random(seed), Tally()
        self.straight = folder / "straight"
        self._start_up = 0.0

    def run(self, kills: int) -> Tally:
        """Run the campaign; returns its counts."""
        begin = time.monotonic()
        run = self._start(self.straight, "train.checkpoint_every=1", "train.keep_checkpoints=1000")
        while announced(self.straight) is None and run.living():
            time.sleep(0.01)
        self._start_up = time.monotonic() - begin
        codes = run.wait(10 * TIMEOUT)
        assert codes == (0, 0), run.output()
        while self.tally.kills < kills:
            self._one_run(self.folder / f"run_{self.tally.runs:03d}", kills)
        return self.tally

    def _start(self, output: Path, *settings: str) -> Run:
        changes = (f"deepspeed={FP32}", *self.settings, *settings)
        log = output.with_suffix(".log")
        return self.server.start(
            "--exp", str(EXPERIMENT), "--output", str(output), "--set", *changes, log=log
        )  # fmt: skip

    def _one_run(self, output: Path, kills: int) -> None:
        """Kill and resume a run until it finishes or there are enough kills; then let it finish."""
        while True:
            before = announced(output)
            run = self._start(output)
            if self.tally.kills < kills and self._hurt(run, output):
                self._check(output, run)
                continue
            codes = run.wait()
            assert codes == (0, 0), f"{codes}\n{run.output()}"
            self.tally.resumed += before is not None
            self._compare_end(output)
            self.tally.runs += 1
            LOG.info("%s", self.tally)
            shutil.rmtree(output)
            return

    def _hurt(self, run: Run, output: Path) -> bool:
        """Send a signal at a random moment; False if the run finished before."""
        name, number, ranks = self.random.choice(PATTERNS)
        moment = self.random.choice(MOMENTS)
        longest = self._start_up + (SPAN if moment == "at any moment" else 0)
        end = time.monotonic() + self.random.uniform(0, longest)
        while time.monotonic() < end and run.living():
            time.sleep(0.005)
        while moment == "while saving" and run.living() and not list((output / "checkpoints").glob("*.tmp")):
            time.sleep(0.0005)
        time.sleep(self.random.uniform(0, 0.03))
        if len(run.living()) < len(run.pids):
            return False
        self._latest = announced(output)
        run.send(number, *ranks)
        self.tally.kills += 1
        self.tally.patterns[f"{name}, {moment}"] += 1
        begin = time.monotonic()
        codes = run.wait_as_launchers_do(alone=ALONE)
        seconds = time.monotonic() - begin
        self.tally.slowest_end = max(self.tally.slowest_end, seconds)
        self.tally.by_launcher += seconds > ALONE
        assert any(codes) or self._finished(output), f"{name} {moment}: {codes}\n{run.output()}"
        return True

    def _finished(self, output: Path) -> bool:
        return (announced(output) or -1) == (announced(self.straight) or 0)

    def _check(self, output: Path, run: Run) -> None:
        """Check that no published checkpoint is lost and no corrupt one is accepted."""
        accepted = newest_good(output / "checkpoints")
        step = -1 if accepted is None else int(accepted.name.removeprefix("step_"))
        assert step >= (self._latest or -1), f"step {self._latest} was announced, {step} is left\n{run.output()}"
        latest = announced(output)
        assert latest is None or not damage_of(output / f"checkpoints/step_{latest:08d}")
        if accepted is not None:
            self.tally.resumed += 1
            assert same_checkpoint(accepted, self.straight / "checkpoints" / accepted.name)

    def _compare_end(self, output: Path) -> None:
        last = f"checkpoints/step_{announced(self.straight):08d}"
        assert announced(output) == announced(self.straight)
        assert same_checkpoint(output / last, self.straight / last)
        assert losses(output) == losses(self.straight)


def announced(output: Path) -> int | None:
    """The step that ``latest`` names."""
    try:
        return int((output / "checkpoints/latest").read_text().removeprefix("step_"))
    except FileNotFoundError:
        return None


def same_checkpoint(one: Path, other: Path) -> bool:
    """Whether weights, optimizer and the state of all ranks are the same to the bit."""
    names = [sorted(path.name for path in folder.glob("*.pt")) for folder in (one, other)]
    assert names[0] == names[1]
    return all(same(load(one / name), load(other / name)) for name in names[0])


def load(file: Path) -> object:
    from openrayzer.weights.checkpoints.zero_checkpoint import allow_deepspeed_classes

    allow_deepspeed_classes()
    return torch.load(file, weights_only=True)


def same(one: object, other: object) -> bool:
    """Whether two values in checkpoints are equal."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and (vars(one) == vars(other) if hasattr(one, "__dict__") else one == other)


def losses(output: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl without times."""
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    clock = ("seconds", "views_per_second", "data_wait")
    return [{key: value for key, value in line.items() if key not in clock} for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True, help="scratch; must not exist")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with fork_server(arguments.folder) as server:
        campaign = Campaign(server, arguments.folder, seed=arguments.seed)
        try:
            campaign.run(arguments.kills)
        finally:
            print(campaign.tally, flush=True)


if __name__ == "__main__":
    main()
