"""train.initial_weights: the weights of a new run, and the messages when they cannot be used."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from toy import Evil, ToyModel

import openrayzer
from openrayzer.composer import load_experiment
from openrayzer.interfaces import InputError
from openrayzer.weights.checkpoints.manifest import checksum
from openrayzer.weights.finding import find_weights, load_weights
from openrayzer.weights.weight_folder import WEIGHTS, write_weights

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]

Train = Callable[..., int]
TINY = Path(__file__).with_name("tiny_rayzer.json")
EXACT = "ds_configs/zero2_fp32.json"


def first_loss(run: Path) -> float:
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[0])["loss"]


def run_of(folder: Path) -> dict:
    return json.loads((folder / "experiment.json").read_text())["run"]


def bright_model() -> ToyModel:
    torch.manual_seed(7)
    model = ToyModel()
    torch.nn.init.constant_(model.inner[2].bias, 5.0)
    return model


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder with the weights of a toy whose images are far too bright."""
    folder = tmp_path / "weights"
    folder.mkdir()
    write_weights(bright_model(), folder / WEIGHTS)
    return folder


@pytest.mark.parametrize("deepspeed", ["zero2", "zero3"])
def test_a_run_begins_with_the_weights_that_it_is_given(train: Train, weights: Path, tmp_path: Path, caplog, deepspeed):
    setup = {"steps": 1, "deepspeed": f"ds_configs/{deepspeed}.json"}
    train(tmp_path / "plain", **setup)
    with caplog.at_level(logging.INFO):
        train(tmp_path / "given", **setup, initial_weights=weights)
    assert first_loss(tmp_path / "plain") < 2 < 10 < first_loss(tmp_path / "given")
    assert f"starting from the weights of {weights / WEIGHTS}, 1 steps" in caplog.text
    assert run_of(tmp_path / "given")["started_from"] == str(weights / WEIGHTS)
    assert "started_from" not in run_of(tmp_path / "plain")


def test_a_file_a_folder_a_checkpoint_and_a_run_folder_give_the_same(train: Train, tmp_path: Path):
    train(tmp_path / "run", steps=3, checkpoint_every=1, deepspeed=EXACT)
    newest = tmp_path / "run/checkpoints/step_00000003"
    (tmp_path / "folder").mkdir()
    write_weights(load_weights(newest), tmp_path / "folder" / WEIGHTS)
    places = [tmp_path / "run", newest, tmp_path / "folder", tmp_path / "folder" / WEIGHTS]
    losses = set()
    for number, place in enumerate(places):
        train(tmp_path / str(number), steps=1, deepspeed=EXACT, initial_weights=place)
        losses.add(first_loss(tmp_path / str(number)))
    train(tmp_path / "older", steps=1, deepspeed=EXACT, initial_weights=newest.with_name("step_00000001"))
    assert len(losses) == 1
    assert first_loss(tmp_path / "older") not in losses


def test_the_newest_good_checkpoint_of_a_run_is_taken_and_the_damage_named(train: Train, tmp_path: Path, caplog):
    train(tmp_path / "run", steps=2, checkpoint_every=1)
    (tmp_path / "run/checkpoints/step_00000002/rank_00000.pt").unlink()
    assert find_weights(tmp_path / "run") == tmp_path / "run/checkpoints/step_00000001"
    assert "step_00000002 IS DAMAGED (rank_00000.pt is missing)" in caplog.text


def test_a_resume_goes_on_with_its_own_weights_wherever_the_first_ones_are(train: Train, weights: Path, tmp_path: Path):
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    train(straight, steps=4, initial_weights=weights)
    for folder, steps, given in ((stopped, 2, weights), (stopped, 3, tmp_path / "gone"), (stopped, 4, None)):
        train(folder, steps=steps, initial_weights=given)
        if given == weights:
            shutil.copytree(weights, tmp_path / "elsewhere")
    shutil.rmtree(weights)
    lines = [(run / "metrics.jsonl").read_text().splitlines() for run in (straight, stopped)]
    one, other = ([json.loads(line)["loss"] for line in group] for group in lines)
    assert one == pytest.approx(other, rel=0.2)
    assert len(one) == len(other) == 4
    assert run_of(stopped)["started_from"] == str(weights / WEIGHTS)


def test_weights_that_do_not_fit_are_listed_and_leave_no_trace(train: Train, weights: Path, tmp_path: Path):
    write_weights(torch.nn.Linear(2, 2), weights / WEIGHTS)
    with pytest.raises(InputError) as caught:
        train(tmp_path / "run", initial_weights=weights)
    message = str(caught.value)
    assert message.startswith(f"train.initial_weights: the weights in {weights / WEIGHTS} do not fit the model: ")
    for part in ("inner.0.weight is missing", "bias is unknown to the model", "weight is unknown to the model"):
        assert part in message
    assert not (tmp_path / "run").exists()


def test_a_path_without_weights_is_a_message_and_leaves_no_trace(train: Train, weights: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "model.pt").write_text("")
    (weights / WEIGHTS).write_bytes((weights / WEIGHTS).read_bytes()[:-1])
    for wrong, reason in (
        (tmp_path / "nowhere", "there are no weights in .*nowhere: it does not exist"),
        (tmp_path / "empty", "there are no weights in .*empty: it has no checkpoint yet and no model.safetensors"),
        (tmp_path / "model.pt", "model.pt is not a .safetensors file"),
        (weights, r"model.safetensors cannot be read as a file of weights \(.*\); write or download it again"),
    ):
        with pytest.raises(InputError, match=f"^train.initial_weights: .*{reason}"):
            train(tmp_path / "run", initial_weights=wrong)
        assert not (tmp_path / "run").exists()


