"""Progress is a bar on a terminal, a line every few seconds elsewhere, and nothing on other ranks or on stdout."""

import io
import logging
import re
import sys

import pytest
import torch

from openrayzer.machine.distributed import Process
from openrayzer.machine.progress import BYTES, ProgressCounter, stages_of, with_progress
from openrayzer.machine.terminal import logging_to_terminal
from openrayzer.training.logs.console import step_counter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Put a terminal of 200 columns in place of stderr. In a fixture, pytest would undo it before the test."""
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


@pytest.fixture(autouse=True)
def first_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


def counted(clock: Clock, seconds: float, *, total: int = 4, unit: str = "rooms", amount: int = 1) -> None:
    """Count to the total; each step takes a number of seconds."""
    with ProgressCounter(total=total, unit=unit, title="film", clock=clock) as counter:
        for _ in range(0, total, amount):
            clock.now += seconds
            counter.advance(amount)


def test_a_terminal_gets_a_bar_with_count_rate_and_time_left(monkeypatch: pytest.MonkeyPatch):
    terminal = on_terminal(monkeypatch)
    counted(Clock(), 30.0)
    drawn = terminal.getvalue()
    assert "0/4 rooms" in drawn
    assert "2/4 rooms, 30 s each, 0:01:00 left" in drawn
    assert "4/4 rooms, 30 s each, took 0:02:00" in drawn


def test_a_pipe_gets_a_line_every_ten_seconds_and_one_at_the_end(capsys: pytest.CaptureFixture[str]):
    counted(Clock(), 4.0, total=6)
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "film: 3/6 rooms, 4 s each, 0:00:12 left",
        "film: 6/6 rooms, 4 s each, took 0:00:24",
    ]
    assert captured.out == ""


def test_short_work_prints_no_line(capsys: pytest.CaptureFixture[str]):
    counted(Clock(), 1.0)
    assert capsys.readouterr() == ("", "")


def test_bytes_have_readable_units(capsys: pytest.CaptureFixture[str]):
    counted(Clock(), 20.0, total=4_000_000, amount=1_000_000, unit=BYTES)
    assert "film: 2.0 MB/4.0 MB, 50.0 kB/s, 0:00:40 left" in capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("seen_on", ["terminal", "pipe"])
def test_other_ranks_show_nothing(seen_on: str, monkeypatch: pytest.MonkeyPatch):
    terminal = on_terminal(monkeypatch)
    if seen_on == "pipe":
        monkeypatch.setattr(terminal, "isatty", lambda: False)
    monkeypatch.setenv("RANK", "1")
    counted(Clock(), 30.0)
    assert terminal.getvalue() == ""


def test_an_error_closes_the_bar_and_gives_stderr_back(monkeypatch: pytest.MonkeyPatch):
    terminal = on_terminal(monkeypatch)

    def spoilt() -> None:
        with ProgressCounter(total=2, unit="rooms"):
            assert sys.stderr is not terminal
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        spoilt()
    assert sys.stderr is terminal


def test_log_messages_stand_above_the_bar_and_stdout_stays_clean(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    terminal = on_terminal(monkeypatch)
    with logging_to_terminal(Process(0, 0, 1, torch.device("cpu"))):
        for number in with_progress(range(2), total=2, unit="rooms"):
            logging.getLogger("openrayzer.test").info("message %d", number)
            print(f"row {number}")
    assert "message 1\n" in terminal.getvalue()
    assert "2/2 rooms" in terminal.getvalue().splitlines()[-2]
    assert capsys.readouterr().out == "row 0\nrow 1\n"


def test_a_counter_inside_another_is_silent(monkeypatch: pytest.MonkeyPatch):
    terminal = on_terminal(monkeypatch)
    with ProgressCounter(total=1, unit="batches") as outer, ProgressCounter(total=1, unit="frames") as inner:
        assert (outer.drawn, inner.drawn) == (True, False)
        inner.advance()
    assert "frames" not in terminal.getvalue()


def test_items_pass_unchanged_and_count_after_their_use(monkeypatch: pytest.MonkeyPatch):
    terminal = on_terminal(monkeypatch)
    passed = []
    for item in with_progress(iter([3, 5]), total=8, unit="frames", amount=lambda item: item):
        passed.append(item)
        assert "8/8" not in terminal.getvalue()
    assert passed == [3, 5]
    assert "8/8 frames" in terminal.getvalue()


def test_a_stage_is_named_before_it_starts(monkeypatch: pytest.MonkeyPatch):
    terminal = on_terminal(monkeypatch)
    with stages_of("import", total=2) as begin:
        begin("reading a.pt")
        assert terminal.getvalue().rstrip().endswith("0/2 stages, reading a.pt")
        begin("writing b.pt")
        assert terminal.getvalue().rstrip().endswith("1/2 stages, writing b.pt")
    assert "2/2 stages, took 0:00:00" in terminal.getvalue()
    assert "left" not in terminal.getvalue()


def test_a_pipe_gets_a_line_after_a_long_stage(capsys: pytest.CaptureFixture[str]):
    clock = Clock()
    with ProgressCounter(total=3, unit="stages", title="export", clock=clock) as counter:
        for name, seconds in (("reading", 20.0), ("building", 1.0), ("writing", 1.0)):
            counter.next_stage(name)
            clock.now += seconds
        counter.next_stage()
    assert capsys.readouterr().err.splitlines() == ["export: 1/3 stages, building", "export: 3/3 stages, took 0:00:22"]


def test_a_stage_that_fails_keeps_its_name(monkeypatch: pytest.MonkeyPatch):
    terminal = on_terminal(monkeypatch)

    def fail() -> None:
        with stages_of("import", total=1) as begin:
            begin("writing")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert "0/1 stages, writing" in terminal.getvalue()
    assert "1/1" not in terminal.getvalue()


def test_training_draws_a_bar_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch):
    terminal = on_terminal(monkeypatch)
    with step_counter(done=5, steps=10) as counter:
        counter.note = "loss 0.25"
        counter.advance()
    assert re.search(r"6/10 steps, .*loss 0\.25", terminal.getvalue())
    monkeypatch.setattr(terminal, "isatty", lambda: False)
    before = terminal.getvalue()
    with step_counter(done=0, steps=10) as counter:
        counter.advance(10)
    assert terminal.getvalue() == before
