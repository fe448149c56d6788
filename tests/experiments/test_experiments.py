"""Every experiment file can be built and split over GPUs, and its numbers equal the published recipe."""

import json
from copy import deepcopy
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest
import torch

from openrayzer.composer import ExperimentPlan, load_experiment
from openrayzer.models.erayzer import ERayZer
from openrayzer.models.lvsm_encoder_decoder import LVSMEncoderDecoder
from openrayzer.models.rayder import RayDer
from openrayzer.models.rayzer import RayZer
from openrayzer.models.uplvsm import UPLVSM
from openrayzer.settings import Experiment
from openrayzer.training.deepspeed_config import load_deepspeed_config, micro_batch_size

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / "experiments").glob("*.json"))
CONFIGS = sorted(path.name for path in (ROOT / "ds_configs").glob("*.json"))


@dataclass(frozen=True)
class Recipe:
    """Published numbers of one experiment; each of ``ranks`` GPUs holds ``scenes_per_rank`` scenes at once."""

    parameters: int
    blocks: tuple[int, ...]
    latents: int
    views: tuple[int, int]
    distances: tuple[int, int]
    steps: int
    ranks: int
    scenes_per_rank: int
    accumulation: int
    norm_factor: float = 5.0
    batch_size: int = 256
    learning_rate: float = 4e-4
    warmup_steps: int = 3000
    weight_decay: float = 0.05
    evaluated: tuple[int, int] | None = None  # views of the evaluation, if they differ from training
    patch_size: int = 16
    perceptual: float = 0.2
    image_size: tuple[int, int] = (256, 256)
    schedule: str = "warmup_cosine"
    clip_norm: float = 1.0
    grace_steps: int = 100


EFFICIENT = Recipe(
    199_070_208, (12, 12), 0, (2, 6), (25, 192), 165_000, 4, 2, 1, norm_factor=10.0, batch_size=8, patch_size=8,
    perceptual=0.5, schedule="constant", clip_norm=5.0,
)  # fmt: skip
"""20 passes over 66,033 scenes."""
ERAYZER = Recipe(
    245_833_225, (16, 16), 0, (5, 5), (64, 96), 152_000, 8, 24, 1, norm_factor=2.0, batch_size=192, grace_steps=200
)
UNPOSED = Recipe(
    260_131_975, (4, 6, 14), 1024, (2, 6), (25, 192), 100_000, 8, 16, 1, norm_factor=4.0, batch_size=128,
    warmup_steps=4000, patch_size=14, perceptual=0.5, image_size=(224, 224),
)  # fmt: skip
"""UP-LVSM; the published class token has a position of its own, 768 weights more."""
RECIPES = {
    "uplvsm_re10k_224": UNPOSED,
    "uplvsm_re10k_518": replace(
        UNPOSED, steps=80_000, scenes_per_rank=6, batch_size=48, learning_rate=4e-5, image_size=(518, 518)
    ),
    "ptlvsm_re10k": replace(UNPOSED, parameters=258_752_256, blocks=(0, 24), latents=0),
    "rayzer_dl3dv": Recipe(180_348_685, (8, 8, 8), 512, (16, 8), (48, 96), 50_000, 8, 8, 4),
    "rayzer_re10k": Recipe(180_348_685, (8, 8, 8), 512, (5, 5), (128, 192), 50_000, 8, 16, 2),
    "lvsm_dl3dv": Recipe(173_842_944, (12, 12), 512, (16, 8), (48, 96), 50_000, 8, 32, 1),
    "lvsm_re10k": Recipe(173_842_944, (12, 12), 512, (5, 5), (128, 192), 50_000, 8, 32, 1),
    "lvsm_decoder_re10k": Recipe(
        170_795_520, (0, 24), 0, (2, 6), (25, 192), 100_000, 64, 8, 1, batch_size=512, patch_size=8, perceptual=0.5
    ),
    "efficient_lvsm_re10k": EFFICIENT,
    "efficient_lvsm_re10k_512": replace(EFFICIENT, image_size=(512, 512)),
    "erayzer_dl3dv": ERAYZER,
    "erayzer_re10k": replace(ERAYZER, distances=(128, 192)),
    "rayzer_paper_dl3dv": Recipe(238_359_818, (8, 12, 12), 3072, (16, 8), (64, 96), 100_000, 32, 8, 1, norm_factor=2.0),
    "rayder_dl3dv": Recipe(
        421_768_161,
        (2, 2, 24, 2, 2),
        0,
        (23, 23),
        (48, 96),
        50_000,
        8,
        4,
        8,
        learning_rate=1e-4,
        warmup_steps=1000,
        weight_decay=0.01,
        evaluated=(16, 8),
    ),
}
GEOMETRIC = {
    "rayzer_geometric_dl3dv": "rayzer_dl3dv",
    "rayzer_geometric_re10k": "rayzer_re10k",
    "rayzer_dl3dv_bootstrapped": "rayzer_dl3dv",
}
"""Experiments of this project, and the published ones with the same clips and the same optimisation."""
SIZES = {"uplvsm_re10k_224_little": 76, "uplvsm_re10k_224_medium": 304, "uplvsm_re10k_224_large": 1216}
"""Experiments on some of the 4,866 chunks of RealEstate10K, and the number of these chunks."""
DEMOS = {
    "rayzer_demo",
    "rayzer_latent_demo",
    "rayzer_taught_demo",
    "rayzer_latent_taught_demo",
    "rayder_demo",
    "erayzer_demo",
    "erayzer_latent_demo",
}


