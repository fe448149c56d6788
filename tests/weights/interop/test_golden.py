"""Our models reproduce the outputs and gradients in golden files on every backend; broken golden files are refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from recordings import GOLDEN, lvsm_setup, write
from safetensors.torch import load_file, save_file

from openrayzer.interfaces import ATTENTION_BACKENDS, InputError
from openrayzer.weights.interop.golden import ABSOLUTE, BY_RATIO, RELATIVE, compare
from openrayzer.weights.interop.systems import SYSTEMS

RUNNABLE = [entry.name for entry in ATTENTION_BACKENDS if not entry.target().refusal(torch.zeros(1, 2, 1, 16))]
"""Attention backends that run on a CPU."""


VIEWS = {"training": {"num_input_views": 2, "num_target_views": 2}}


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("attention", RUNNABLE)
@pytest.mark.parametrize("checkpointing", [0, 1])
def test_every_recorded_output_is_reproduced(shared: Path, name: str, attention: str, checkpointing: int):
    file = shared / f"golden/{name}.safetensors"
    arch, rows = compare(file, attention=attention, activation_checkpointing=checkpointing)
    assert arch in SYSTEMS
    assert {f"out/{row.name}" for row in rows} == {key for key in load_file(file) if key.startswith("out/")}
    for row in rows:
        assert row.tolerance == (RELATIVE if row.name in BY_RATIO else ABSOLUTE)
        assert row.passed, row


def test_an_unknown_output_and_an_output_of_another_shape_fail(tmp_path: Path):
    setup = lvsm_setup()
    outputs = setup.outputs()
    outputs |= {"depth": torch.zeros(2), "render": outputs["render"][:, :1].contiguous()}
    outputs |= {name: torch.atleast_1d(value.detach()) for name, value in outputs.items()}
    rows = {row.name: row for row in compare(write(tmp_path / "changed.safetensors", setup, outputs))[1]}
    assert rows["depth"].remark == "not computed by our model"
    assert "shape (2, 2, 3, 16, 16), recorded (2, 1, 3, 16, 16)" in rows["render"].remark
    assert {name for name, row in rows.items() if row.passed} == {"loss", "grad_norm"}


@pytest.mark.parametrize(
    ("arch", "config", "message"),
    [
        ("lvsm", VIEWS, "no published system named 'lvsm'; did you mean"),
        ("lvsm-d", VIEWS, "these are weights of 'lvsm-ed', not of 'lvsm-d'"),
        ("lvsm-ed", {}, r"training.num_input_views \(number of context views\)"),
        (
            "lvsm-ed",
            {"training": {"num_input_views": 9, "num_target_views": 2}},
            "9 context and 2 target views do not",
        ),
        ("lvsm-ed", VIEWS | {"model": {"transformer": {"d": 32}}}, "model.transformer.d: the file's config says 32"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path, arch: str, config: dict[str, Any], message: str):
    setup = lvsm_setup()
    file = write(tmp_path / "contrary.safetensors", replace(setup, arch=arch, config=config), {"loss": torch.zeros(1)})
    with pytest.raises(InputError, match=message):
        compare(file)


def test_files_without_a_recording_are_refused(tmp_path: Path):
    file = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, file)
    with pytest.raises(InputError, match="its metadata has no 'config'"):
        compare(file)
    file.write_bytes(b"no tensors here")
    with pytest.raises(InputError, match="cannot be read as a file of weights"):
        compare(file)
    with pytest.raises(InputError, match="does not exist"):
        compare(tmp_path / "missing.safetensors")
