"""Fixtures of the GPU suite, the order of its files, and the table at its end.

``python -m pytest -m gpu`` runs the suite; docs/gpus.md describes it. Without a GPU its tests are skipped.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from gpu_suite import ORDER
from gpu_table import FIGURE, Check, table
from in_process import quiet_package, train  # noqa: F401  fixtures
from in_process import train_file as train_as_written  # noqa: F401

from openrayzer.layers.tf32 import exact_float32


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests of this folder by ``ORDER``; other tests keep their places.

    Warnings do not fail these tests, because other versions of the libraries may warn.
    """
    places = [place for place, item in enumerate(items) if item.path.stem in ORDER]
    ours = sorted((items[place] for place in places), key=lambda item: ORDER.index(item.path.stem))
    for place, item in zip(places, ours, strict=True):
        item.add_marker(pytest.mark.filterwarnings("ignore"))
        items[place] = item


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The GPU of the suite."""
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU, and torch.cuda.is_available() is False: python tools/check_gpu.py prints the reason")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for the tests that need deterministic kernels
    return torch.device("cuda", 0)


@pytest.fixture
def gpu(device: torch.device) -> Iterator[torch.device]:
    """The GPU without TF32. It waits for the device before and after, so that an error of a kernel appears here."""
    synchronise(device)
    with exact_float32():
        yield device
    synchronise(device)


@pytest.fixture
def train_file(train_as_written: Callable[..., int]) -> Callable[..., int]:  # noqa: F811
    """Trains an experiment file, without compiling unless a test sets it, because compiling takes a minute."""

    def one(file: Path, output: Path, *changes: str) -> int:
        return train_as_written(file, output, "train.compile=false", *changes)

    return one


def synchronise(device: torch.device) -> None:
    """Wait for the device, so that its errors appear here."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Adds a measurement to the table."""
    return lambda text: request.node.user_properties.append((FIGURE, text))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table if a check of the suite has run."""
    from openrayzer.planning.cluster.installation import installation

    checks = [check_of(report) for report in reports_of(terminalreporter)]
    if any(check.result != "skipped" for check in checks):
        terminalreporter.section("GPU suite: please paste this table into an issue")
        terminalreporter.write_line("\n".join(table(installation(), checks)))


def reports_of(terminalreporter: pytest.TerminalReporter) -> list[pytest.TestReport]:
    """One report of each test of the suite, in the order in which they ran."""
    reports = {}
    for kind in ("passed", "skipped", "failed", "error"):  # collection errors are no reports of tests
        for report in terminalreporter.stats.get(kind, []):
            if isinstance(report, pytest.TestReport) and Path(report.nodeid.partition("::")[0]).stem in ORDER:
                reports[report.nodeid] = report
    return sorted(reports.values(), key=lambda report: report.start)


def check_of(report: pytest.TestReport) -> Check:
    """The line of the table for a report."""
    figures = [str(value) for name, value in report.user_properties if name == FIGURE]
    if report.outcome == "skipped":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        return Check(report.nodeid, "skipped", report.duration, reason.removeprefix("Skipped: "))
    if report.outcome == "failed":
        crash = getattr(report.longrepr, "reprcrash", None)
        figures.append(crash.message if crash is not None else str(report.longrepr))
        return Check(report.nodeid, "FAILED" if report.when == "call" else "ERROR", report.duration, "; ".join(figures))
    return Check(report.nodeid, "passed", report.duration, "; ".join(figures))
