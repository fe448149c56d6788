"""tools/import_weights.py writes run folders that load and train, compares golden files, and refuses wrong input."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import openrayzer
from openrayzer.cli import run_tool
from openrayzer.weights.interop.golden import compare
from openrayzer.weights.interop.trunk import views_of

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT.parent / "shared/golden"
NEEDS_GOLDEN = pytest.mark.skipif(not GOLDEN.is_dir(), reason="needs the golden files beside the project")
RECORDED = {
    "rayzer-official": "rayzer_official_tiny", "open-rayzer": "open_rayzer_tiny", "rayder": "rayder_tiny",
    "lvsm-ed": "lvsm_encoder_decoder_tiny", "lvsm-d": "lvsm_decoder_only_tiny", "efficient-lvsm": "efficient_lvsm_tiny",
    "uplvsm": "uplvsm_tiny", "ptlvsm": "ptlvsm_tiny", "erayzer": "erayzer_tiny",
}  # fmt: skip
LVSM = {
    "image_tokenizer.1.weight": (16, 36), "target_pose_tokenizer.1.weight": (16, 24),
    "image_token_decoder.0.weight": (16,), "image_token_decoder.1.weight": (12, 16),
    "transformer_blocks.0.norm1.weight": (16,), "transformer_blocks.0.attn.to_qkv.weight": (48, 16),
    "transformer_blocks.0.attn.fc.weight": (16, 16), "transformer_blocks.0.attn.q_norm.weight": (8,),
    "transformer_blocks.0.attn.k_norm.weight": (8,), "transformer_blocks.0.norm2.weight": (16,),
    "transformer_blocks.0.mlp.mlp.0.weight": (64, 16), "transformer_blocks.0.mlp.mlp.2.weight": (16, 64),
    "transformer_input_layernorm.weight": (16,),
}  # fmt: skip
"""A decoder-only LVSM of one block."""

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs the tool and returns exit code, stdout and stderr."""
    spec = spec_from_file_location("import_weights", ROOT / "tools/import_weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["import_weights.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run_tool(module.main)
        return (int(ended.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.randn(shape, generator=generator) for name, shape in LVSM.items()}
    network = {"loss_computer.perceptual_loss_module.vgg.features.0.weight": torch.zeros(1)}
    torch.save({"model": state | network, "optimizer": {}, "param_update_step": 3}, tmp_path / "ckpt.pt")
    return tmp_path / "ckpt.pt"


def test_a_training_checkpoint_becomes_a_run_folder(tool: Command, weights: Path, tmp_path: Path):
    run = tmp_path / "runs/lvsm"
    (tmp_path / "config.yaml").write_text(
        "model:\n  image_tokenizer: {image_size: 64, patch_size: 2}\n"
        "training: {num_input_views: 2, num_target_views: 6}\n"
    )
    code, said, errors = tool(
        "--arch", "lvsm-d", "--weights", weights, "--config", tmp_path / "config.yaml", "--output", run,
        "--set", "train.steps=20", "--data", "/data/re10k",
    )  # fmt: skip
    assert (code, errors) == (0, "")
    assert "training checkpoint: only its weights are imported, not optimizer, param_update_step" in said
    assert "note: 1 weight(s) of the perceptual loss" in said
    assert f"--exp {run}/experiment.json" in said
    record = json.loads((run / "experiment.json").read_text())
    assert record["model"]["type"] == "lvsm_decoder_only"
    assert record["data"]["image_size"] == [64, 64]
    sampler = record["data"]["view_sampler"]
    assert (sampler["num_context"], sampler["num_target"]) == (2, 6)
    assert record["data"]["train"][0]["dataset"]["root"] == "/data/re10k"
    assert record["train"]["steps"] == 20
    assert record["train"]["initial_weights"] == str(run / "model.safetensors")
    origin = record["run"]["imported"]
    assert (origin["system"], origin["source"], origin["license"]) == ("lvsm-d", "ckpt.pt", "cc-by-nc-sa-4.0")
    assert len(origin["notes"]) == 2
    published = torch.load(weights, weights_only=True)["model"]
    model = openrayzer.load_model(run)
    assert torch.equal(model.scene.target_rays.linear.weight, published["target_pose_tokenizer.1.weight"])


def test_a_terminal_gets_the_stages_of_an_import(
    tool: Command, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    given = ("model.image_tokenizer.image_size=64", "model.image_tokenizer.patch_size=2")
    code, _, errors = tool("--arch", "lvsm-d", "--weights", weights, "--given", *given, "--output", tmp_path / "run")
    assert code == 0
    for stage in ("0/3 stages, reading ckpt.pt", "2/3 stages, writing model.safetensors", "3/3 stages, took 0:00:0"):
        assert stage in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--arch, --weights, --output must be given to import weights; to compare golden files, --check FILE"),
        (["--arch", "lvsm-d", "--weights", "ckpt.pt"], "--output must be given"),
        (["--check", "x.safetensors", "--arch", "lvsm-d"], "--check cannot be combined with --arch"),
        (["--check", "x.safetensors", "--set", "train.steps=1", "--exp", "x"], "combined with --exp, --set"),
        (
            ["--arch", "lvsm", "--weights", "ckpt.pt", "--output", "run"],
            "no published system named 'lvsm'; did you mean",
        ),
        (["--arch", "lvsm-ed", "--weights", "ckpt.pt", "--output", "run"], "these are weights of 'lvsm-d'"),
        (["--arch", "lvsm-d", "--weights", "no.pt", "--output", "run"], "no.pt does not exist; give a .pt or"),
        (["--arch", "lvsm-d", "--weights", "ckpt.pt", "--output", "full"], "full exists and is not empty"),
        (
            ["--arch", "lvsm-d", "--weights", "ckpt.pt", "--output", "run", "--given", "model.transformer.d=8"],
            "ckpt.pt as lvsm-d:\nmodel.transformer.d: --given says 8, the weights say 16",
        ),
        (
            ["--arch", "lvsm-d", "--weights", "ckpt.pt", "--output", "run", "--given", "model.transformer.dd=16"],
            "ckpt.pt as lvsm-d:\n--given model.transformer.dd: this system has no such key; its keys are",
        ),
        (
            ["--arch", "lvsm-d", "--weights", "ckpt.pt", "--output", "run", "--set", "model.renderer.depth=2"],
            "do not fit the model: scene.renderer.stack.blocks.1",
        ),
        (
            ["--arch", "lvsm-d", "--weights", "ckpt.pt", "--output", "run", "--set", "train.stepz=3"],
            "train.stepz: 'TrainSettings' has no such parameter",
        ),
        (
            ["--arch", "lvsm-d", "--weights", "ckpt.pt", "--output", "run", "--set", "data.image_size=[63, 64]"],
            "both sides must be multiples of 2, e.g. 64 64",
        ),
    ],
)
def test_wrong_input_is_explained_and_leaves_nothing(
    tool: Command, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    monkeypatch.chdir(tmp_path)
    code, _, errors = tool(*arguments)
    assert code == 2
    assert errors.startswith("error: ")
    assert message in errors
    assert not (tmp_path / "run").exists()


def test_a_disk_that_fills_up_leaves_nothing(
    tool: Command, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    run = tmp_path / "run"
    monkeypatch.setattr(Path, "write_text", full)
    code, _, errors = tool("--arch", "lvsm-d", "--weights", weights, "--output", run)
    assert (code, errors) == (2, f"error: --output {run}: cannot be written: No space left on device\n")
    assert [path.name for path in tmp_path.iterdir()] == ["ckpt.pt"]
    monkeypatch.undo()


def test_check_refuses_unsuitable_files_and_continues(tool: Command, tmp_path: Path):
    state = {f"state/{name}": torch.randn(shape) for name, shape in LVSM.items()}
    c2w, fxfycxcy = torch.eye(4).repeat(1, 3, 1, 1), torch.ones(1, 3, 4)
    good = {"in/image": torch.rand(1, 3, 3, 4, 4), "in/c2w": c2w, "in/fxfycxcy": fxfycxcy, "out/loss": torch.zeros(1)}
    config = json.dumps({"arch": "lvsm-d", "config": {"training": {"num_input_views": 2, "num_target_views": 1}}})
    wrong = {
        "in/image has shape (1, 3, 2, 4, 4), expected (b, v, 3, h, w)": {"in/image": torch.rand(1, 3, 2, 4, 4)},
        "cannot be computed: image size 5 x 4 must be a multiple": {"in/image": torch.rand(1, 3, 3, 5, 4)},
        "in/c2w has shape (1, 2, 4, 4), expected (1, 3, 4, 4) to match in/image": {"in/c2w": c2w[:, :2].clone()},
    }
    files = []
    for number, change in enumerate(wrong.values()):
        files.append(tmp_path / f"{number}.safetensors")
        save_file(state | good | change, files[-1], metadata={"config": config})
    (tmp_path / "3.safetensors").write_bytes(b"PK\x03\x04 and no zip")
    code, said, errors = tool("--check", *files, tmp_path / "3.safetensors", tmp_path / "4.safetensors")
    assert code == 2
    assert "0 output(s) beyond their tolerance, 5 file(s) refused, 0 skipped" in said
    for message in (*wrong, "cannot be read as a file of weights", "does not exist"):
        assert message in errors
    assert "Traceback" not in errors


def test_check_skips_recordings_of_systems_that_are_not_imported(tool: Command, tmp_path: Path):
    reasons = {"xfactor": "XFactor's weights are not imported: ", "gsplat-1.4.0": "gsplat is a rasteriser and has no"}
    files = [tmp_path / f"{arch}.safetensors" for arch in reasons]
    for file, arch in zip(files, reasons, strict=True):
        save_file({"out/render": torch.zeros(1)}, file, metadata={"config": json.dumps({"arch": arch, "config": {}})})
    code, said, errors = tool("--check", *files)
    assert (code, errors) == (0, "")
    *lines, last = said.splitlines()
    assert len(lines) == len(files)
    for file, line, reason in zip(files, lines, reasons.values(), strict=True):
        assert line.startswith(f"{file}: skipped: {reason}")
    assert last == "0 output(s) beyond their tolerance, 0 file(s) refused, 2 skipped"


@NEEDS_GOLDEN
def test_check_prints_every_output_and_fails_beyond_the_tolerance(tool: Command, tmp_path: Path):
    good = GOLDEN / "lvsm_encoder_decoder_tiny.safetensors"
    code, said, _ = tool("--check", good, "--attention", "reference", "--checkpointing", "2")
    assert code == 0
    assert [line.split()[0] for line in said.splitlines()[1:4]] == ["grad_norm", "loss", "render"]
    tensors = load_file(good)
    tensors["out/loss"] *= 1.01
    _, metadata = _metadata(good)
    bad = tmp_path / "bad.safetensors"
    save_file(tensors, bad, metadata=metadata)
    code, said, _ = tool("--check", bad)
    assert code == 1
    assert "FAILED" in next(line for line in said.splitlines() if line.split()[0] == "loss")
    assert "1 output(s) beyond their tolerance, 0 file(s) refused" in said
    bad.write_bytes(b"")
    code, said, errors = tool("--check", bad, good)
    assert code == 2
    assert f"error: {bad}: " in errors
    assert "0 output(s) beyond their tolerance, 1 file(s) refused" in said


def _metadata(file: Path) -> tuple[Path, dict[str, str]]:
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        return file, opened.metadata()


@NEEDS_GOLDEN
@pytest.mark.parametrize("arch", RECORDED)
def test_an_imported_run_renders_the_recorded_images(tool: Command, tmp_path: Path, arch: str):
    file = GOLDEN / f"{RECORDED[arch]}.safetensors"
    code, _, errors = tool("--arch", arch, "--weights", file, "--output", tmp_path / "run")
    assert (code, errors) == (0, "")
    model, tensors = openrayzer.load_model(tmp_path / "run"), load_file(file)
    if arch == "rayder":
        images = (tensors["in/image"].movedim(-1, 2) + 1) / 2
        recorded = (tensors["out/render_nostate"].movedim(-1, 2) + 1) / 2
        context, target = torch.tensor([[0, 1, 2]]), torch.tensor([[3, 4]])
    else:
        images, recorded = tensors["in/image"], tensors["out/render"]
        num_views, num_target = images.shape[1], recorded.shape[1]
        context = torch.arange(num_views - num_target)[None]
        target = torch.arange(num_views - num_target, num_views)[None]
        if arch == "erayzer":
            context, target = tensors["in/input_idx"], tensors["in/target_idx"]
    views = views_of({"image": images} | _known(tensors), context, target, posed="in/c2w" in tensors)
    cameras = model.cameras_of(views)
    scene = model.reconstruct(views.context_images, cameras.select(views.context), views.context)
    rendered = model.render(scene, cameras.select(views.target))
    torch.testing.assert_close(rendered, recorded, atol=1e-4, rtol=0)


def _known(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensors[f"in/{name}"] for name in ("c2w", "fxfycxcy") if f"in/{name}" in tensors}


SMALL = [
    'loss=[{"loss": {"type": "mse"}}]', "train.batch_size=2", "train.accumulation=1", "train.log_every=1",
    "train.schedule.warmup_steps=1", "data.workers=0", "data.test=[]",
    'data.train=[{"dataset": {"type": "synthetic", "root": "rooms", "num_train": 2, "num_test": 1, "num_frames": 9, '
    '"image_size": [64, 64]}}]',
    "data.view_sampler.min_frame_distance=5", "data.view_sampler.max_frame_distance=8",
]  # fmt: skip
OWN = {
    "rayder": ["data.view_sampler.num_views=4"],
    "rayzer-official": ["data.view_sampler.start_min_frame_distance=5", "data.view_sampler.start_max_frame_distance=8"],
    "lvsm-ed": [], "lvsm-d": [], "open-rayzer": [], "efficient-lvsm": [], "uplvsm": [], "ptlvsm": [],
    "erayzer": [
        "data.view_sampler.start_min_frame_distance=5", "data.view_sampler.start_max_frame_distance=8",
        "data.image_size=[32, 32]", "data.view_sampler.num_context=3", "data.view_sampler.num_target=2",
    ],
}  # fmt: skip


@NEEDS_GOLDEN
@pytest.mark.parametrize(
    "arch", [pytest.param(arch, marks=[] if arch == "lvsm-d" else pytest.mark.slow) for arch in OWN]
)
def test_an_imported_run_continues_training(tool: Command, tmp_path: Path, arch: str):
    """Trains twenty steps in the imported folder, from the imported weights."""
    file = GOLDEN / f"{RECORDED[arch]}.safetensors"
    run = tmp_path / "run"
    assert tool("--arch", arch, "--weights", file, "--output", run)[0] == 0
    changes = [*SMALL, *OWN[arch], "train.steps=20", "train.optimizer.learning_rate=0.001"]
    command = [sys.executable, ROOT / "tools/train.py", "--exp", run / "experiment.json", "--output", run]
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    done = subprocess.run(
        [*map(str, command), "--set", *changes],
        cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "starting from the weights of" in done.stderr
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines]
    assert len(losses) == 20
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    trained = openrayzer.load_model(run).state_dict()
    imported = load_file(run / "model.safetensors")
    assert any(not torch.equal(trained[name], value) for name, value in imported.items())
    assert compare(file)[0] == arch  # the file is unchanged
