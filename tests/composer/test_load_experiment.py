"""Experiment files: reading, extends, overrides, data roots, plugins, and their error messages."""

import json
from pathlib import Path

import pytest
import torch

from openrayzer.composer import ExperimentError, load_experiment
from openrayzer.settings import BadSteps, Experiment


@pytest.fixture
def load(toys):
    return lambda path, **others: load_experiment(path, registries=toys, **others)


@pytest.fixture
def problems(load):
    def problems(path, **others) -> tuple[str, ...]:
        with pytest.raises(ExperimentError) as caught:
            load(path, **others)
        return caught.value.problems

    return problems


@pytest.fixture
def file(write, spec) -> Path:
    return write("toy.json", spec)


def test_a_file_becomes_an_experiment(load, file):
    experiment = load(str(file)).build()
    assert isinstance(experiment, Experiment)
    assert experiment.data.image_size == (16, 32)
    assert experiment.data.train[0].dataset.root == Path("here")
    assert experiment.train.optimizer.learning_rate == 1.0
    assert experiment.train.bad_steps == BadSteps()
    assert (experiment.logging, experiment.data.test) == ((), ())


def test_resolved_has_every_default_and_loads_to_the_same_plan(load, file, write):
    planned = load(file)
    text = planned.resolved
    assert text["description"] == "toys"
    rule = {"norm_factor": 5.0, "grace_steps": 100, "max_in_a_row": 25, "loss_factor": 0.0, "dump": "stop"}
    assert text["train"]["bad_steps"] == rule
    assert text["model"]["tokenizer"] == {"type": "linear", "width": 4, "patch_size": 8}
    assert "shared" not in text
    again = load(write("again.json", text))
    assert again.plan == planned.plan
    assert again.resolved == text


def test_one_error_lists_the_problems_of_all_sections(problems, write, spec):
    spec["train"] |= {"steps": 10.0, "batch_size": "2", "bad_steps": {"grace": 1}}
    spec["trian"] = {}
    spec["description"] = 3
    spec["logging"] = {"type": "lines"}
    spec["data"]["train"][0]["wieght"] = 2
    found = problems(write("toy.json", spec))
    assert [problem.partition(":")[0] for problem in found] == [
        "trian",
        "description",
        "data.train[0].wieght",
        "train.steps",
        "train.batch_size",
        "train.bad_steps.grace",
        "logging",
    ]
    assert "did you mean 'train'" in found[0]
    assert "did you mean 'weight'" in found[2]
    assert "did you mean 'grace_steps'" in found[5]


def test_the_message_counts_problems_and_names_the_file(load, write, spec):
    spec["train"]["steps"] = True
    path = write("toy.json", spec)
    with pytest.raises(ExperimentError) as caught:
        load(path)
    assert str(caught.value) == f"1 problem(s) in {path}\ntrain.steps: expected int, got true"


def test_build_lists_all_settings_that_reject_their_values(load, file):
    planned = load(file, overrides=["train.steps=0", "data.train=[]", "model.camera_head.hidden_width=0"])
    with pytest.raises(ExperimentError) as caught:
        planned.build()
    assert caught.value.problems == (
        "model.camera_head: hidden_width must be 1 or more, got 0",
        "data: train must name at least one source",
        "train: steps must be 1 or more, got 0",
    )
    assert str(file) in str(caught.value)
    with pytest.raises(ExperimentError, match=r"experiment: data.image_size: images of 15 x 32 pixels"):
        load(file, overrides=["data.image_size=[15, 32]"]).build()


def test_building_on_meta_takes_no_memory(load, file):
    with torch.device("meta"):
        model = load(file).build().model
    assert all(weight.is_meta for weight in model.parameters())


# reading


