"""The DINOv2 tokenizer with random weights: positions, options, training, weight files and their errors."""

from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from openrayzer.components.tokenizers.dinov2 import DinoV2
from openrayzer.interfaces import InputError
from openrayzer.layers.stack import checkpoint_activations, recomputing

SIZES = {"pretrained": False, "backbone_width": 24, "depth": 2, "num_heads": 2}
SMALL = "vit_small_patch14_reg4_dinov2"


def build(width: int = 24, **given: object) -> DinoV2:
    torch.manual_seed(1)
    tokenizer = DinoV2(width=width, **{**SIZES, "trainable": True, **given})
    with torch.no_grad():
        for weight in tokenizer.backbone.parameters():
            weight.copy_(torch.randn(weight.shape) * 0.1)
    return tokenizer


def images(height: int = 28, width: int = 42) -> Tensor:
    return torch.rand(2, 2, 3, height, width, generator=torch.Generator().manual_seed(2))


def test_tokens_are_patch_features_of_normalised_images_after_the_last_norm():
    tokenizer, batch = build(), images()
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (batch - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)
    features = tokenizer.backbone.forward_features(pixels.flatten(0, 1))[:, 5:]  # class token and 4 registers
    torch.testing.assert_close(tokenizer(batch), features.unflatten(0, (2, 2)))
    torch.testing.assert_close(build(normalise=False)(pixels), tokenizer(batch))


def test_positions_are_resized_by_bicubic_interpolation_with_antialiasing():
    tokenizer = build()
    with torch.no_grad():
        tokenizer.backbone.patch_embed.proj.weight.zero_()
    backbone = tokenizer.backbone
    table = backbone.pos_embed.view(1, 37, 37, 24).permute(0, 3, 1, 2)
    for rows, columns in ((2, 5), (5, 2), (37, 37)):
        places = F.interpolate(table, size=(rows, columns), mode="bicubic", antialias=True).flatten(2).mT
        places = table.flatten(2).mT if (rows, columns) == (37, 37) else places
        first = torch.cat([backbone.cls_token, backbone.reg_token], dim=1)
        sequence = torch.cat([first, places + backbone.patch_embed.proj.bias], dim=1)
        expected = backbone.norm(backbone.blocks(sequence))[:, 5:]
        torch.testing.assert_close(tokenizer(images(14 * rows, 14 * columns)[:1, :1])[0], expected, atol=1e-4, rtol=0)


def test_a_map_to_the_token_width_exists_only_if_the_width_is_another():
    assert not [name for name in build().state_dict() if name.startswith("projection")]
    tokenizer = build(width=16)
    assert tokenizer(images()).shape == (2, 2, 6, 16)
    assert tokenizer.projection.weight.shape == (16, 24)


def test_the_norm_of_queries_and_keys_has_named_gains_and_normalises_each_head():
    plain, normed = build(), build(qk_norm_eps=1e-3)
    added = set(normed.state_dict()) - set(plain.state_dict())
    assert added == {f"backbone.blocks.{block}.attn.{kind}_norm.weight" for block in range(2) for kind in "qk"}
    norm = DinoV2(width=24, **SIZES, qk_norm_eps=1e-3).backbone.blocks[0].attn.q_norm
    assert torch.equal(norm.weight, torch.ones(12))
    values = torch.randn(2, 3, 5, 12)
    expected = values / (values.square().mean(-1, keepdim=True) + 1e-3).sqrt()
    torch.testing.assert_close(norm(values), expected)
    assert norm(values.bfloat16()).dtype == torch.bfloat16
    with pytest.raises(InputError, match="qk_norm_eps must be above 0, or null for no norm, got 0"):
        build(qk_norm_eps=0.0)


@pytest.mark.parametrize("trainable", [True, False])
def test_the_backbone_trains_only_if_it_is_trainable(trainable: bool):
    tokenizer = build(width=16, trainable=trainable).train()
    assert tokenizer.backbone.training == trainable
    tokenizer(images()).square().sum().backward()
    assert all((weight.grad is not None) == trainable for weight in tokenizer.backbone.parameters())
    assert tokenizer.projection.weight.grad is not None


