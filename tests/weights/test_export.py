"""An exported folder is complete or absent, loads the same weights, and its model card is correct."""

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors import safe_open

import openrayzer
from openrayzer.cli import run_tool
from openrayzer.composer import load_experiment
from openrayzer.interfaces import InputError, Model
from openrayzer.weights.export import export_weights
from openrayzer.weights.export.export_folder import card_of
from openrayzer.weights.weight_folder import WEIGHTS

ROOT = Path(__file__).parents[2]
MakeModel = Callable[[int], Model]
TEST = {
    "step": 8, "split": "test", "psnr": 20.123456, "psnr_nearest_context": 19.5, "psnr_mean_context": 18.25,
    "psnr_shuffled_cameras": 17.0, "expected": 3, "evaluated": 2, "skipped_scenes": 1,
    "target_pixels_used_for_cameras": True,
}  # fmt: skip


def same(one: Model, other: Model) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.fixture
def run(imported: Path, add_checkpoint) -> Path:
    """Return a run folder after eight steps from random weights, with checkpoints and metrics only."""
    folder = imported.rename(imported.with_name("my_run"))
    (folder / WEIGHTS).unlink()
    experiment = json.loads((folder / "experiment.json").read_text())
    experiment["run"] = {"git_commit": "abc", "world_size": 1, "deepspeed": {"nvme_path": "/local/nvme"}}
    experiment["deepspeed"] = "/home/me/openrayzer/ds_configs/zero2_bf16.json"
    experiment["logging"] = [{"type": "wandb", "entity": "me"}]
    experiment["data"]["train"][0]["dataset"]["root"] = "/data/rooms_of_mine"
    experiment["description"] = "Rooms, for a try."
    (folder / "experiment.json").write_text(json.dumps(experiment))
    add_checkpoint(folder, step=4, seed=4)
    add_checkpoint(folder, step=8, seed=8)
    lines = [{"step": 8, "split": "train", "loss": 1.0}, TEST | {"step": 4, "psnr": 10.0}, TEST, {"split": "test"}]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines[:3])) + '\n{"step": 9, "sp')
    return folder