@cache
def planned(name: str) -> ExperimentPlan:
    return load_experiment(ROOT / f"experiments/{name}.json")


@cache
def built(name: str) -> Experiment:
    """The experiment on the meta device. Tests share it, so they must not modify it."""
    with torch.device("meta"):
        return planned(name).build()


def blocks(experiment: Experiment) -> tuple[int, ...]:
    model = experiment.model
    if isinstance(model, RayDer):
        backbone = model.backbone
        return tuple(len(stack.blocks) for stack in [*backbone.down, backbone.middle, *reversed(backbone.up)])
    stacks = [model.estimator] if isinstance(model, RayZer | UPLVSM) else []
    drawing = [] if isinstance(model, ERayZer) else [model.scene.renderer.stack]
    return tuple(len(stack.blocks) for stack in [*stacks, model.scene.encoder, *drawing])


def test_every_full_size_experiment_has_a_published_recipe():
    assert set(NAMES) == RECIPES.keys() | GEOMETRIC.keys() | SIZES.keys() | DEMOS


def test_the_student_of_the_bootstrapped_experiment_is_open_rayzer():
    student, alone = (planned(name).resolved["model"] for name in ("rayzer_dl3dv_bootstrapped", "rayzer_dl3dv"))
    assert student["student"] == alone


@pytest.mark.parametrize("name", GEOMETRIC)
def test_geometric_experiments_have_the_clips_of_a_published_recipe_in_random_order(name: str):
    own, published = (deepcopy(planned(each).resolved) for each in (name, GEOMETRIC[name]))
    assert own["data"]["view_sampler"].pop("order") == "shuffled"
    assert published["data"]["view_sampler"].pop("order") == "temporal"
    for section in ("data", "loss", "train", "evaluation", "deepspeed"):
        assert own[section] == published[section]


@pytest.mark.parametrize("name", SIZES)
def test_experiments_on_less_data_list_the_first_chunks(name: str):
    own, full = (deepcopy(planned(each).resolved) for each in (name, "uplvsm_re10k_224"))
    patterns = own["data"]["train"][0]["dataset"].pop("chunks")
    assert not full["data"]["train"][0]["dataset"].pop("chunks")
    assert own["data"] == full["data"]
    chunks = [f"{number:06}.torch" for number in range(4866)]
    listed = [chunk for chunk in chunks if any(fnmatch(chunk, pattern) for pattern in patterns)]
    assert listed == chunks[: SIZES[name]]


@pytest.mark.parametrize("name", NAMES)
def test_a_resolved_experiment_has_the_same_plan(name: str, tmp_path: Path):
    assert built(name).model.posed == ("lvsm" in name and not name.startswith("uplvsm"))
    path = tmp_path / "resolved.json"
    path.write_text(json.dumps(planned(name).resolved), encoding="utf-8")
    again = load_experiment(path)
    assert again.plan == planned(name).plan
    assert again.resolved == planned(name).resolved


@pytest.mark.parametrize("name", RECIPES)
def test_parameter_counts(name: str):
    """The paper's RayZer, both variants of LVSM, and RayDer have exactly the published counts.

    Open-RayZer has 180,349,453 weights, 768 more than ours. It has LayerNorms with 768 gains before the estimator and
    before the encoder, and no gains in the norm before the pixels. Our model is like the paper's RayZer: it has no
    LayerNorms before estimator and encoder, and 768 gains before the pixels.
    """
    assert sum(weight.numel() for weight in built(name).model.parameters()) == RECIPES[name].parameters