def test_the_error_for_a_missing_file_suggests_other_files(problems, file, tmp_path):
    (problem,) = problems(file.parent / "toi.json")
    assert problem.endswith("toi.json; did you mean 'toy.json'? known: toy.json")
    (problem,) = problems(tmp_path / "none" / "toy.json")
    assert "nor a folder" in problem
    (problem,) = problems(file.parent)
    assert problem.endswith("is a folder; name a file in it: toy.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{\n  "model": }', "toy.json:2:12: Expecting value"),
        ("", "toy.json:1:1: Expecting value"),
        ("[]", "an experiment is a JSON object {...}, got []"),
        ('{"a": {"b": 1, "b": 2}, "a": 3, "c": [{"d": 1, "d": 1}]}', "c[0].d: appears twice"),
        ('{"train": {"clip_norm": NaN}}', "NaN is not a JSON number"),
        ('{"train": {"clip_norm": -Infinity}}', "-Infinity is not a JSON number"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_the_error_for_broken_json_has_its_position_or_path(problems, write, text, said):
    assert any(said in problem for problem in problems(write("toy.json", text)))


def test_the_error_lists_all_keys_that_appear_twice(problems, write):
    found = problems(write("toy.json", '{"a": {"b": 1, "b": 2, "c": 3, "c": 3}, "d": 1, "d": 1}'))
    assert [problem.rpartition(".json: ")[2] for problem in found] == [
        "a.b: appears twice",
        "a.c: appears twice",
        "d: appears twice",
    ]


def test_the_error_for_a_binary_file_names_the_encoding(problems, write):
    path = write("toy.json", "")
    path.write_bytes(b"\xff\xfe{}")
    (problem,) = problems(path)
    assert "utf-8" in problem


# extends


def test_extending_changes_only_the_given_keys(load, write, file):
    child = write(
        "child.json", {"extends": "toy.json", "train": {"steps": 3}, "model": {"camera_head": {"hidden_width": 2}}}
    )
    planned, base = load(child), load(file)
    assert planned.resolved["train"] == base.resolved["train"] | {"steps": 3}
    assert planned.resolved["model"]["camera_head"] == base.resolved["model"]["camera_head"] | {"hidden_width": 2}
    assert planned.resolved["description"] == "toys"
    assert "extends" not in planned.resolved


def test_a_component_of_another_type_replaces_the_whole_component(load, write, file):
    write("base.json", {"extends": "toy.json", "model": {"camera_head": {"hidden_width": 2}}})
    child = write("child.json", {"extends": "base.json", "model": {"camera_head": {"type": "rot6d", "focal": 2}}})
    head = load(child).resolved["model"]["camera_head"]
    assert head == {"type": "rot6d", "canonical": "middle", "focal": 2.0}


def test_a_shared_component_of_another_type_replaces_the_whole_component(load, write, spec):
    spec["shared"]["camera_head"] = spec["model"].pop("camera_head") | {"hidden_width": 2}
    write("toy.json", spec)
    child = write("child.json", {"extends": "toy.json", "shared": {"camera_head": {"type": "rot6d"}}})
    assert load(child).resolved["model"]["camera_head"]["type"] == "rot6d"


def test_lists_replace(load, write, file):
    source = {"dataset": {"type": "chunks", "root": "there", "split": "test"}, "weight": 2}
    child = write("child.json", {"extends": "toy.json", "data": {"train": [source]}})
    assert load(child).resolved["data"]["train"] == [source | {"weight": 2.0}]


def test_extends_handles_folders_cycles_and_missing_bases(problems, load, write, file):
    (file.parent / "ablations").mkdir()
    deep = write("ablations/deep.json", {"extends": "../toy.json", "train": {"steps": 4}})
    assert load(deep).build().train.steps == 4
    write("a.json", {"extends": "b.json"})
    write("b.json", {"extends": "a.json"})
    cycle = "extends: the files extend each other in a cycle: a.json -> b.json -> a.json"
    assert problems(file.parent / "a.json") == (cycle,)
    (problem,) = problems(write("c.json", {"extends": "toi.json"}))
    assert problem.startswith("extends: there is no file")
    assert "did you mean 'toy.json'" in problem
    assert problems(write("c.json", {"extends": 3})) == ("extends: expected a path, got 3",)


# --set


@pytest.mark.parametrize(
    ("override", "place", "value"),
    [
        ("train.steps=3", ("train", "steps"), 3),
        ("train.clip_norm=2", ("train", "clip_norm"), 2.0),
        ("train.bad_steps.norm_factor=0", ("train", "bad_steps", "norm_factor"), 0.0),
        ("data.train[0].weight=2", ("data", "train", 0, "weight"), 2.0),
        ("data.train.0.dataset.root=/a=b", ("data", "train", 0, "dataset", "root"), "/a=b"),
        ("data.image_size=[8, 8]", ("data", "image_size"), [8, 8]),
        ("shared.width=6", ("model", "width"), 6),
        ("description=a text", ("description",), "a text"),
        ("deepspeed=", ("deepspeed",), ""),
        ('logging=[{"type": "lines"}]', ("logging",), [{"type": "lines"}]),
        (
            "model.camera_head.type=rot6d",
            ("model", "camera_head"),
            {"type": "rot6d", "canonical": "middle", "focal": 1.25},
        ),
        ("model.camera_head.type=pi3", ("model", "camera_head", "hidden_width"), 2),
    ],
)
def test_an_override_sets_one_value(load, write, spec, override, place, value):
    spec["model"]["camera_head"]["hidden_width"] = 2
    found = load(write("toy.json", spec), overrides=[override]).resolved
    for key in place:
        found = found[key]
    assert found == value


def test_overrides_apply_in_order(load, file):
    overrides = ["model.camera_head.type=rot6d", "model.camera_head.focal=3", "train.steps=1", "train.steps=2"]
    found = load(file, overrides=overrides).resolved
    assert found["model"]["camera_head"]["focal"] == 3.0
    assert found["train"]["steps"] == 2


@pytest.mark.parametrize("order", [1, -1])
def test_overrides_can_create_an_optional_component(load, file, order):
    found = load(file, overrides=["model.extra.type=pi3", "model.extra.hidden_width=3"][::order]).resolved
    assert found["model"]["extra"] == {"type": "pi3", "width": 4, "hidden_width": 3, "rotation": "svd"}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("steps", "--set steps: expected KEY=VALUE, e.g. --set train.steps=100"),
        ("=3", "'' is not a path; write it like train.steps or data.train[0].weight"),
        ("train..steps=3", "'train..steps' is not a path"),
        ("data.train[x]=3", "'data.train[x]' is not a path"),
        ("train.steps.more=3", "train.steps is 10, not an object with a key 'more'"),
        ("train[0]=3", "not a list"),
        ("data.train[1].weight=3", "data.train has 1 entries, counted from 0; there is no [1]"),
        ("data.train.weight=3", "data.train is a list; write data.train[0].weight"),
        ('model={"type": "a", "type": "b"}', "type: appears twice"),
        ("plugins=[]", "plugins can only be set in an experiment file"),
        ("extends=x.json", "extends can only be set in an experiment file"),
        ("train.stepz=3", "train.stepz: 'TrainSettings' has no such parameter; did you mean 'steps'"),
        ("trian.steps=3", "trian: an experiment has no such section; did you mean 'train'"),
        ("train.steps=ten", "train.steps: expected int, got 'ten'"),
        ("train.clip_norm=NaN", "train.clip_norm: expected float, got 'NaN'"),
        ("model.camera_head.type=torch.nn.Linear", "no camera_head named 'torch.nn.Linear'"),
    ],
)
def test_the_error_for_a_wrong_override_names_the_mistake(problems, file, override, said):
    assert any(said in problem for problem in problems(file, overrides=[override]))


