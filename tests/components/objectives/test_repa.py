"""REPA: features of chosen blocks, on the model's grid; distances; teachers and models that do not suit."""

import pytest
import torch
import torch.nn.functional as F

from openrayzer.components.objectives.repa import Alignment, Repa
from openrayzer.interfaces import FUSIONS, MODELS, OBJECTIVES, RENDERERS, TOKENIZERS, InputError, Model
from openrayzer.types import Views


@pytest.fixture
def model(small) -> Model:
    return small(MODELS, "efficient_lvsm", renderer=small(RENDERERS, "layered"), fusion=small(FUSIONS, "pixel")).train()


def repa(small, *, layers=(("input", 2, 1),), **given) -> Repa:
    chosen = tuple(Alignment(stream=stream, layer=layer, teacher_block=block) for stream, layer, block in layers)
    torch.manual_seed(0)
    return small(OBJECTIVES, "repa", alignments=chosen, **given)


@pytest.mark.parametrize("distance", ["smooth_l1", "mse", "cosine"])
@torch.no_grad()
def test_the_loss_compares_projected_tokens_of_a_layer_with_features_of_a_block(small, model, views: Views, distance):
    objective = repa(small, layers=[("input", 2, 1)], distance=distance, weight=0.25)
    value = objective(model, views).extra_losses["repa"]
    scene = model.reconstruct(views.context_images, views.cameras.select(views.context))  # tokens after block 2
    own = objective.projectors[0](scene.tokens.unflatten(1, (3, 6)))
    teacher = objective._teacher[0].backbone
    pixels = F.interpolate(views.context_images.flatten(0, 1), size=(28, 42), mode="bicubic", align_corners=False)
    pixels = (pixels - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    blocks = []
    teacher.blocks[0].register_forward_hook(lambda module, given, result: blocks.append(result))
    teacher(pixels)
    wanted = blocks[0][:, 1:].mT.unflatten(2, (2, 3))  # 2 x 3 patches of 14, as many as the model's
    wanted = wanted.flatten(2).mT.unflatten(0, (2, 3))
    expected = {
        "smooth_l1": lambda: F.smooth_l1_loss(own, wanted),
        "mse": lambda: F.mse_loss(own, wanted),
        "cosine": lambda: 1 - F.cosine_similarity(own, wanted, dim=-1).mean(),
    }[distance]()
    torch.testing.assert_close(value, 0.25 * expected, atol=1e-5, rtol=1e-4)


def test_each_image_of_each_alignment_counts_the_same(small, model, views):
    layers = [("input", 1, 1), ("target", 2, 2)]
    objective = repa(small, layers=layers)
    parts = [repa(small, layers=[layer]) for layer in layers]
    for part, projector in zip(parts, objective.projectors, strict=True):
        part.projectors[0].load_state_dict(projector.state_dict())
    alone = [part(model, views).extra_losses["repa"] for part in parts]
    torch.testing.assert_close(objective(model, views).extra_losses["repa"], (3 * alone[0] + 2 * alone[1]) / 5)


def test_neither_the_teacher_nor_the_prediction_changes(small, model, views):
    objective = repa(small)
    teacher = objective._teacher[0]
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    prediction = objective(model, views)
    torch.testing.assert_close(prediction.images, model(views).images)
    prediction.extra_losses["repa"].backward()
    assert all(weight.grad is None for weight in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not any("teacher" in name for name in objective.state_dict())


def test_recomputed_blocks_have_the_same_gradients(small, views):
    gradients = []
    for every in (0, 1):
        model = small(
            MODELS, "efficient_lvsm", renderer=small(RENDERERS, "layered"), activation_checkpointing=every
        ).train()
        loss = repa(small, layers=[("input", 1, 1), ("target", 1, 2)])(model, views).extra_losses["repa"]
        gradients.append(torch.autograd.grad(loss, list(model.parameters()), allow_unused=True))
    assert any(gradient is not None for gradient in gradients[0])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_what_does_not_suit_is_refused(small, model, views):
    with pytest.raises(InputError, match="tokenizer LinearTokenizer cannot teach; take 'dinov2' or 'dinov3'"):
        repa(small, teacher=small(TOKENIZERS, "linear"))
    with pytest.raises(InputError, match="repa aligns layer 3 of the stream 'input', which has 2 blocks"):
        repa(small, layers=[("input", 3, 1)]).check_model(model)
    with pytest.raises(InputError, match="RayDer has no blocks for the stream 'input' of repa; take 'efficient_lvsm'"):
        repa(small).check_model(small(MODELS, "rayder"))
    with pytest.raises(InputError, match=r"the backbone has 2 blocks, counted from 1, and not the blocks \[3\]"):
        repa(small, layers=[("input", 1, 3)])(model, views)
    with pytest.raises(InputError, match="layer and teacher_block count from 1, got 0 and 1"):
        Alignment(stream="input", layer=0, teacher_block=1)
    with pytest.raises(InputError, match="at least one alignment"):
        repa(small, layers=[])
    latents = small(MODELS, "lvsm_encoder_decoder", fusion=small(FUSIONS, "pixel"))
    with pytest.raises(InputError, match="do not hold one token for each patch; repa needs a scene without latents"):
        repa(small)(latents, views)