def test_a_terminal_gets_the_stages_of_an_export(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    export_weights(run, tmp_path / "exported")
    drawn = capsys.readouterr().err
    assert "0/2 stages, reading step_00000008" in drawn
    assert "2/2 stages, took 0:00:0" in drawn


def test_an_export_has_the_files_that_the_hub_expects_and_the_same_weights(
    run: Path, make_model: MakeModel, tmp_path: Path
):
    output = tmp_path / "to/rayzer-tiny"
    exported = export_weights(run, output, license="apache-2.0")
    assert sorted(path.name for path in output.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert [path.name for path in output.parent.iterdir()] == ["rayzer-tiny"]
    with safe_open(output / WEIGHTS, "pt") as file:
        assert file.metadata()["format"] == "pt"
        assert {str(file.get_tensor(name).dtype) for name in file.keys()} == {"torch.float32"}  # noqa: SIM118
    model = openrayzer.load_model(output)
    assert same(model, make_model(8))
    images = torch.rand(1, 3, 3, 24, 32)
    cameras = model.estimate(images)
    expected = make_model(8)
    assert torch.equal(model.render(model.reconstruct(images, cameras), cameras),
                       expected.render(expected.reconstruct(images, cameras), cameras))  # fmt: skip
    assert (exported.name, exported.steps, exported.notes) == ("owner/rayzer-tiny", 8, ())
    assert exported.num_weights == sum(weight.numel() for weight in expected.parameters())


def test_the_configuration_loads_and_holds_nothing_of_this_machine(run: Path, add_checkpoint, tmp_path: Path):
    change(run / "experiment.json", deepspeed="/home/me/my_own.json")
    add_checkpoint(run, step=9, seed=9)
    export_weights(run, tmp_path / "newest")
    export_weights(run, tmp_path / "older", checkpoint="step_00000004")
    config = json.loads((tmp_path / "older/config.json").read_text())
    assert load_experiment(tmp_path / "older/config.json").resolved["model"] == config["model"]
    assert config["deepspeed"] == "ds_configs/zero2_bf16.json"
    assert json.loads((tmp_path / "newest/config.json").read_text())["deepspeed"] == "ds_configs/zero2.json"
    assert config["train"]["initial_weights"] is None
    assert config["logging"] == []
    assert config["run"] == {"git_commit": "abc", "world_size": 1, "steps": 4}
    text = (tmp_path / "older/config.json").read_text() + (tmp_path / "older/README.md").read_text()
    assert re.findall(r"/home|nvme|\"me\"", text) == []
    assert config["data"]["train"][0]["dataset"]["root"] == "/data/rooms_of_mine"  # as the user wrote it


def test_the_card_describes_the_weights_and_their_metrics(run: Path, tmp_path: Path):
    export_weights(run, tmp_path / "rayzer-tiny", license="apache-2.0", name="me/tiny")
    card = ModelCard.load(tmp_path / "rayzer-tiny/README.md")
    assert (card.data.library_name, card.data.license) == ("openrayzer", "apache-2.0")
    assert card.data.tags == ["openrayzer", "novel-view-synthesis", "rayzer"]
    results = {result.metric_type: result for result in card.data.eval_results}
    assert {name: result.metric_value for name, result in results.items()} == {
        "psnr": 20.1235,
        "psnr_nearest_context": 19.5,
        "psnr_mean_context": 18.25,
        "psnr_exchanged_cameras": 17.0,
    }
    assert results["psnr"].dataset_name == "synthetic rooms"
    weights = sum(value.numel() for value in openrayzer.load_model(run).parameters())
    for part in (
        "# tiny\n", "Rooms, for a try.", f"`rayzer`, {weights:,} weights", "24 x 32", "multiples of 8",
        "window(num_context=3, num_target=2", 'load_model("me/tiny")', "8 steps of 4 scenes", "synthetic rooms_of_mine",
        "| this model | 20.12 |", "| nearest context view | 19.50 |", "| mean of the context views | 18.25 |",
        "exchanged among the targets | 17.00 |", "of 3 scenes 2 were evaluated and 1 skipped", "Licence: apache-2.0",
        "Pixels of the target views were used to find the cameras of the target views.", "1 x `mse`, 0.1 x `l1`",
    ):  # fmt: skip
        assert part in card.content, part


def test_the_snippet_of_the_card_runs(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    export_weights(run, Path("owner/tiny"))
    (code,) = re.findall(r"```python\n(.*?)```", Path("owner/tiny/README.md").read_text(), flags=re.DOTALL)
    (command,) = re.findall(r"openrayzer train (.*)", Path("owner/tiny/README.md").read_text())
    Path("snippet.py").write_text(f"import torch\nimages = torch.rand(1, 4, 3, 16, 24)\n{code}")
    views = runpy.run_path("snippet.py")["views"]
    assert views.shape == (1, 4, 3, 16, 24)
    monkeypatch.chdir(Path("owner/tiny"))
    words = command.split()
    plan = load_experiment(Path(words[1]), overrides=[words[3]], data_roots=[Path(words[5])])
    assert Path(plan.resolved["train"]["initial_weights"]).is_file()


def test_metrics_of_other_weights_are_marked(run: Path, tmp_path: Path):
    lines = (TEST | {"step": 4, "psnr": None, "target_pixels_used_for_cameras": False}, TEST | {"step": 9})
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    exported = export_weights(run, tmp_path / "out")
    card = ModelCard.load(tmp_path / "out/README.md")
    assert card.data.eval_results is None
    assert "At step 4; these weights are from step 8." in card.content
    assert "| this model | not finite |" in card.content
    assert "Pixels of the target views were not used to find" in card.content
    assert "No licence was given." in card.content
    assert exported.notes == (
        "no license: others may not use weights that are published without one; give --license",
        "the last metrics are of step 4, the weights of step 8",
    )


def test_the_card_of_imported_weights_names_their_origin_and_no_metrics(
    imported: Path, make_model: MakeModel, tmp_path: Path
):
    exported = export_weights(imported, tmp_path / "out")
    assert exported.notes == ("no metrics: the run holds no evaluation",)
    card = ModelCard.load(tmp_path / "out/README.md")
    assert card.data.license == "CC BY-NC-SA 4.0"
    assert card.data.eval_results is None
    for part in (
        "0 steps with openrayzer: these are the imported weights", "There are no metrics for these weights",
        "Imported weights:", "- source: somebody/their-rayzer", "- notes: eight views at most",
        "Licence: CC BY-NC-SA 4.0",
    ):  # fmt: skip
        assert part in card.content, part
    assert "rooms" not in card.content  # these weights were not trained on the data in the file
    again = export_weights(tmp_path / "out", tmp_path / "again", license="mit")
    assert again.notes[0] == "the initial weights were published under CC BY-NC-SA 4.0, not mit"
    assert same(openrayzer.load_model(tmp_path / "again"), make_model(1))
    assert "source: somebody/their-rayzer" in (tmp_path / "again/README.md").read_text()


def test_weights_trained_from_imported_weights_keep_their_origin(imported: Path, add_checkpoint, tmp_path: Path):
    record = json.loads((imported / "experiment.json").read_text())
    change(imported / "experiment.json", run=record["run"] | {"started_from": "/home/me/theirs/model.safetensors"})
    add_checkpoint(imported, step=12, seed=3)
    export_weights(imported, tmp_path / "out")
    text = (tmp_path / "out/README.md").read_text()
    assert "12 steps of 4 scenes, starting from the weights of theirs. Data:" in text
    assert "Imported weights, trained on:" in text
    assert json.loads((tmp_path / "out/config.json").read_text())["run"] == {
        "imported": record["run"]["imported"], "started_from": "theirs", "steps": 12,
    }  # fmt: skip
    assert export_weights(tmp_path / "out", tmp_path / "again").steps == 12


def test_plugins_that_are_files_are_copied(imported: Path, tmp_path: Path):
    """Runs the tool in another process because one process cannot load a plugin from two places."""
    plugin = tmp_path / "bright_pixels.py"
    plugin.write_text(
        "from openrayzer.interfaces import LOSSES, Loss\n\n\n"
        '@LOSSES.register("bright")\nclass Bright(Loss):\n    """Brightness."""\n\n'
        "    def forward(self, prediction, target):\n        return prediction.mean()\n"
    )
    loss = [{"loss": {"type": "bright"}}]
    change(imported / "experiment.json", plugins=[str(plugin)], loss=loss)
    command = [sys.executable, ROOT / "tools/export_weights.py", "--run", imported, "--output", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"use     openrayzer.load_model('{tmp_path / 'out'}')" in done.stdout
    assert "upload  hf upload owner/out" in done.stdout
    plugin.unlink()
    assert json.loads((tmp_path / "out/config.json").read_text())["plugins"] == ["bright_pixels.py"]
    assert same(openrayzer.load_model(tmp_path / "out"), openrayzer.load_model(tmp_path / "out"))


def test_two_plugins_of_one_name_are_refused(imported: Path, tmp_path: Path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "parts.py").write_text("")
    change(imported / "experiment.json", plugins=[str(tmp_path / "a/parts.py"), str(tmp_path / "b/parts.py")])
    with pytest.raises(
        InputError, match=r"plugins: parts.py names two different files, but the exported folder can hold only one"
    ):
        export_weights(imported, tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"license": "Apache 2.0"}, r"--license 'Apache 2.0': give an identifier of https://huggingface.co/docs/hub"),
        ({"name": "a/b/c"}, r"--name 'a/b/c': a name on the hub is NAME or OWNER/NAME"),
        ({"checkpoint": "step_00000005"}, r"checkpoint 'step_00000005': .*has: step_00000004, step_00000008"),
        ({"run": Path("nowhere")}, r"there are no weights in nowhere: it does not exist"),
    ],
)
def test_a_mistake_is_explained_and_leaves_nothing(run: Path, tmp_path: Path, changes: dict, message: str):
    with pytest.raises(InputError, match=message):
        export_weights(**({"run": run, "output": tmp_path / "out"} | changes))
    assert not list(tmp_path.glob("*out*"))


def test_a_checkpoint_with_missing_parts_is_refused(run: Path, add_checkpoint, tmp_path: Path):
    add_checkpoint(run, step=9, seed=9, zero_stage=3)
    with pytest.raises(InputError, match=r"cannot be read as a checkpoint: no file \*zero_pp_rank_0_.* in it"):
        export_weights(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_existing_files_are_never_overwritten(run: Path, tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("mine")
    (tmp_path / "empty").mkdir()
    for name in ("file", "full"):
        with pytest.raises(InputError, match=rf"--output .*/{name} exists and is not empty; choose another folder"):
            export_weights(run, tmp_path / name)
    assert (tmp_path / "full/mine").read_text() == "mine"
    export_weights(run, tmp_path / "empty")
    assert (tmp_path / "empty/README.md").exists()
    with pytest.raises(InputError, match=r"--output .*file/out: cannot be written: Not a directory"):
        export_weights(run, tmp_path / "file/out")


@pytest.mark.parametrize("death", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_folder_is_complete_or_absent(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, death):
    def die(facts: object) -> str:
        raise death

    monkeypatch.setattr("openrayzer.weights.export.export_folder.model_card", die)
    with pytest.raises((InputError, KeyboardInterrupt)) as caught:
        export_weights(run, tmp_path / "out")
    assert isinstance(death, KeyboardInterrupt) or "out: cannot be written: No space left" in str(caught.value)
    assert not list(tmp_path.glob("*out*"))


def test_the_tool_explains_itself_and_its_refusals(run: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import export_weights as tool

    for arguments, code, said in (
        (["--help"], 0, "hf upload me/rayzer-re10k rayzer-re10k"),
        (["--run", str(tmp_path), "--output", str(tmp_path / "out")], 2, "error: there are no weights in"),
        (["--run", str(run), "--output", str(tmp_path / "out"), "--name", "me/x"], 0, "hf upload me/x"),
    ):
        monkeypatch.setattr(sys, "argv", ["export_weights.py", *arguments])
        with pytest.raises(SystemExit) as caught:
            run_tool(tool.main)
        output = "".join(capsys.readouterr())
        assert (caught.value.code, said in output) == (code, True), output


def test_the_card_of_a_run_is_the_card_of_its_export(run: Path, tmp_path: Path):
    export_weights(run, tmp_path / "exported" / run.name)
    assert card_of(run) == (tmp_path / "exported" / run.name / "README.md").read_text()
