"""Files of studies: variants of factors, budgets in steps, and messages about mistakes."""

import json
from pathlib import Path

import pytest

from openrayzer.cli.commands import evaluate_command
from openrayzer.composer import experiment_file, load_experiment
from openrayzer.evaluation.studies.planned_runs import Variant, check_evaluations, check_variants, steps_of
from openrayzer.evaluation.studies.study_file import Budget, Scaling, Study, read_study
from openrayzer.interfaces import InputError

ROOT = Path(__file__).parents[3]
TINY = ROOT / "tests/training/tiny_rayzer.json"
STUDIES = [file for file in sorted(ROOT.glob("docs/studies/*/*.json")) if not file.stem.startswith("results")]
TWO = {"base": (), "fast": ("train.optimizer.learning_rate=0.01",)}


def study(**values) -> Study:
    given = {"experiment": str(TINY), "budget": Budget(steps=4), "metrics": ("psnr",), "variants": TWO}
    return Study(**(given | values))


def test_every_combination_of_factors_is_a_variant():
    factors = {"model.layout.type": ("global", "frame"), "train.batch_size": (2, 4)}
    made = study(variants={}, factors=factors).all_variants
    assert list(made) == [
        "type=global batch_size=2", "type=global batch_size=4", "type=frame batch_size=2", "type=frame batch_size=4",
    ]  # fmt: skip
    assert made["type=frame batch_size=4"] == ("model.layout.type=frame", "train.batch_size=4")


def test_without_comparisons_every_variant_is_compared_with_the_first():
    assert study(variants=TWO | {"third": ("train.batch_size=2",)}).pairs == (("base", "fast"), ("base", "third"))


def test_a_study_of_two_variants_needs_few_lines(tmp_path: Path):
    file = tmp_path / "study.json"
    lines = [
        '{"experiment": "rayzer_demo",',
        ' "variants": {"base": [], "many planes": ["model.renderer.planes=32"]},',
        ' "budget": {"steps": 300},',
        ' "metrics": ["psnr"]}',
    ]
    file.write_text("\n".join(lines))
    read = read_study(file)
    assert read.seeds == (0, 1, 2)
    assert read.evaluations == {"held_out": ()}


def test_a_study_extends_another_one(tmp_path: Path):
    (tmp_path / "small.json").write_text(
        '{"experiment": "rayzer_demo", "variants": {"a": [], "b": []}, "budget": {"steps": 3}, "metrics": ["psnr"]}'
    )
    (tmp_path / "large.json").write_text('{"extends": "small.json", "budget": {"clips": 9}}')
    large = read_study(tmp_path / "large.json")
    assert (large.budget, list(large.variants)) == (Budget(clips=9), ["a", "b"])


def test_the_sizes_of_scaling_are_numbers_of_the_experiment():
    scaled = study(scaling=Scaling(sizes=("weights", "clips", "train.optimizer.learning_rate")))
    assert check_variants(scaled, TINY)["fast"].sizes["train.optimizer.learning_rate"] == 0.01
    for size, message in (("model.layout", "is {.* and not a number"), ("model.depths", "has no model.depths")):
        with pytest.raises(InputError, match=message):
            check_variants(study(scaling=Scaling(sizes=(size,))), TINY)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"reported": ("psnr",)}, "metrics and reported together has a value twice"),
        ({"scaling": Scaling(sizes=("weights",), forecast={"far": 2.0})}, "'far' is no variant; known: base, fast"),
        ({"metrics": ()}, "needs metrics"),
        ({"seeds": (1, 1)}, "seeds has a value twice"),
        ({"variants": {"base": ()}}, "at least two variants"),
        ({"variants": {"a/b": (), "c": ()}}, "cannot be the name of a folder"),
        ({"factors": {"train.seed": ()}}, "the factor 'train.seed' has no values"),
        ({"comparisons": (("base", "slow"),)}, "'slow' is no variant; known: base, fast"),
        ({"comparisons": (("base", "base"),)}, "compared with itself"),
    ],
)
def test_contradictions_are_refused(wrong: dict, message: str):
    with pytest.raises(InputError, match=message):
        study(**wrong)


@pytest.mark.parametrize("budget", [{}, {"steps": 3, "clips": 4}, {"steps": -1}])
def test_a_budget_has_one_amount(budget: dict):
    with pytest.raises(InputError, match="exactly one of steps, clips, flops and seconds"):
        Budget(**budget)


def test_all_problems_of_a_file_have_their_place(tmp_path: Path):
    file = tmp_path / "study.json"
    file.write_text(json.dumps({"experiment": 3, "budget": {"step": 1}, "metric": ["psnr"], "variants": {}}))
    with pytest.raises(InputError) as caught:
        read_study(file)
    said = str(caught.value)
    assert str(file) in said
    for part in ("experiment: expected str", "budget.step: ", "did you mean 'steps'", "metric: ", "metrics: required"):
        assert part in said


@pytest.mark.parametrize(
    ("budget", "steps"),
    [
        (Budget(steps=7), (7, 7)),
        (Budget(clips=40), (10, 5)),
        (Budget(flops=600.0), (6, 3)),
        (Budget(seconds=60.0), (30, 6)),
    ],
)
def test_a_budget_gives_the_steps_of_each_variant(budget: Budget, steps: tuple[int, int]):
    variants = {"small": Variant("small", (), 1, 100.0, 4), "large": Variant("large", (), 1, 200.0, 8)}
    found = steps_of(study(budget=budget), variants, {"small": 2.0, "large": 10.0})
    assert tuple(found.values()) == steps


def test_the_mistakes_of_all_variants_are_listed_before_anything_starts(tmp_path: Path):
    variants = {"a": ("model.layuot=1",), "b": ("train.batch_size=two",), "c": ()}
    with pytest.raises(InputError) as caught:
        check_variants(study(variants=variants), tmp_path / "study.json")
    assert "a: model.layuot" in str(caught.value)
    assert "b: train.batch_size: expected int" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--viewz", "3"), "evaluations.real: .*--viewz"),
        (("--run", "x"), "the study itself gives --run"),
        (("--protocol", "nothing"), "evaluations.real: "),
    ],
)
def test_wrong_arguments_of_an_evaluation_name_it(given: tuple[str, ...], message: str):
    with pytest.raises(InputError, match=message):
        check_evaluations(study(evaluations={"real": given}), evaluate_command.parser(), evaluate_command.request_of)


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_the_studies_of_the_docs_are_right(file: Path):
    read = read_study(file)
    base = experiment_file(read.experiment, folder=file.parent)
    for changes in read.all_variants.values():
        load_experiment(base, overrides=[*read.changes, *changes])
    check_evaluations(read, evaluate_command.parser(), evaluate_command.request_of)