def test_recomputed_activations_give_the_same_gradient():
    gradients = []
    for every in (0, 1):
        tokenizer = build(qk_norm_eps=1e-3)
        checkpoint_activations(tokenizer, every=every)
        assert [module.checkpoint_every for module in recomputing(tokenizer)] == [every]
        tokenizer(images()).square().sum().backward()
        gradients.append(tokenizer.backbone.blocks[0].attn.qkv.weight.grad)
    torch.testing.assert_close(*gradients)
    frozen = build(trainable=False)
    checkpoint_activations(frozen, every=1)
    assert frozen.checkpoint_every == 0


@pytest.mark.parametrize("norm", [None, 1e-3])
def test_bfloat16_autocast_and_bfloat16_parameters_are_close_to_float32(norm: float | None):
    tokenizer, batch = build(qk_norm_eps=norm), images()
    plain = tokenizer(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        automatic = tokenizer(batch)
    cast = tokenizer.bfloat16()(batch)
    for tokens in (automatic, cast):
        assert (tokens.float() - plain).abs().mean() < 0.05 * plain.abs().mean()


def test_files_with_timms_and_with_metas_names_give_the_same_weights(tmp_path: Path):
    torch.manual_seed(0)
    state = timm.create_model(SMALL, pretrained=False, num_classes=0, depth=1).state_dict()
    state |= {name.replace("blocks.0", f"blocks.{k}"): value for name, value in state.items() for k in range(1, 12)}
    place = torch.randn(1, 1, 384)
    meta = {name: value for name, value in state.items() if name not in ("reg_token", "cls_token", "pos_embed")}
    meta |= {
        "mask_token": torch.zeros(1, 384), "register_tokens": state["reg_token"],
        "cls_token": state["cls_token"] - place, "pos_embed": torch.cat([place, state["pos_embed"]], dim=1),
    }  # fmt: skip
    save_file({name: value.clone() for name, value in state.items()}, tmp_path / "timm.safetensors")
    torch.save(meta, tmp_path / "dinov2_vits14_reg4_pretrain.pth")
    files = ("timm.safetensors", "dinov2_vits14_reg4_pretrain.pth")
    ours = [DinoV2(width=384, variant=SMALL, checkpoint=tmp_path / file).state_dict() for file in files]
    for name, value in ours[0].items():
        torch.testing.assert_close(ours[1][name], value, msg=name)
    torch.testing.assert_close(ours[0]["backbone.pos_embed"], state["pos_embed"])
    del meta["norm.bias"]
    torch.save(meta, tmp_path / "cut.pth")
    with pytest.raises(
        InputError, match=r"cut.pth does not fit: norm.bias is missing; get https://huggingface.co/timm"
    ):
        DinoV2(width=384, variant=SMALL, checkpoint=tmp_path / "cut.pth")


@pytest.mark.parametrize(("given", "message"), [
    ({"depth": 6}, "pretrained weights have the sizes of their variant: leave out backbone_width, depth and num_heads"),
    ({"variant": "vit_smal_patch14_dinov2"}, "no DINOv2 variant 'vit_smal_patch14_dinov2' in timm; did you mean 'vit_"),
    ({"variant": "vit_small_patch16_dinov3", "pretrained": False}, "no DINOv2 variant"),
    ({"checkpoint": "missing.pth"}, "missing.pth does not exist; get https://huggingface.co/timm/vit_base_patch14_reg4"),
])  # fmt: skip
def test_wrong_settings_are_refused_with_a_remedy(given: dict[str, object], message: str):
    with pytest.raises(InputError, match=message):
        DinoV2(width=8, **given)


def test_the_meta_device_needs_no_weight_file():
    with torch.device("meta"):
        tokenizer = DinoV2(width=8, variant=SMALL, checkpoint="missing.safetensors", trainable=True)
    assert all(parameter.is_meta for parameter in tokenizer.parameters())
    assert tokenizer(torch.rand(1, 2, 3, 28, 42, device="meta")).shape == (1, 2, 6, 8)
