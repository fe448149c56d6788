"""load_model loads runs, imported and exported folders and models on the hub, and explains everything else."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import errors

import openrayzer
from openrayzer.composer import ExperimentPlan, construct, load_experiment
from openrayzer.interfaces import InputError, Model
from openrayzer.layers.weight_files import pretrained_weights_are_skipped, skip_pretrained_weights
from openrayzer.weights.loading import open_model
from openrayzer.weights.weight_folder import WEIGHTS, read_weights, write_weights

MakeModel = Callable[[int], Model]
NAME = "somebody/rayzer"
HTTPX = sys.modules[errors.HTTPError.__module__.partition(".")[0]]
"""The HTTP package that huggingface_hub uses."""


def same(one: Model, other: Model) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def as_exported(folder: Path) -> Path:
    return (folder / "experiment.json").rename(folder / "config.json").parent


def test_an_imported_and_an_exported_folder_load(imported: Path, make_model: MakeModel):
    model = openrayzer.load_model(imported)
    assert same(model, make_model(1))
    assert not model.training
    assert same(openrayzer.load_model(str(as_exported(imported))), make_model(1))


def test_checkpoints_are_preferred_to_the_file(imported: Path, make_model: MakeModel, add_checkpoint):
    add_checkpoint(imported, step=3, seed=3)
    newest = add_checkpoint(imported, step=10, seed=10)
    assert same(openrayzer.load_model(imported), make_model(10))
    assert same(openrayzer.load_model(imported, checkpoint="step_00000003"), make_model(3))
    assert same(openrayzer.load_model(newest), make_model(10))
    with pytest.raises(InputError, match=r"checkpoint 'step_4': .*has: step_00000003, step_00000010"):
        openrayzer.load_model(imported, checkpoint="step_4")


def test_only_the_model_is_built(imported: Path, make_model: MakeModel):
    file = imported / "experiment.json"
    experiment = json.loads(file.read_text())
    experiment["data"]["train"][0]["dataset"] = {"type": "chunks", "root": "/not/on/this/machine"}
    experiment["deepspeed"] = "/not/on/this/machine.json"
    experiment["train"]["initial_weights"] = "/not/on/this/machine"
    file.write_text(json.dumps(experiment))
    assert same(openrayzer.load_model(imported), make_model(1))


def test_a_model_is_opened_with_its_experiment_before_its_weights_are_read(imported: Path, make_model: MakeModel):
    weights = (imported / WEIGHTS).read_bytes()
    (imported / WEIGHTS).write_bytes(b"")
    saved = open_model(str(imported), overrides=["data.workers=3"])
    assert saved.place == imported / WEIGHTS
    assert saved.plan.resolved["data"]["workers"] == 3
    with pytest.raises(InputError, match=r"model.safetensors cannot be read"):
        _ = saved.model
    (imported / WEIGHTS).write_bytes(weights)
    assert same(saved.model, make_model(1))
    assert saved.model is saved.model


def test_a_model_loads_without_the_pretrained_weights_that_it_started_from(plan: ExperimentPlan, tmp_path: Path):
    text = json.dumps(plan.resolved | {"data": plan.resolved["data"] | {"image_size": [32, 48]}})
    experiment = json.loads(text.replace('"patch_size": 8', '"patch_size": 16'))
    experiment["model"]["tokenizer"] = {"type": "dinov3", "width": 32, "checkpoint": "/not/on/this/machine.pth"}
    (tmp_path / "config.json").write_text(json.dumps(experiment))
    with pytest.raises(
        InputError, match=f"no weights in {tmp_path}: it has no checkpoint yet and no model.safetensors"
    ):
        openrayzer.load_model(tmp_path)
    with skip_pretrained_weights():
        assert pretrained_weights_are_skipped()
        model = construct(load_experiment(tmp_path / "config.json").plan.arguments["model"])
    assert not pretrained_weights_are_skipped()
    write_weights(model, tmp_path / WEIGHTS)
    assert same(openrayzer.load_model(tmp_path), model)


def test_weights_of_another_model_are_listed(imported: Path):
    state = read_weights(imported / WEIGHTS)
    gone = sorted(state)[0]
    kept = sorted(state)[1]
    changed = {name: value for name, value in state.items() if name != gone} | {"other": torch.zeros(1)}
    changed[kept] = torch.zeros(2, 3, 4)
    write_weights(changed, imported / WEIGHTS)
    with pytest.raises(InputError) as caught:
        openrayzer.load_model(imported)
    for part in (str(imported / WEIGHTS), f"{gone} is missing", "other is unknown", f"{kept} has shape (2, 3, 4)"):
        assert part in str(caught.value)


def test_a_configuration_of_another_model_is_explained(imported: Path):
    file = imported / "experiment.json"
    file.write_text(json.dumps({"architectures": ["BertModel"], "hidden_size": 8}))
    with pytest.raises(InputError, match=r"architectures: an experiment has no such section"):
        openrayzer.load_model(imported)


def test_a_truncated_file_and_a_folder_of_something_else_are_explained(imported: Path, tmp_path: Path):
    (imported / WEIGHTS).write_bytes((imported / WEIGHTS).read_bytes()[:1000])
    with pytest.raises(InputError, match=r"model.safetensors cannot be read as a file of weights"):
        openrayzer.load_model(imported)
    with pytest.raises(InputError, match=r"is neither a run folder nor a weight folder: it has neither experiment"):
        openrayzer.load_model(tmp_path)
    with pytest.raises(InputError, match=r"/no/where is neither a run folder nor a weight folder: it does not exist"):
        openrayzer.load_model("/no/where")


def test_the_message_names_a_missing_part_of_a_checkpoint(imported: Path, add_checkpoint):
    add_checkpoint(imported, step=3, seed=3, zero_stage=3)
    with pytest.raises(InputError, match=r"step_00000003 cannot be read as a checkpoint: no file .*zero_pp_rank_0"):
        openrayzer.load_model(imported)


# Hugging Face hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[object], list]:
    """The hub gives a folder, or raises; returns the requests."""
    monkeypatch.chdir(tmp_path)

    def answer(with_what: object) -> list:
        asked: list = []

        def snapshot_download(name: str, **more: object) -> str:
            asked.append((name, more))
            if isinstance(with_what, BaseException):
                raise with_what
            return str(with_what)

        monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
        return asked

    return answer


def refusal(kind: type, status: int) -> Exception:
    request = HTTPX.Request("GET", "https://huggingface.co/api/models/somebody/rayzer")
    return kind("the hub's words\nand more", response=HTTPX.Response(status, request=request))


def test_a_name_on_the_hub_loads_and_only_weights_are_fetched(hub, imported: Path, make_model: MakeModel):
    asked = hub(as_exported(imported))
    assert same(openrayzer.load_model(NAME), make_model(1))
    assert asked == [(NAME, {"allow_patterns": ["config.json", "model.safetensors"]})]


def test_a_folder_of_that_name_comes_first(hub, imported: Path, make_model: MakeModel, tmp_path: Path):
    asked = hub(AssertionError("the hub was asked"))
    (tmp_path / "somebody").mkdir()
    imported.rename(tmp_path / NAME)
    assert same(openrayzer.load_model(NAME), make_model(1))
    for path in ("/no/where", "./somebody/else", "a/b/c", "nowhere", "../x"):
        with pytest.raises(InputError, match="does not exist"):
            openrayzer.load_model(path)
    assert asked == []


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (refusal(errors.RepositoryNotFoundError, 404), ["no such folder here, and no such model", "hf auth login"]),
        (refusal(errors.GatedRepoError, 403), ["access on request", f"https://huggingface.co/{NAME}", "hf auth login"]),
        (refusal(errors.HfHubHTTPError, 503), ["HfHubHTTPError: the hub's words)", f"hf download {NAME} --local-dir"]),
        (refusal(errors.RevisionNotFoundError, 404), ["RevisionNotFoundError", "hf download"]),
        (errors.LocalEntryNotFoundError("no network"), ["no network", "there is no such folder here", "hf download"]),
        (errors.OfflineModeIsEnabled("HF_HUB_OFFLINE=1"), ["HF_HUB_OFFLINE=1", "hf download"]),
        (errors.HFValidationError("no repo id"), ["not a valid name on the hub: no repo id", "check the spelling"]),
        (HTTPX.ProxyError("no proxy"), ["ProxyError: no proxy", "hf download"]),
        (HTTPX.ReadTimeout("too slow"), ["ReadTimeout: too slow", "try again when the network is there"]),
        (OSError(28, "No space left on device"), ["No space left on device"]),
    ],
)  # fmt: skip
def test_every_refusal_of_the_hub_is_one_message_with_a_remedy(hub, error: Exception, parts: list[str]):
    hub(error)
    with pytest.raises(InputError) as caught:
        openrayzer.load_model(NAME)
    assert str(caught.value).startswith(f"{NAME} cannot be loaded from the Hugging Face hub (")
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_a_cached_model_loads_without_a_network(
    imported: Path, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Uses the layout of huggingface_hub's cache."""
    monkeypatch.chdir(tmp_path)
    kept = tmp_path / "hub/models--somebody--rayzer"
    (kept / "snapshots").mkdir(parents=True)
    (kept / "refs").mkdir()
    (kept / "refs/main").write_text("0" * 40)
    as_exported(imported).rename(kept / "snapshots" / ("0" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert same(openrayzer.load_model(NAME), make_model(1))
    with pytest.raises(InputError, match=r"somebody/else cannot be loaded .*LocalEntryNotFoundError: Cannot find"):
        openrayzer.load_model("somebody/else")


def test_a_model_of_something_else_on_the_hub_is_refused(hub, imported: Path):
    hub(imported)  # it has no config.json
    with pytest.raises(InputError, match=r"somebody/rayzer on the Hugging Face hub has no config.json, so it is not"):
        openrayzer.load_model(NAME)
    (as_exported(imported) / WEIGHTS).unlink()
    with pytest.raises(InputError, match=r"has no model.safetensors, so it is not an openrayzer model"):
        openrayzer.load_model(NAME)


@pytest.mark.parametrize("more", [{"plugins": ["parts.py"]}, {"plugins": ["this"]}, {"extends": "base.json"}])
def test_code_from_the_hub_is_not_run(hub, imported: Path, more: dict, capsys: pytest.CaptureFixture[str]):
    file = as_exported(imported) / "config.json"
    (imported / "parts.py").write_text("print('it ran')")
    (imported / "base.json").write_text(json.dumps({"plugins": ["parts.py"]}))
    file.write_text(json.dumps(json.loads(file.read_text()) | more))
    hub(imported)
    with pytest.raises(InputError, match=r"needs code \(.*which is not run directly from the hub.*load F"):
        openrayzer.load_model(NAME)
    assert "it ran" not in capsys.readouterr().out
