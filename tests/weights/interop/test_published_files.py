"""Weights are read from wrapped, prefixed and half-precision files; other files are refused with a reason."""

import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from published import efficient_lvsm, lvsm
from safetensors.torch import save_file
from torch import Tensor, nn

from openrayzer.interfaces import InputError
from openrayzer.weights.interop.published_files import read_configuration, read_weights_file


class Payload:
    """Would write a file if it were ever unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def saved(folder: Path, content: Any) -> Path:
    torch.save(content, folder / "weights.pt")
    return folder / "weights.pt"


def assert_equal(state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert state.keys() == expected.keys()
    for name, value in state.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, expected[name].float()), name


WRAPPINGS = {
    "alone": lambda state: state,
    "training checkpoint": lambda state: {"model": state, "optimizer": {"step": 3}, "fwdbwd_pass_step": 7},
    "DeepSpeed": lambda state: {"module": state, "dp_world_size": 2, "ds_version": "0.19"},
    "DDP": lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
    "compiled": lambda state: {f"_orig_mod.{name}": value for name, value in state.items()},
    "compiled under DDP": lambda state: {f"module._orig_mod.{name}": value for name, value in state.items()},
    "Lightning": lambda state: {"state_dict": {f"model.{name}": value for name, value in state.items()}, "epoch": 1},
    "blocks compiled": lambda state: {
        name.replace("coder.0.", "coder.0._orig_mod."): value for name, value in state.items()
    },
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_weights_are_found_inside_of_wrappings(tmp_path: Path, wrapping: str):
    state = lvsm()
    found = read_weights_file(saved(tmp_path, WRAPPINGS[wrapping](state)))
    assert_equal(found.state, state)
    beside = wrapping in ("training checkpoint", "DeepSpeed", "Lightning")
    assert any("only its weights are imported, not" in note for note in found.notes) == beside


def test_a_note_lists_the_parts_of_a_training_checkpoint_that_are_left_out(tmp_path: Path):
    found = read_weights_file(saved(tmp_path, WRAPPINGS["training checkpoint"](lvsm())))
    assert found.notes == (
        "this is a training checkpoint: only its weights are imported, not fwdbwd_pass_step, optimizer",
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32_with_a_note(tmp_path: Path, dtype: torch.dtype):
    state = {name: value.to(dtype) for name, value in lvsm().items()}
    found = read_weights_file(saved(tmp_path, state))
    assert_equal(found.state, state)
    assert found.notes == (f"weights in {str(dtype).removeprefix('torch.')} are converted to float32",)


def test_safetensors_are_read(tmp_path: Path):
    save_file(lvsm(), tmp_path / "weights.safetensors")
    assert_equal(read_weights_file(tmp_path / "weights.safetensors").state, lvsm())


def test_the_loss_network_is_dropped_and_counted(tmp_path: Path):
    network = {f"loss_computer.perceptual_loss_module.vgg.features.{i}.weight": torch.zeros(2) for i in range(3)}
    found = read_weights_file(saved(tmp_path, {"model": lvsm() | network}))
    assert_equal(found.state, lvsm())
    assert found.notes == (
        "3 weight(s) of the perceptual loss (loss_computer.*) are left out: the model has no such part",
    )


def test_teacher_and_projectors_of_repa_are_dropped_and_counted_whatever_their_prefixes_and_dtypes(tmp_path: Path):
    state = {f"module._orig_mod.{name}": value for name, value in efficient_lvsm().items()}
    teacher = {"rope.periods": torch.zeros(2), "blocks.0.counter": torch.zeros((), dtype=torch.long)}
    state |= {f"module._orig_mod.repa_encoder.{name}": value for name, value in teacher.items()}
    state |= {f"module._orig_mod.repa_projector.input.8.2.{layer}.bias": torch.zeros(3) for layer in (0, 2, 4)}
    found = read_weights_file(saved(tmp_path, {"model": state}))
    assert_equal(found.state, efficient_lvsm())
    assert found.notes == (
        "2 weight(s) of the frozen teacher of REPA (repa_encoder.*) are left out: the model has no such part",
        "3 weight(s) of the projectors of REPA, which only training uses (repa_projector.*) are left out: "
        "the model has no such part",
    )


def test_code_in_a_pickle_is_named_and_never_run(tmp_path: Path):
    target = tmp_path / "made by the pickle"
    for file in (saved(tmp_path, {"model": Payload(target)}), tmp_path / "plain.pt"):
        if not file.exists():
            file.write_bytes(pickle.dumps({"model": Payload(target)}, protocol=2))
        with pytest.raises(InputError, match=r"holds posix.mkdir, which is code, and code from a file is never run"):
            read_weights_file(file)
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (SimpleNamespace(a=1), "holds types.SimpleNamespace, which is code"),
        (nn.Linear(1, 1), "holds torch.nn.modules.linear.Linear, which is code"),
        ({"model": lvsm(), "args": SimpleNamespace(a=1)}, "holds types.SimpleNamespace"),
        ([torch.zeros(1)], "holds no tensors by name"),
        ({}, "holds no tensors by name"),
        ({"model": {"a": torch.zeros(1), "b": 3}}, "these are not tensors: b"),
        ({"a": torch.zeros(2, dtype=torch.long)}, r"1 weight\(s\) cannot be used: a is torch.int64"),
        ({"a": torch.zeros(2).to(torch.float8_e4m3fn)}, "a is torch.float8_e4m3fn"),
        ({"a": torch.eye(2).to_sparse()}, "a is torch.sparse_coo"),
        ({"a": torch.zeros(2, device="meta")}, "a is a placeholder without values"),
        ({"a": torch.tensor([1.0, float("nan")])}, "a has values that are not finite"),
        (
            {"module": {"a": torch.zeros(0)}},
            r"1 weight\(s\) have no values: a; if DeepSpeed wrote it with ZeRO stage 3",
        ),
    ],
)
def test_other_content_than_a_state_dict_is_refused(tmp_path: Path, content: Any, message: str):
    with pytest.raises(InputError, match=message):
        read_weights_file(saved(tmp_path, content))


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.95])
def test_truncated_files_are_refused(tmp_path: Path, name: str, kept: float):
    file = tmp_path / name
    torch.save(lvsm(), file) if name.endswith(".pt") else save_file(lvsm(), file)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(InputError, match="cannot be read as a file of weights"):
        read_weights_file(file)


def test_names_that_are_equal_without_their_prefixes_are_refused(tmp_path: Path):
    state = {"a.weight": torch.zeros(1), "_orig_mod.a.weight": torch.ones(1)}
    with pytest.raises(InputError, match=r"two weights have the same name: a.weight"):
        read_weights_file(saved(tmp_path, state))


def test_the_kind_of_a_file_is_read_from_its_content_not_its_name(tmp_path: Path):
    save_file(lvsm(), tmp_path / "named.pt")
    torch.save(lvsm(), tmp_path / "named.safetensors")
    for name in ("named.pt", "named.safetensors"):
        assert_equal(read_weights_file(tmp_path / name).state, lvsm())


@pytest.mark.parametrize(
    "content", [b"", b"some text that is not a file of weights", pickle.dumps({"a": 1}, protocol=4)]
)
def test_files_without_tensors_are_refused(tmp_path: Path, content: bytes):
    (tmp_path / "weights.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"weights.pt (cannot be read as a file of weights|holds no tensors)"):
        read_weights_file(tmp_path / "weights.pt")


def test_a_configuration_file_overrides_the_configuration_in_the_weights(tmp_path: Path):
    (tmp_path / "c.yaml").write_text("model: {d: 3}")
    known = {"model": {"d": 2, "e": 1}, "training": {"views": 5}}
    values = read_configuration(tmp_path / "c.yaml", ["model.f=4"], known=known).values
    assert values == {"model": {"d": 3, "e": 1, "f": 4}, "training": {"views": 5}}


def test_folders_and_missing_files_are_refused(tmp_path: Path):
    saved(tmp_path, lvsm())
    with pytest.raises(InputError, match=r"is a folder; give the file in it that holds the weights: weights.pt"):
        read_weights_file(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        read_weights_file(tmp_path / "other.pt")


def test_a_configuration_is_read_with_and_without_the_root_of_open_rayzer(tmp_path: Path):
    for number, text in enumerate(("model: {d: 3}", "parameters:\n  model: {d: 3}", '{"model": {"d": 3}}')):
        file = tmp_path / f"{number}.yaml"
        file.write_text(text)
        configuration = read_configuration(file, ["model.e=true", "training.views=[1, 2]"])
        assert configuration.values == {"model": {"d": 3, "e": True}, "training": {"views": [1, 2]}}
        assert configuration.whole


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "cannot be read"),
        ("- 1", "expected keys and values"),
        ("!!python/object/apply:os.mkdir [x]", "cannot be read"),
    ],
)
def test_broken_configurations_are_refused(tmp_path: Path, text: str, message: str):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        read_configuration(tmp_path / "c.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        read_configuration(tmp_path / "missing.yaml")


@pytest.mark.parametrize("given", ["model", "=1", "a..b=1", "a=["])
def test_malformed_given_values_are_refused(given: str):
    with pytest.raises(InputError, match="--given"):
        read_configuration(None, [given])
