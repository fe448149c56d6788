"""Weight files are read back exactly, written completely or not at all, and refused with a list if they do not fit."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_model as safetensors_load
from safetensors.torch import save_file, save_model
from torch import nn

from openrayzer.interfaces import InputError
from openrayzer.weights.weight_folder import WEIGHTS, fill, find_experiment, origin_of, read_weights, write_weights


class Tied(nn.Module):
    """Two linear layers with a shared weight, and a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.second, self.first = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.register_buffer("count", torch.tensor(3))


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(name == second and torch.equal(a, b) for (name, a), (second, b) in pairs)


@pytest.mark.parametrize("from_state", [False, True])
def test_weights_are_read_back_and_a_shared_weight_is_stored_once(tmp_path: Path, from_state: bool):
    model, again = Tied(), Tied()
    write_weights(model.state_dict() if from_state else model, tmp_path / WEIGHTS)
    with safe_open(tmp_path / WEIGHTS, "pt") as file:
        assert file.metadata() == {"format": "pt", "second.weight": "first.weight"}
        assert set(file.keys()) == {"first.weight", "first.bias", "second.bias", "count"}
    fill(again, read_weights(tmp_path / WEIGHTS), source=tmp_path)
    assert equal(model, again)
    assert again.first.weight is again.second.weight
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS]
    (tmp_path / "other").touch()
    assert (tmp_path / WEIGHTS).stat().st_mode == (tmp_path / "other").stat().st_mode


def test_safetensors_reads_our_files_and_we_read_theirs(tmp_path: Path):
    model, again, third = Tied(), Tied(), Tied()
    write_weights(model, tmp_path / "ours.safetensors")
    safetensors_load(again, tmp_path / "ours.safetensors", strict=True)
    save_model(model, str(tmp_path / "theirs.safetensors"))
    fill(third, read_weights(tmp_path / "theirs.safetensors"), source=tmp_path)
    assert equal(model, again)
    assert equal(model, third)


def test_a_shared_weight_may_be_given_under_any_of_its_names_if_all_values_agree(tmp_path: Path):
    model, again = Tied(), Tied()
    both = {name: value.clone() for name, value in model.state_dict().items()}
    fill(again, both, source=tmp_path)
    assert equal(model, again)
    fill(Tied(), {name: value for name, value in both.items() if name != "first.weight"}, source=tmp_path)
    both["second.weight"] += 1
    with pytest.raises(InputError, match=r"second.weight and first.weight are one weight of the model but differ"):
        fill(again, both, source=tmp_path)


def test_floats_become_float32_and_views_of_a_tensor_are_stored_separately(tmp_path: Path):
    rows = torch.arange(12.0).reshape(4, 3)
    state = {
        "upper": rows[:2], "lower": rows[2:], "turned": rows.T, "flat": rows.view(-1), "half": rows.bfloat16(),
        "double": rows.double(), "count": torch.tensor([5]), "empty": torch.zeros(0), "also_empty": torch.zeros(0),
    }  # fmt: skip
    write_weights(state, tmp_path / WEIGHTS)
    found = read_weights(tmp_path / WEIGHTS)
    assert found.keys() == state.keys()
    for name, value in found.items():
        assert value.dtype == (torch.int64 if name == "count" else torch.float32)
        assert torch.equal(value, state[name].to(value.dtype)), name


def test_a_model_keeps_its_precision_when_it_is_filled(tmp_path: Path):
    model = nn.Linear(2, 2).bfloat16()
    write_weights(model, tmp_path / WEIGHTS)
    again = nn.Linear(2, 2).bfloat16()
    fill(again, read_weights(tmp_path / WEIGHTS), source=tmp_path)
    assert equal(model, again)


def test_all_weights_that_do_not_fit_are_listed_and_the_model_is_not_changed(tmp_path: Path):
    model = Tied()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    bad = {
        "first.weight": torch.zeros(4, 5), "first.bias": torch.full((4,), float("nan")), "third.bias": torch.zeros(4),
        "count": torch.tensor(1),
    }  # fmt: skip
    with pytest.raises(InputError) as caught:
        fill(model, bad, source=tmp_path / WEIGHTS)
    message = str(caught.value)
    assert message.startswith(f"the weights in {tmp_path / WEIGHTS} do not fit the model: ")
    for part in (
        "first.weight has shape (4, 5) instead of (4, 4)",
        "first.bias has values that are not finite",
        "second.bias is missing",
        "third.bias is unknown to the model",
    ):
        assert part in message
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_missing_truncated_and_other_files_are_refused(tmp_path: Path):
    file = tmp_path / WEIGHTS
    with pytest.raises(InputError, match=r"model.safetensors does not exist; write or download it again"):
        read_weights(file)
    write_weights(Tied(), file)
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"cannot be read as a file of weights \(.*\); write or download it again"):
        read_weights(file)
    with pytest.raises(InputError, match=r"model.pt is not a .safetensors file, the only kind"):
        read_weights(tmp_path / "model.pt")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / WEIGHTS
    write_weights({"a": torch.ones(1)}, file)

    def half(tensors, path, metadata):
        save_file(tensors, path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("openrayzer.weights.weight_folder.save_file", half)
    with pytest.raises(InputError, match=r"model.safetensors could not be written: .*No space left.*; free some space"):
        write_weights({"a": torch.zeros(1)}, file)
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS]
    assert read_weights(file)["a"] == 1
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"model.safetensors/model.safetensors could not be written"):
        write_weights({"a": torch.zeros(1)}, file / WEIGHTS)


def test_the_experiment_file_is_found_or_its_absence_is_explained(tmp_path: Path):
    with pytest.raises(InputError, match=r"nor a weight folder: it has neither experiment.json nor config.json"):
        find_experiment(tmp_path)
    with pytest.raises(InputError, match=r"nowhere is neither a run folder nor a weight folder: it does not exist"):
        find_experiment(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{}")
    assert find_experiment(tmp_path).name == "config.json"
    with pytest.raises(InputError, match=r"config.json is neither a run folder nor a weight folder: it is a file"):
        find_experiment(tmp_path / "config.json")
    (tmp_path / "experiment.json").write_text("{}")
    assert find_experiment(tmp_path).name == "experiment.json"


def test_the_origin_is_read_from_the_section_run():
    assert origin_of({"run": {"imported": {"license": "none", "notes": ("a",)}}}) == {"license": "none", "notes": ["a"]}
    assert origin_of({"run": {"world_size": 1}}) == {}
    assert origin_of({}) == {}