def test_one_error_lists_all_malformed_overrides(problems, file):
    assert len(problems(file, overrides=["steps", "data.train[7].weight=1"])) == 2


# --data


def test_data_roots_replace_all_sources_and_can_be_overridden(load, file):
    data = load(file, data_roots=[Path("a"), "b"], overrides=["data.train[1].weight=3"]).resolved["data"]
    for split in ("train", "test"):
        assert [source["dataset"] for source in data[split]] == [
            {"type": "chunks", "root": root, "split": split} for root in ("a", "b")
        ]
    assert data["train"][1]["weight"] == 3.0
    assert data["image_size"] == [16, 32]


# deepspeed


def test_the_deepspeed_file_is_found_beside_the_experiments_folder(load, file, tmp_path, monkeypatch):
    assert load(file).resolved["deepspeed"].endswith("ds_configs/zero2.json")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "zero.json").write_text("{}")
    found = load(file, overrides=["deepspeed=mine/zero.json"]).build().deepspeed
    assert found == str(tmp_path / "mine" / "zero.json")
    monkeypatch.chdir(tmp_path)
    assert load(file, overrides=["deepspeed=mine/zero.json"]).build().deepspeed == "mine/zero.json"
    assert load(file, overrides=["deepspeed=mine/none.json"]).build().deepspeed == "mine/none.json"


# plugins


PLUGIN = '''"""A plugin."""
from pathlib import Path
Path(__file__).with_suffix(".ran").touch()
'''


def test_plugins_are_relative_to_their_file_and_load_before_the_check(load, write, spec):
    write("ablations.txt", "")
    plugin = write("mine.py", PLUGIN)
    base = write("toy.json", spec | {"plugins": ["mine.py"]})
    (base.parent / "deep").mkdir()
    child = write("deep/child.json", {"extends": "../toy.json"})
    planned = load(child)
    assert plugin.with_suffix(".ran").exists()
    assert planned.resolved["plugins"] == [str(plugin)]
    assert load(write("again.json", planned.resolved)).resolved == planned.resolved


def test_one_error_lists_all_plugins_that_fail_to_load(problems, write, spec):
    write("broken.py", "1 / 0")
    found = problems(write("toy.json", spec | {"plugins": ["acme_not_there", "none.py", "broken.py"]}))
    assert len(found) == 3
    assert "ZeroDivisionError" in found[2]
    assert problems(write("toy.json", spec | {"plugins": "mine.py"})) == (
        "plugins: expected a list of names, got 'mine.py'",
    )


def test_only_plugins_import_code(problems, write, spec):
    ran = write("evil.py", PLUGIN).with_suffix(".ran")
    spec["model"]["type"] = "evil.py"
    spec["model"]["camera_head"] = {"class_path": "evil", "init_args": {}}
    spec["evil"] = {"type": "evil"}
    spec["shared"]["evil"] = "evil.py"
    problems(write("toy.json", spec | {"description": "evil.py"}), overrides=["model.tokenizer.type=evil"])
    assert not ran.exists()


def test_loading_does_not_change_the_file(load, file, spec):
    load(file, overrides=["train.steps=3"])
    assert json.loads(file.read_text()) == spec
