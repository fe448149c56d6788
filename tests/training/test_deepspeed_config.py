"""ds_configs files: valid ones pass, others are refused with a message that names the mistake."""

import json
from pathlib import Path

import pytest
import toy

from openrayzer.interfaces import InputError
from openrayzer.training.deepspeed_config import load_deepspeed_config

CONFIGS = sorted((Path(__file__).parents[2] / "ds_configs").glob("*.json"))


def refused(tmp_path: Path, content: object, **changes: object) -> str:
    file = tmp_path / "ds.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError) as caught:
        load_deepspeed_config(file, toy.settings(**changes), world_size=1)
    return str(caught.value)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_file_of_ds_configs_passes_and_gets_the_numbers_of_the_experiment(file: Path):
    settings = toy.settings(batch_size=24, accumulation=3, clip_norm=0.5)
    config = load_deepspeed_config(file, settings, world_size=4)
    assert config["train_micro_batch_size_per_gpu"] == 2
    assert config["gradient_accumulation_steps"] == 3
    assert config["gradient_clipping"] == 0.5
    assert file.name in (file.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("asked", [None, {"throughput": {"enabled": True, "synchronized": False}}])
def test_the_throughput_timer_which_waits_for_the_gpu_is_off_unless_asked_for(tmp_path: Path, asked: object):
    file = tmp_path / "ds.json"
    file.write_text(json.dumps({"zero_optimization": {"stage": 2}} | ({"timers": asked} if asked else {})))
    config = load_deepspeed_config(file, toy.settings(), world_size=1)
    assert config["timers"] == (asked or {"throughput": {"enabled": False}})


def test_an_optimizer_on_nvme_is_refused(tmp_path: Path):
    zero = {"stage": 3, "offload_optimizer": {"device": "nvme", "nvme_path": "/tmp"}}
    assert "nvme is not supported" in refused(tmp_path, {"zero_optimization": zero})


def test_all_clashes_and_unknown_keys_come_at_once(tmp_path: Path):
    content = {"gradient_clipping": 1, "optimizer": {}, "zero_optimisation": {}, "zero_optimization": {"stage": 2}}
    message = refused(tmp_path, content)
    assert "3 problem(s)" in message
    assert "gradient_clipping: belongs to the experiment (train.clip_norm)" in message
    assert "optimizer: belongs to the experiment (train.optimizer)" in message
    assert "zero_optimisation: unknown" in message
    assert "did you mean 'zero_optimization'" in message


def test_stage_0_is_refused_with_its_reason(tmp_path: Path):
    message = refused(tmp_path, {"zero_optimization": {"stage": 0}})
    assert "must be 1, 2 or 3, got 0" in message
    assert "NaN would reach the weights" in message
    assert "must be 1, 2 or 3" in refused(tmp_path, {})


def test_a_nested_misspelling_is_a_message_not_a_traceback(tmp_path: Path):
    message = refused(tmp_path, {"zero_optimization": {"stage": 2, "overlap_com": True}})
    assert "overlap_com" in message
    assert "DeepSpeed refuses" in message


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ({"fp16": {"enabled": True}, "zero_optimization": {"stage": 2}}, "fp16: not supported"),
        ({"torch_autocast": {"enabled": True, "dtype": "fp16"}, "zero_optimization": {"stage": 2}}, "fp16"),
        ({"bf16": {"enabled": True}, "torch_autocast": {"enabled": True}, "zero_optimization": {"stage": 2}}, "one of"),
        ({"bf16": {"enabled": True, "check_grad_overflow": False}, "zero_optimization": {"stage": 2}}, "must be true"),
        ("{", "cannot be read as JSON"),
        ('{"bf16": {}, "bf16": {}}', "a key occurs twice"),
        ([], "expected a JSON object"),
    ],
)
def test_other_mistakes_are_named(tmp_path: Path, content: object, part: str):
    assert part in refused(tmp_path, content)


def test_a_batch_that_cannot_be_split_says_which_numbers_work():
    settings = toy.settings(batch_size=10, accumulation=2)
    with pytest.raises(InputError, match=r"over 2 process\(es\) x train.accumulation 2; 8 or 12 would work"):
        load_deepspeed_config("ds_configs/zero2.json", settings, world_size=2)


def test_a_missing_file_lists_the_files_of_ds_configs():
    with pytest.raises(InputError, match=r"ds_configs/ has: zero1\.json"):
        load_deepspeed_config("ds_configs/zero9.json", toy.settings(), world_size=1)