@pytest.mark.parametrize("name", RECIPES)
def test_model_and_views_of_the_published_recipe(name: str):
    recipe, experiment = RECIPES[name], built(name)
    model = experiment.model
    assert isinstance(model, RayZer | UPLVSM | LVSMEncoderDecoder | RayDer)
    assert blocks(experiment) == recipe.blocks
    if isinstance(model, RayDer):
        assert (model.num_heads, model.state.out_features, model.camera_token.shape) == (12, 256, (768,))
    else:
        latents = getattr(model.scene, "latents", None)
        assert recipe.latents == 0 if latents is None else latents.shape == (recipe.latents, 768)
        assert planned(name).resolved["model"]["num_heads"] == 12
    assert (model.patch_size, experiment.data.image_size) == (recipe.patch_size, recipe.image_size)
    views = {experiment.data.view_sampler: recipe.views, experiment.evaluation.view_sampler: recipe.evaluated}
    for sampler, counts in views.items():
        assert (sampler.num_context, sampler.num_target) == (counts or recipe.views)
        assert sampler.distances(recipe.steps) == recipe.distances
    assert experiment.data.scene_scale == 1.35


@pytest.mark.parametrize("name", RECIPES)
def test_optimisation_of_the_published_recipe(name: str):
    recipe, experiment = RECIPES[name], built(name)
    train = planned(name).resolved["train"]
    assert (train["steps"], train["batch_size"]) == (recipe.steps, recipe.batch_size)
    assert train["optimizer"] == {
        "type": "adamw", "learning_rate": recipe.learning_rate, "betas": [0.9, 0.95],
        "weight_decay": recipe.weight_decay, "eps": 1e-8,
    }  # fmt: skip
    falling = {"final_fraction": 0.0} if recipe.schedule == "warmup_cosine" else {}
    assert train["schedule"] == {"type": recipe.schedule, "warmup_steps": recipe.warmup_steps} | falling
    assert (train["clip_norm"], train["bad_steps"]["norm_factor"]) == (recipe.clip_norm, recipe.norm_factor)
    assert train["bad_steps"]["grace_steps"] == recipe.grace_steps
    assert [(type(term.loss).__name__, term.weight_at(0)) for term in experiment.loss] == [
        ("MeanSquaredError", 1.0), ("Perceptual", recipe.perceptual),
    ]  # fmt: skip
    assert micro_batch_size(experiment.train, world_size=recipe.ranks) == recipe.scenes_per_rank
    assert experiment.train.accumulation == recipe.accumulation


def test_a_table_of_gains_gives_rayder_41_percent_fewer_weights():
    """The projections of the middle blocks alone have 169.9M weights in the published RayDer-B."""
    plan = load_experiment(ROOT / "experiments/rayder_dl3dv.json", overrides=["model.gains=table"])
    with torch.device("meta"):
        model = plan.build().model
    assert sum(weight.numel() for weight in model.parameters()) == 247_512_033


def test_all_demos_are_evaluated_on_the_same_views():
    plans = [planned(name).resolved for name in sorted(DEMOS)]
    for plan in plans:
        assert plan["evaluation"]["view_sampler"] == plans[0]["evaluation"]["view_sampler"]
        assert plan["data"]["test"] == plans[0]["data"]["test"]


def test_the_paper_experiment_has_the_curriculum_of_the_paper():
    sampler = built("rayzer_paper_dl3dv").data.view_sampler
    steps = {0: (48, 64), 5_000: (50, 69), 10_000: (53, 74), 20_000: (58, 85), 30_000: (64, 96), 90_000: (64, 96)}
    assert {step: sampler.distances(step) for step in steps} == steps


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", sorted({*NAMES} - SIZES.keys()))
def test_every_deepspeed_configuration_works_with_every_experiment(name: str, config: str):
    settings = built(name).train
    most = settings.batch_size // settings.accumulation
    for world_size in {1, min(2, most), min(8, most), most}:
        made = load_deepspeed_config(ROOT / "ds_configs" / config, settings, world_size=world_size)
        assert made["train_micro_batch_size_per_gpu"] * world_size * settings.accumulation == settings.batch_size
        assert made["train_batch_size"] == settings.batch_size
