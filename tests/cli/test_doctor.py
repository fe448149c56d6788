"""``openrayzer doctor``: packages, extras, and the exit code on machines with and without faults."""

import builtins
import re
from importlib.metadata import Distribution, PackageNotFoundError, version
from pathlib import Path

import pytest
import torch

from openrayzer.cli.__main__ import main
from openrayzer.planning.cluster import requirements, this_machine, working_libraries
from openrayzer.planning.cluster.findings import Finding

GOOD = [Finding("torch", "ok", "2.14"), Finding("deepspeed", "ok", "0.19")]


class Installed(Distribution):
    """An installed openrayzer that needs and offers some packages."""

    def read_text(self, filename: str) -> str:
        needed = (
            "numpy", "torch>=999", "no_such_package<2", 'windows_only; sys_platform == "win32"',
            'no_such_codec>1; extra == "clips"', 'pillow; extra == "pictures"', 'ruff; extra == "dev"',
        )  # fmt: skip
        offered = [f"Provides-Extra: {name}" for name in ("clips", "pictures", "dev")]
        lines = ["Name: openrayzer", "Version: 0.1.0", *(f"Requires-Dist: {one}" for one in needed), *offered]
        return "\n".join(lines) + "\n" if filename == "METADATA" else ""

    def locate_file(self, path: str) -> Path:
        return Path(path)


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    real = requirements.distribution
    monkeypatch.setattr(requirements, "distribution", lambda name: Installed() if name == "openrayzer" else real(name))


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def verdicts(text: str) -> dict[str, str]:
    """Subject and verdict of each row of the table."""
    return dict(re.findall(r"^(\S.*?) {2,}(ok|absent|warning|FAILS) ", text, flags=re.MULTILINE))


@pytest.mark.usefixtures("metadata")
def test_missing_and_old_packages_fail_with_the_command_that_installs_them():
    found = [finding for finding in requirements.check_packages() if finding.what == "packages"]
    assert [finding.verdict for finding in found] == ["FAILS", "FAILS"]
    assert found[0].found == f"torch {version('torch')} does not fit >=999: pip install 'torch>=999'"
    assert found[1].found == "no_such_package is not installed: pip install 'no_such_package<2'"


@pytest.mark.usefixtures("metadata")
def test_an_extra_is_absent_with_its_command_or_installed():
    assert list(requirements.check_extras()) == [
        Finding("extra clips", "absent", "no_such_codec is not installed: pip install 'openrayzer[clips]'"),
        Finding("extra pictures", "ok", "installed"),
    ]


def test_a_clone_that_is_not_installed_is_a_warning(monkeypatch: pytest.MonkeyPatch):
    def distribution(name: str):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(requirements, "distribution", distribution)
    (finding,) = requirements.check_packages()
    assert finding.verdict == "warning"
    assert finding.found.endswith(f"pip install -e {Path(__file__).parents[2]}")
    assert list(requirements.check_extras()) == []


def test_an_old_python_fails(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(requirements, "OLDEST", (4, 0))
    finding = requirements.check_python()
    assert (finding.verdict, "needed is 4.0 or newer" in finding.found) == ("FAILS", True)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_training_works_on_the_cpu(tmp_path: Path, capsys):
    assert main(["doctor", "--output", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[-1] == "training works here, on the CPU"
    found = verdicts(text)
    assert (found["driver"], found["deepspeed"], found["PyAV"], found["python"]) == ("warning", "ok", "ok", "ok")
    assert "FAILS" not in found.values()


@pytest.mark.usefixtures("no_gpu")
def test_a_fault_ends_with_1_and_stands_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    broken = [GOOD[0], Finding("deepspeed", "FAILS", "cannot be imported: pip install deepspeed")]
    monkeypatch.setattr(this_machine, "check_machine", lambda output: broken)
    assert main(["doctor", "--output", str(tmp_path)]) == 1
    *_, last, verdict = capsys.readouterr().out.splitlines()
    assert last.split() == ["deepspeed", "FAILS", "cannot", "be", "imported:", "pip", "install", "deepspeed"]
    assert verdict == "training does NOT work here"


def test_a_broken_torch_is_a_finding(monkeypatch: pytest.MonkeyPatch, capsys):
    real = builtins.__import__

    def refuse(name: str, *rest, **others):
        if name == "torch":
            raise OSError("libtorch.so: cannot open")
        return real(name, *rest, **others)

    monkeypatch.setattr(builtins, "__import__", refuse)
    code = main(["doctor"])
    monkeypatch.undo()
    assert code == 1
    assert "OSError: libtorch.so: cannot open: pip install --force-reinstall torch" in capsys.readouterr().out


def test_operators_without_a_compiler_and_a_missing_gsplat_are_absent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(working_libraries.shutil, "which", lambda name: None)
    assert working_libraries.check_operators().verdict == "absent"
    monkeypatch.setattr(working_libraries, "package_version", lambda name: "not installed")
    assert working_libraries.check_gsplat(torch.device("cpu")).verdict == "absent"
    monkeypatch.setattr(working_libraries, "package_version", lambda name: "1.5.3")
    finding = working_libraries.check_gsplat(torch.device("cpu"))
    assert (finding.verdict, "its kernels need a CUDA device" in finding.found) == ("warning", True)
