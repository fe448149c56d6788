"""The DINOv3 tokenizer with random weights from a file: features, training, weight files and their errors."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from openrayzer.components.tokenizers.dinov3 import DinoV3
from openrayzer.interfaces import InputError

VARIANT = "vit_tiny_patch16_dinov3_qkvb"


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    state = timm.create_model(VARIANT, pretrained=False).state_dict()
    return {name: torch.randn_like(value) * 0.05 for name, value in state.items()}


@pytest.fixture(scope="module")
def checkpoint(weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dinov3") / "tiny.safetensors"
    save_file(weights, path)
    return path


def build(checkpoint: Path, trainable: bool = False, width: int = 24) -> DinoV3:
    torch.manual_seed(1)
    return DinoV3(width=width, variant=VARIANT, checkpoint=checkpoint, trainable=trainable)


def images(height: int = 32, width: int = 48) -> Tensor:
    return torch.rand(2, 2, 3, height, width, generator=torch.Generator().manual_seed(2))


def test_tokens_are_patch_features_of_normalised_images(checkpoint: Path, weights: dict[str, Tensor]):
    tokenizer = build(checkpoint)
    reference = timm.create_model(VARIANT, pretrained=False).eval()
    reference.load_state_dict(weights)
    batch = images()
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (batch - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)
    features = reference.forward_features(pixels.flatten(0, 1))[:, -6:]  # 2 x 3 patches come last
    expected = tokenizer.projection(features).unflatten(0, (2, 2))
    torch.testing.assert_close(tokenizer(batch), expected)


@pytest.mark.parametrize("size", [(16, 16), (32, 64), (80, 48)])
def test_image_sides_may_be_any_multiple_of_the_patch_size(size: tuple[int, int], checkpoint: Path):
    tokenizer = build(checkpoint)
    assert tokenizer.patch_size == 16
    assert tokenizer(images(*size)).shape == (2, 2, size[0] * size[1] // 256, 24)
    with pytest.raises(ValueError, match="multiple of the patch size 16"):
        tokenizer(images(20, 32))


def test_with_a_frozen_backbone_only_the_projection_learns(checkpoint: Path):
    tokenizer = DinoV3(width=24, variant=VARIANT, checkpoint=str(checkpoint))
    assert tokenizer.train() is tokenizer
    assert tokenizer.training
    assert not any(module.training for module in tokenizer.backbone.modules())
    tokenizer(images().requires_grad_()).sum().backward()
    learning = {name for name, parameter in tokenizer.named_parameters() if parameter.requires_grad}
    assert learning == {"projection.weight", "projection.bias"}
    assert all(parameter.grad is None for parameter in tokenizer.backbone.parameters())
    assert tokenizer.projection.weight.grad.abs().sum() > 0


def test_with_a_trainable_backbone_every_parameter_gets_a_gradient(checkpoint: Path):
    tokenizer = build(checkpoint, trainable=True)
    assert tokenizer.backbone.training
    tokenizer(images()).square().sum().backward()
    without = [name for name, parameter in tokenizer.named_parameters() if parameter.grad is None]
    assert not without
    assert not tokenizer.eval().backbone.training


def test_bfloat16_autocast_and_bfloat16_parameters_are_close_to_float32(checkpoint: Path):
    tokenizer, batch = build(checkpoint), images()
    plain = tokenizer(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        automatic = tokenizer(batch)
    cast = tokenizer.bfloat16()(batch)
    for tokens in (automatic, cast):
        assert (tokens.float() - plain).abs().mean() < 0.05 * plain.abs().mean()


def test_a_pytorch_file_with_metas_names_gives_the_same_weights(
    weights: dict[str, Tensor], checkpoint: Path, tmp_path: Path
):
    path = tmp_path / "dinov3_vits16_pretrain.pth"
    torch.save(as_meta(weights), path)
    ours, theirs = build(checkpoint).state_dict(), build(path).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def as_meta(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's weights under the names of Meta's files."""
    state = {"mask_token": torch.zeros(1, 192), "rope_embed.periods": torch.ones(16)}
    for name, value in weights.items():
        if name.endswith("q_bias"):
            both = torch.cat([value, torch.ones(192), weights[name.replace("q_bias", "v_bias")]])
            state[name.replace("q_bias", "qkv.bias")] = both
            state[name.replace("q_bias", "qkv.bias_mask")] = torch.ones(576)
        elif not name.endswith("v_bias"):
            renamed = name.replace("reg_token", "storage_tokens")
            state[renamed.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")] = value
    return state


def test_metas_nonzero_biases_need_the_variant_with_biases(tmp_path: Path, capsys: pytest.CaptureFixture):
    small = timm.create_model("vit_small_patch16_dinov3", pretrained=False).state_dict()
    state = {name.replace("reg_token", "storage_tokens"): value for name, value in small.items()}
    state = {name.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma"): v for name, v in state.items()}
    path = tmp_path / "small.pth"
    keys_only = torch.cat([torch.zeros(384), torch.ones(384), torch.zeros(384)])
    torch.save(state | {f"blocks.{i}.attn.qkv.bias": keys_only for i in range(12)}, path)
    DinoV3(width=8, checkpoint=path)
    assert not capsys.readouterr().out
    torch.save(state | {f"blocks.{i}.attn.qkv.bias": torch.ones(3 * 384) for i in range(12)}, path)
    with pytest.raises(InputError, match="is not zero; use the variant vit_small_patch16_dinov3_qkvb"):
        DinoV3(width=8, checkpoint=path)


def test_the_error_lists_weights_that_do_not_fit(weights: dict[str, Tensor], checkpoint: Path, tmp_path: Path):
    path = tmp_path / "other.pth"
    torch.save({name: value for name, value in weights.items() if name != "norm.bias"}, path)
    with pytest.raises(InputError, match=r"other\.pth does not fit: norm\.bias is missing; get https://huggingface"):
        build(path)
    torch.save(weights | {"head.weight": torch.zeros(2)}, path)
    with pytest.raises(InputError, match=f"weights that {VARIANT} lacks: head.weight"):
        build(path)
    with pytest.raises(InputError, match=r"has shape \(1, 1, 192\) instead of \(1, 1, 384\)"):
        DinoV3(width=8, checkpoint=checkpoint)
    path.write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(InputError, match="cannot be read as a file of weights"):
        build(path)
    with pytest.raises(InputError, match="does not exist"):
        build(tmp_path / "missing.safetensors")


def test_the_error_for_an_unreachable_hub_names_the_right_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError) as caught:
        DinoV3(width=8)
    message = str(caught.value)
    assert "no weights of vit_small_patch16_dinov3 from the Hugging Face hub" in message
    assert "get https://huggingface.co/timm/vit_small_patch16_dinov3.lvd1689m/resolve/main/model.safetensors" in message
    assert "give its path as 'checkpoint'" in message


def test_the_error_for_an_unknown_variant_suggests_others(checkpoint: Path):
    with pytest.raises(InputError, match="no DINOv3 variant 'vit_smal_dinov3' in timm; did you mean 'vit_"):
        DinoV3(width=8, variant="vit_smal_dinov3")
    with pytest.raises(InputError, match="did you mean"):
        DinoV3(width=8, variant="vit_small_patch16_dinov3.lvd")


def test_the_meta_device_needs_no_weight_file(tmp_path: Path):
    with torch.device("meta"):
        tokenizer = DinoV3(width=8, checkpoint=tmp_path / "missing.safetensors")
    assert all(parameter.is_meta for parameter in tokenizer.parameters())
    assert tokenizer(torch.rand(1, 2, 3, 32, 48, device="meta")).shape == (1, 2, 6, 8)
