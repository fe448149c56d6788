"""Outputs and gradients that the published code recorded; and that a difference is seen."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from published import lvsm, open_rayzer, open_rayzer_config, rayzer_official
from safetensors.torch import load_file, save_file
from torch import Tensor

from openrayzer.attention.xformers import XformersAttention
from openrayzer.interfaces import ATTENTION_BACKENDS, InputError
from openrayzer.interop.golden import ABSOLUTE, BY_RATIO, RELATIVE, build_imported, compare, read_setting
from openrayzer.interop.systems import SYSTEMS

FILES = (
    "rayzer_official_tiny", "open_rayzer_tiny", "open_rayzer_feature_fuse_tiny", "lvsm_encoder_decoder_tiny",
    "lvsm_decoder_only_tiny", "rayder_tiny",
)  # fmt: skip
RUNNABLE = [entry.name for entry in ATTENTION_BACKENDS if entry.target is not XformersAttention]
"""On a CPU."""


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("attention", RUNNABLE)
@pytest.mark.parametrize("checkpointing", [0, 1])
def test_every_recorded_output_is_met(shared: Path, name: str, attention: str, checkpointing: int):
    file = shared / f"golden/{name}.safetensors"
    arch, rows = compare(file, attention=attention, activation_checkpointing=checkpointing)
    assert arch in SYSTEMS
    assert {f"out/{row.name}" for row in rows} == {key for key in load_file(file) if key.startswith("out/")}
    for row in rows:
        assert row.tolerance == (RELATIVE if row.name in BY_RATIO else ABSOLUTE)
        assert row.passed, row


def recording(
    folder: Path, arch: str, state: dict[str, Tensor], config: dict[str, Any], *, num_views: int, size: tuple[int, int]
) -> Path:
    """A golden file whose outputs are ours, with inputs of any size."""
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(2, num_views, 3, *size, generator=generator)
    c2w = torch.eye(4).repeat(2, num_views, 1, 1)
    c2w[..., :3, 3] = torch.rand(2, num_views, 3, generator=generator)
    inputs = {"image": images, "c2w": c2w, "fxfycxcy": torch.tensor([20.0, 24, 8, 9]).repeat(2, num_views, 1)}
    places = torch.arange(num_views)
    inputs |= {"input_idx": places[None, ::2].clone(), "target_idx": places[None, 1::2].clone()}
    tensors = {f"state/{key}": value for key, value in state.items()} | {f"in/{k}": v for k, v in inputs.items()}
    file = folder / "recording.safetensors"
    text = json.dumps({"arch": arch, "config": config})
    save_file(tensors | {"out/loss": torch.zeros(1)}, file, metadata={"config": text})
    system, configuration = read_setting(file)
    model = build_imported(system.read(state, configuration), source=file)
    outputs = {f"out/{name}": value.detach() for name, value in system.reproduce(model, inputs, configuration).items()}
    save_file(tensors | outputs, file, metadata={"config": text})
    return file


VIEWS = {"training": {"num_input_views": 2, "num_target_views": 2}}
MIDDLE = {"model": {"pose_latent": {"canonical": "middle"}}}
RECORDINGS = {
    "rayzer-official": (rayzer_official(), MIDDLE),
    "rayzer-official, quaternions, no codes": (rayzer_official(rotation=4, embedded=False), MIDDLE),
    "open-rayzer": (open_rayzer(), open_rayzer_config() | VIEWS),
    "open-rayzer, shared, given": (
        open_rayzer(fusion="feature_fuse", shared=True), open_rayzer_config(predict_fov=False) | VIEWS,
    ),
    "lvsm-ed": (lvsm(), VIEWS),
    "lvsm-d": (lvsm(decoder_only=True), VIEWS),
}  # fmt: skip


@pytest.mark.parametrize("title", RECORDINGS)
@pytest.mark.parametrize("num_views", [4, 5])
def test_other_sizes_views_and_switches_are_compared_and_a_changed_weight_is_seen(
    tmp_path: Path, title: str, num_views: int
):
    state, config = RECORDINGS[title]
    size = (16, 24) if title.startswith("rayzer-official") else (16, 16)
    file = recording(tmp_path, title.partition(",")[0], state, config, num_views=num_views, size=size)
    assert all(row.passed for row in compare(file)[1])
    tensors = load_file(file)
    some = next(name for name in tensors if name.endswith("0.attn.q_norm.weight"))
    tensors[some] = tensors[some].flip(0) * 3
    save_file(tensors, file, metadata={"config": json.dumps({"arch": title.partition(",")[0], "config": config})})
    assert not all(row.passed for row in compare(file)[1])


def test_what_nothing_computes_or_has_another_shape_fails(tmp_path: Path):
    file = recording(tmp_path, "lvsm-ed", lvsm(), VIEWS, num_views=4, size=(16, 16))
    tensors = load_file(file) | {"out/depth": torch.zeros(2)}
    tensors["out/render"] = tensors["out/render"][:, :1].contiguous()
    save_file(tensors, file, metadata={"config": json.dumps({"arch": "lvsm-ed", "config": VIEWS})})
    rows = {row.name: row for row in compare(file)[1]}
    assert rows["depth"].remark == "nothing here computes it"
    assert "shape (2, 2, 3, 16, 16), recorded (2, 1, 3, 16, 16)" in rows["render"].remark
    assert [row.passed for row in rows.values()] == [False, True, False]


@pytest.mark.parametrize(
    ("arch", "config", "message"),
    [
        ("lvsm", VIEWS, "no published system named 'lvsm'; did you mean 'lvsm-d'"),
        ("lvsm-d", VIEWS, "these are weights of 'lvsm-ed', not of 'lvsm-d'"),
        ("lvsm-ed", {}, r"training.num_input_views \(number of context views\)"),
        ("lvsm-ed", {"training": {"num_input_views": 9, "num_target_views": 2}}, "9 context and 2 target views, but 4"),
        ("lvsm-ed", VIEWS | {"model": {"transformer": {"d": 32}}}, "model.transformer.d: the file's config says 32"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path, arch: str, config: dict[str, Any], message: str):
    file = recording(tmp_path, "lvsm-ed", lvsm(), VIEWS, num_views=4, size=(16, 16))
    save_file(load_file(file), file, metadata={"config": json.dumps({"arch": arch, "config": config})})
    with pytest.raises(InputError, match=message):
        compare(file)


def test_files_that_are_no_recordings_are_refused(tmp_path: Path):
    file = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, file)
    with pytest.raises(InputError, match="its metadata has no 'config'"):
        compare(file)
    file.write_bytes(b"no tensors here")
    with pytest.raises(InputError, match="cannot be read as a file of weights"):
        compare(file)
    with pytest.raises(InputError, match="does not exist"):
        compare(tmp_path / "missing.safetensors")