def test_a_log_with_only_the_error_is_removed(train: Train, tmp_path: Path):
    train(tmp_path / "first", steps=2, checkpoint_every=1)
    for place in (tmp_path / "first/checkpoints").glob("step_*"):
        (place / "rank_00000.pt").unlink()
    with pytest.raises(InputError, match=r"^train.initial_weights: .*all 2 checkpoint\(s\) are damaged"):
        train(tmp_path / "run", initial_weights=tmp_path / "first")
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match=r"step_00000002 is a damaged checkpoint: rank_00000.pt is missing"):
        train(tmp_path / "run", initial_weights=tmp_path / "first/checkpoints/step_00000002")


def test_a_log_of_an_earlier_run_stays(train: Train, tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/train.log").write_text("mine")
    with pytest.raises(InputError, match="does not exist"):
        train(tmp_path / "run", initial_weights=tmp_path / "nowhere")
    assert (tmp_path / "run/train.log").read_text() == "mine"


def test_weights_in_pieces_are_put_together(train: Train, tmp_path: Path):
    train(tmp_path / "first", steps=1, deepspeed="ds_configs/zero3.json")
    assert train(tmp_path / "run", steps=1, initial_weights=tmp_path / "first") == 0


def test_no_checkpoint_of_initial_weights_can_run_code(train: Train, tmp_path: Path):
    train(tmp_path / "first", steps=1)
    place, name = tmp_path / "first/checkpoints/step_00000001", "mp_rank_00_model_states.pt"
    torch.save({"module": Evil(tmp_path / "harmed")}, place / name)
    manifest = json.loads((place / "manifest.json").read_text())
    manifest["files"][name] = [(place / name).stat().st_size, checksum(place / name)]
    (place / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(
        InputError, match=r"step_00000001 cannot be read as weights: .* contains code, which is not run"
    ):
        train(tmp_path / "run", initial_weights=tmp_path / "first")
    assert not (tmp_path / "harmed").exists()


# An imported folder: experiment.json and model.safetensors, nothing else.


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the rooms of tiny_rayzer for all tests."""
    return tmp_path_factory.mktemp("rooms") / "rooms"


@pytest.fixture
def imported(rooms: Path, tmp_path: Path) -> Path:
    """A tiny RayZer that an import wrote."""
    roots = [f"data.{split}[0].dataset.root={rooms}" for split in ("train", "test")]
    exact = ["data.workers=0", "train.sample_every=0", "train.evaluate_every=1", "train.steps=2", "train.log_every=1"]
    plan = load_experiment(TINY, overrides=[*roots, *exact, f"deepspeed={Path(EXACT).absolute()}"])
    torch.manual_seed(123)
    folder = tmp_path / "imported"
    folder.mkdir()
    record = {**plan.resolved, "run": {"imported": {"license": "none given", "source": "somewhere"}}}
    (folder / "experiment.json").write_text(json.dumps(record))
    write_weights(plan.build().model, folder / WEIGHTS)
    return folder


def test_an_imported_folder_trains_on_in_place_and_elsewhere(train_file: Train, imported: Path, tmp_path: Path, caplog):
    experiment = imported / "experiment.json"
    before = openrayzer.load_model(imported).state_dict()
    with pytest.raises(InputError, match="already holds a run, which is not overwritten: go on with --resume auto"):
        train_file(experiment, imported, resume="none")
    elsewhere = tmp_path / "elsewhere"
    assert train_file(experiment, elsewhere, f"train.initial_weights={imported}") == 0
    assert train_file(experiment, tmp_path / "random") == 0
    with caplog.at_level(logging.INFO):
        assert train_file(experiment, imported, "train.steps=1") == 0
    assert f"starting from the weights of {imported / WEIGHTS}" in caplog.text
    assert first_loss(imported) == first_loss(elsewhere) != first_loss(tmp_path / "random")
    assert train_file(experiment, imported, "train.steps=2") == 0
    for run in (imported, elsewhere):
        assert run_of(run)["imported"] == {"license": "none given", "source": "somewhere"}
        assert run_of(run)["started_from"] == str(imported / WEIGHTS)
        trained = openrayzer.load_model(run).state_dict()
        assert not all(torch.equal(value, trained[name]) for name, value in before.items())
    assert "imported" not in run_of(tmp_path / "random")


def test_weights_that_fit_another_model_are_taken_with_a_warning(
    train_file: Train, imported: Path, tmp_path: Path, caplog
):
    change = 'model.attention={"type": "reference"}'
    train_file(imported / "experiment.json", tmp_path / "run", f"train.initial_weights={imported}", change)
    assert "were trained in a model with other settings:" in caplog.text
    assert '.attention.type: "sdpa" -> "reference"' in caplog.text
    caplog.clear()
    train_file(imported / "experiment.json", tmp_path / "same", f"train.initial_weights={imported}")
    assert "differs" not in caplog.text


def test_another_model_cannot_start_in_an_imported_folder(train_file: Train, imported: Path):
    listed = sorted(path.name for path in imported.iterdir())
    with pytest.raises(
        InputError, match=r"^--output .*imported: the weights in .* do not fit the model: .* is missing"
    ):
        train_file(imported / "experiment.json", imported, "model.encoder_depth=3")
    assert sorted(path.name for path in imported.iterdir()) == listed
