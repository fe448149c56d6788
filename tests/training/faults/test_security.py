"""Hostile files run no code, and no secret of the environment enters a run folder."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from launching import clean_environment
from ranks import EXPERIMENT, ROOT
from safetensors.torch import save_file

import openrayzer
from openrayzer.data.chunk_files.table import read_chunk_table
from openrayzer.interfaces import BrokenSceneError, InputError
from openrayzer.layers.weight_files import read_state_dict
from openrayzer.weights.finding import find_weights, load_weights


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


@pytest.fixture
def harmed(tmp_path: Path) -> Path:
    """The file that exists if code was run."""
    return tmp_path / "harmed"


def test_the_hostile_object_runs_code_when_unpickled(tmp_path: Path, harmed: Path):
    torch.save(Evil(harmed), tmp_path / "evil.pt")
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert harmed.exists()


def test_a_chunk_runs_no_code(tmp_path: Path, harmed: Path):
    torch.save([{"key": "scene", "images": [], "cameras": Evil(harmed)}], tmp_path / "0.torch")
    with pytest.raises(BrokenSceneError):
        read_chunk_table(tmp_path / "0.torch")
    assert not harmed.exists()


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.ckpt"])
def test_a_weight_file_runs_no_code(tmp_path: Path, harmed: Path, name: str):
    torch.save({"model": {"weight": Evil(harmed)}}, tmp_path / name)
    with pytest.raises(InputError):
        read_state_dict(tmp_path / name, remedy="none")
    assert not harmed.exists()


def test_the_weights_of_a_run_that_names_plugins_are_read_without_them(tmp_path: Path, harmed: Path):
    """Initial weights are read without the experiment beside them, and its plugins are not imported."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "plugin.py").write_text(f"from pathlib import Path\nPath({str(harmed)!r}).touch()\n")
    (run / "experiment.json").write_text(json.dumps({"extends": str(EXPERIMENT), "plugins": ["plugin.py"]}))
    (run / "config.json").write_text((run / "experiment.json").read_text())
    save_file({"a": torch.zeros(2)}, run / "model.safetensors")
    assert load_weights(find_weights(run)).keys() == {"a"}
    assert not harmed.exists()


def test_a_model_of_the_hub_that_names_plugins_is_refused(tmp_path: Path, harmed: Path, monkeypatch):
    from openrayzer.weights import loading

    folder = tmp_path / "downloaded"
    folder.mkdir()
    (folder / "plugin.py").write_text(f"from pathlib import Path\nPath({str(harmed)!r}).touch()\n")
    (folder / "config.json").write_text(json.dumps({"extends": str(EXPERIMENT), "plugins": ["plugin.py"]}))
    (folder / "model.safetensors").write_bytes(b"")
    monkeypatch.setattr(loading, "download", lambda name, *, files: folder)
    with pytest.raises(InputError, match="which is not run directly from the hub"):
        openrayzer.load_model("somebody/something")
    assert not harmed.exists()


def test_json_cannot_name_code(tmp_path: Path):
    from openrayzer.composer import load_experiment

    for value in ({"type": "os.system"}, {"class_path": "os.system", "init_args": {"command": "true"}}, "os.system"):
        file = tmp_path / "experiment.json"
        file.write_text(json.dumps({"extends": str(EXPERIMENT), "model": value}))
        with pytest.raises(InputError):
            load_experiment(file)


UNSAFE = {"pickle.load", "pickle.loads", "os.system", "yaml.load", "eval", "exec"}
UNSAFE_ARGUMENTS = {"weights_only=False", "allow_pickle=True", "shell=True"}


def unsafe_calls(source: str) -> list[str]:
    found = []
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call):
            name, arguments = ast.unparse(call.func), {ast.unparse(keyword) for keyword in call.keywords}
            unchecked = name == "torch.load" and "weights_only=True" not in arguments
            if name in UNSAFE or arguments & UNSAFE_ARGUMENTS or unchecked:
                found.append(f"line {call.lineno}: {ast.unparse(call)}")
    return found


def test_the_source_has_no_unsafe_call():
    files = [*ROOT.glob("openrayzer/**/*.py"), *ROOT.glob("registry/**/*.py"), *ROOT.glob("tools/*.py")]
    found = [f"{file.relative_to(ROOT)}: {call}" for file in files for call in unsafe_calls(file.read_text("utf-8"))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("call", ["torch.load(file)", "exec(text)", "np.load(file, allow_pickle=True)"])
def test_an_unsafe_call_is_found(call: str):
    assert unsafe_calls(f"def read(file, text):\n    return {call}\n")
    assert not unsafe_calls(f'"""{call}"""')


@pytest.mark.slow
def test_no_secret_of_the_environment_is_in_a_run_folder(tmp_path: Path):
    secrets = {"WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567", "HF_TOKEN": "hf_secretsecretsecret",
               "MY_PASSWORD": "correct-horse-battery"}  # fmt: skip
    loggers = json.dumps([{"type": "wandb"}, {"type": "tensorboard"}])
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/train.py"), "--exp", str(EXPERIMENT), "--output", "run", "--set",
         "train.steps=2", f"logging={loggers}"],
        cwd=tmp_path, env=clean_environment() | secrets, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert any("wandb" in str(path) for path in files)
    for text in (done.stdout, done.stderr, *(path.read_bytes() for path in files)):
        assert not [name for name, secret in secrets.items() if secret.encode() in text]
    assert os.environ.get("MY_PASSWORD") is None
