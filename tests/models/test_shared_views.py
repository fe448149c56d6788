"""Several processes that share the views of a clip compute the losses and gradients of one process."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from learning import awake
from small import names
from threads_as_processes import Meeting, in_threads, shared

from openrayzer.components.losses.mse import MeanSquaredError
from openrayzer.interfaces import (
    ATTENTION_BACKENDS,
    ATTENTION_LAYOUTS,
    CAMERA_HEADS,
    FUSIONS,
    MATCHERS,
    MODELS,
    OBJECTIVES,
    POSITION_ENCODINGS,
    RENDERERS,
    TOKENIZERS,
    InputError,
    Model,
    Objective,
)
from openrayzer.layers.stack import checkpoint_activations
from openrayzer.layers.view_shares import UNSHARED, SharesViews, ViewShares, share_views
from openrayzer.planning.clip_shapes import ClipShape
from openrayzer.planning.trace import trace_micro_batch
from openrayzer.settings import LossTerm
from openrayzer.training.weighted_loss import WeightedLoss
from openrayzer.types import Cameras, Views

Small = Callable[..., Any]
SIZE = 2


def clips(*, as_list: bool = False) -> Views:
    """Two clips of eight views in random order: four contexts and three targets, or lists for RayDer."""
    generator = torch.Generator().manual_seed(0)
    c2w = torch.eye(4).repeat(2, 8, 1, 1)
    c2w[..., :3, 3] = torch.rand(2, 8, 3, generator=generator)
    order = torch.stack([torch.randperm(8, generator=generator) for _ in range(2)])
    context, target = (order[:, :-1], order[:, 1:]) if as_list else (order[:, :4], order[:, 4:7])
    return Views(
        images=torch.rand(2, 8, 3, 16, 24, generator=generator),
        frames=torch.arange(8).repeat(2, 1),
        context=context,
        target=target,
        scenes=("attic", "cellar"),
        cameras=Cameras(c2w, torch.tensor([0.8, 1.2, 0.5, 0.5]).repeat(2, 8, 1)),
    )


def rayzer(small: Small, **parts: Any) -> Model:
    chosen = {
        "tokenizer": small(TOKENIZERS, "linear"),
        "position_encoding": small(POSITION_ENCODINGS, "sinusoidal"),
        "layout": small(ATTENTION_LAYOUTS, "global"),
        "camera_head": small(CAMERA_HEADS, "rot6d"),
        "fusion": small(FUSIONS, "token_mlp"),
        "renderer": small(RENDERERS, "reading"),
        "attention": ATTENTION_BACKENDS["sdpa"](),
        "num_latents": 4,
    }
    return small(MODELS, "rayzer", **chosen | parts)


CASES: dict[str, Callable[[Small], Model]] = {
    "rayzer reading": rayzer,
    "rayzer joint": lambda small: rayzer(small, renderer=small(RENDERERS, "joint")),
    "rayzer layered per_view": lambda small: rayzer(
        small, renderer=small(RENDERERS, "layered"), num_latents=0, encoder="per_view"
    ),
    "rayzer alternating rays": lambda small: rayzer(
        small,
        layout=small(ATTENTION_LAYOUTS, "vggt_alternating"),
        position_encoding=small(POSITION_ENCODINGS, "rope2d"),
        patch_positions="rays",
        num_latents=0,
        num_camera_tokens=0,
    ),
    "rayzer frame": lambda small: rayzer(small, layout=small(ATTENTION_LAYOUTS, "frame")),
    "rayzer matches": lambda small: rayzer(
        small, matcher=small(MATCHERS, "patch_correlation"), estimator_sees="both", num_register_tokens=1
    ),
    "lvsm_encoder_decoder": lambda small: small(
        MODELS, "lvsm_encoder_decoder", num_latents=4, renderer=small(RENDERERS, "joint")
    ),
    "lvsm_decoder_only": lambda small: small(MODELS, "lvsm_decoder_only", renderer=small(RENDERERS, "joint")),
    "efficient_lvsm": lambda small: small(MODELS, "efficient_lvsm", renderer=small(RENDERERS, "layered")),
    "uplvsm": lambda small: small(
        MODELS, "uplvsm", num_latents=4, fusion=small(FUSIONS, "first_view_rays"), renderer=small(RENDERERS, "joint")
    ),
    "rayder prefix": lambda small: small(MODELS, "rayder", state_dropout=0.0),
    "rayder all": lambda small: small(MODELS, "rayder", state_dropout=0.0, targets_see="all", global_positions="rays"),
}
"""The models that divide views, with all layouts and renderers."""


def learn(model: Model, views: Views, shares: ViewShares, objective: Objective | None) -> tuple[float, torch.Tensor]:
    """The part of a process in the loss, and the images; fills the gradients."""
    prediction = model(views) if objective is None else objective(model, views)
    losses = WeightedLoss([LossTerm(loss=MeanSquaredError())], shares=shares)
    of_cameras = prediction.cameras.c2w.sin().mean() + prediction.cameras.intrinsics.mean()
    loss = losses(prediction.images, views.target_images, step=0, extra={"of_cameras": 0.1 * of_cameras})["loss"]
    loss.backward()
    return float(loss.detach()), prediction.images.detach()


def assert_same(model: Model, views: Views, *, size: int = SIZE, objective: Objective | None = None) -> None:
    """Processes together have the images, the loss and the gradients of one process."""
    alone = copy.deepcopy(model)
    loss, images = learn(alone, views, UNSHARED, objective)
    results, together = shared(model, size, lambda copied, shares: learn(copied, views, shares, objective))
    assert sum(part for part, _ in results) / size == pytest.approx(loss, rel=1e-5)
    for _, of_process in results:
        torch.testing.assert_close(of_process, images, rtol=1e-4, atol=1e-5)
    for (name, weight), own in zip(alone.named_parameters(), together.parameters(), strict=True):
        if weight.requires_grad:
            assert weight.grad is not None, name
            assert float((own.grad - weight.grad).abs().max()) <= 1e-4 * float(weight.grad.abs().max()) + 1e-9, name


@pytest.mark.parametrize("case", CASES)
def test_two_processes_have_the_loss_and_the_gradients_of_one(small, case):
    model = awake(CASES[case](small)).train()
    model.check_sharing(SIZE)
    assert_same(model, clips(as_list=case == "rayder prefix") if case != "rayder all" else clips())


def test_four_processes_with_fewer_targets_have_the_loss_and_the_gradients_of_one(small):
    heads = {"num_heads": 4}
    model = rayzer(small, renderer=small(RENDERERS, "reading", **heads), **heads)
    model.check_sharing(4)
    assert_same(awake(model).train(), clips(), size=4)


def test_recomputed_blocks_exchange_again(small):
    model = awake(rayzer(small)).train()
    checkpoint_activations(model, every=1)
    assert_same(model, clips())


def test_an_objective_that_calls_the_methods_of_a_model_divides_views(small, monkeypatch):
    objective = small(OBJECTIVES, "mask_swap")
    half = torch.zeros(2, 16, 24, dtype=torch.bool)
    half[:, :8] = True
    monkeypatch.setattr(objective, "_first_half", lambda *_: half)  # threads share their random numbers
    assert_same(awake(rayzer(small)).train(), clips(), objective=objective)


def test_outside_of_training_every_process_has_all_views(small):
    model, views = awake(rayzer(small)).train(), clips()

    @torch.no_grad()
    def images(copied: Model, shares: ViewShares) -> torch.Tensor:
        for weight in copied.parameters():
            weight.grad = torch.zeros_like(weight)
        return copied.eval()(views).images if shares.number == 0 else model.eval()(views).images

    (own, other), _ = shared(model, SIZE, images)  # would wait for ever if one process needed the other
    torch.testing.assert_close(own, other)


def test_every_model_that_divides_views_is_among_the_cases():
    dividing = {name for name in names(MODELS) if MODELS[name].check_sharing is not Model.check_sharing}
    assert dividing - {case.split()[0] for case in CASES} == {"erayzer", "taught"}  # Gaussians; calls its student


def test_scenes_of_gaussians_are_refused(small):
    model = small(MODELS, "erayzer")
    with pytest.raises(InputError, match="ERayZer with scenes of Gaussians cannot divide"):
        model.check_sharing(SIZE)


@pytest.mark.parametrize(
    ("processes", "parts", "message"),
    [
        (3, {}, "3 does not divide the 2 attention heads; 1 or 2 would work"),
        (
            2,
            {"num_latents": 5},
            r"2 does not divide the 5 latents of a scene \(model.num_latents\); model.num_latents=6 would work",
        ),
    ],
)
def test_numbers_of_processes_that_do_not_divide_are_refused(small, processes, parts, message):
    with pytest.raises(InputError, match=message):
        rayzer(small, **parts).check_sharing(processes)


def test_views_that_do_not_divide_are_refused(small):
    model, views = rayzer(small).train(), clips()
    odd = Views(views.images[:, :7], views.frames[:, :7], views.context % 7, views.target % 7, views.scenes)
    with pytest.raises(InputError, match="sequence_parallel 2 does not divide the 7 views of a clip; 1 or 7 would"):
        shared(model, SIZE, lambda copied, _: copied(odd))


@pytest.mark.parametrize("recomputed", [False, True])
def test_a_plan_has_the_exchanges_and_the_smaller_activations_of_one_process(small, monkeypatch, recomputed):
    sent, exchange = [0.0, 0.0], Meeting.exchange

    def counted(meeting: Meeting, number: int, rows: torch.Tensor) -> torch.Tensor:
        sent[number] += rows.nbytes / 2
        return exchange(meeting, number, rows)

    monkeypatch.setattr(Meeting, "exchange", counted)
    views, model = clips(), rayzer(small).train()
    checkpoint_activations(model, every=int(recomputed))
    shared(model, SIZE, lambda copied, _: copied(views).images.mean().backward())
    with torch.device("meta"):
        planned = rayzer(small)
    checkpoint_activations(planned, every=int(recomputed))
    alone, first = (
        trace_micro_batch(planned, ClipShape(8, 4, 3), (16, 24), batch=2, bf16=False, device="cpu", processes=number)
        for number in (1, 2)
    )
    assert first.sent == sent[0] == sent[1]
    assert alone.sent == 0
    assert first.kept < 0.75 * alone.kept
    assert not any(module.given_shares.count > 1 for module in planned.modules() if isinstance(module, SharesViews))


def saved_bytes(model: Model, views: Views) -> int:
    """Bytes that the forward pass keeps for the backward pass, without weights; each storage counts once."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        prediction = model(views)
    del prediction
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("renderer", ["reading", "joint", "layered"])
def test_activations_of_32_views_are_divided(small: Small, renderer: str):
    generator = torch.Generator().manual_seed(0)
    views = Views(
        images=torch.rand(1, 32, 3, 64, 64, generator=generator),
        frames=torch.arange(32)[None],
        context=torch.arange(0, 32, 2)[None],
        target=torch.arange(1, 32, 2)[None],
        scenes=("attic",),
        cameras=Cameras(torch.eye(4).repeat(1, 32, 1, 1), torch.tensor([0.8, 1.2, 0.5, 0.5]).repeat(1, 32, 1)),
    )
    heads = {"num_heads": 4}
    scene = {"num_latents": 0, "encoder": "per_view"} if renderer == "layered" else {}
    model = rayzer(small, renderer=small(RENDERERS, renderer, **heads), **heads, **scene)
    whole = saved_bytes(model, views)

    def part(shares: ViewShares) -> int:
        own = copy.deepcopy(model)
        share_views(own, shares)
        return saved_bytes(own, views)

    for processes, limit in ((2, 0.6), (4, 0.35)):
        parts = in_threads(processes, part)
        assert max(parts) < limit * whole, [each / whole for each in parts]
