"""The file of a study."""

from dataclasses import dataclass, field, fields
from pathlib import Path

from openrayzer.composer.build import ExperimentError, construct, plan
from openrayzer.composer.files import read_chain
from openrayzer.interfaces import InputError

_BASE = "base"
"""Name of the variant without changes, if a study has factors and no variants."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The amount of training of every run of a study. Exactly one of the values is above 0.

    Attributes:
        steps: optimizer steps.
        clips: clips of all steps together.
        flops: floating point operations of all steps together, counted by the planner.
        seconds: seconds of training on this machine; a short training of each variant measures its speed first.
    """

    steps: int = 0
    clips: int = 0
    flops: float = 0.0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        values = [getattr(self, each.name) for each in fields(self)]
        if min(values) < 0 or sum(value > 0 for value in values) != 1:
            raise InputError("a budget needs exactly one of steps, clips, flops and seconds, above 0")


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """A fit of the held-out error to sizes, and its forecast for larger sizes.

    The error is the mean squared error on held-out clips while training. Use a constant learning rate, because every
    evaluated step is a point of the fit.

    Attributes:
        sizes: ``weights``, ``steps``, ``clips``, or keys of the experiment whose values are numbers above 0, such as
            ``shared.width``.
        forecast: variant -> multiple of the budget. These variants are not part of the fit, which predicts their error.
    """

    sizes: tuple[str, ...]
    forecast: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.sizes or len(set(self.sizes)) < len(self.sizes):
            raise InputError("scaling needs sizes, each of them once")
        if wrong := [name for name, multiple in self.forecast.items() if multiple <= 0]:
            raise InputError(f"scaling: the multiple of the budget of {wrong[0]!r} must be above 0")


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study: variants of one experiment, trained with several seeds and evaluated in the same way.

    Attributes:
        experiment: the base experiment: a path, relative to the folder of the study, or the name of a shipped one.
        budget: the amount of training that is equal for all runs.
        metrics: the numbers to compare: image metrics (``psnr``), pose metrics (``rpa@15``), depth metrics
            (``depth_abs_rel``), shares of passed checks of the sanity battery (``sanity.shuffled_order``), transfer
            scores (``transfer.auc@20``), and ``camera_gain``, the PSNR minus the PSNR with exchanged target cameras.
        reported: further numbers that are shown, but not compared.
        changes: changes of the base experiment for all variants, as for ``--set``.
        variants: name -> changes of this variant.
        factors: key -> values; every combination is a variant, in addition to ``variants``.
        seeds: seeds of the runs of each variant.
        evaluations: name -> arguments of ``openrayzer evaluate`` besides ``--run`` and ``--output``.
        comparisons: planned pairs of variants; the second is compared with the first. Empty compares every variant with
            the first, or none if there is ``scaling``.
        scaling: the fit of the error to sizes; None for none.
        description: a sentence for the page.

    Raises:
        InputError: the values contradict each other.
    """

    experiment: str
    budget: Budget
    metrics: tuple[str, ...]
    reported: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    variants: dict[str, tuple[str, ...]] = field(default_factory=dict)
    factors: dict[str, tuple[str | int | float | bool, ...]] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)
    evaluations: dict[str, tuple[str, ...]] = field(default_factory=lambda: {"held_out": ()})
    comparisons: tuple[tuple[str, str], ...] = ()
    scaling: Scaling | None = None
    description: str = ""

    def __post_init__(self) -> None:
        for name in ("metrics", "seeds", "evaluations", "shown"):
            values = list(getattr(self, name))
            if not values:
                raise InputError(f"a study needs {name}")
            if len(set(values)) < len(values):
                name = "metrics and reported together" if name == "shown" else name
                raise InputError(f"{name} has a value twice: {', '.join(map(str, values))}")
        if empty := [key for key, values in self.factors.items() if not values]:
            raise InputError(f"the factor {empty[0]!r} has no values")
        if len(self.all_variants) < 2:
            raise InputError("a study needs variants or factors that give at least two variants")
        names = [*self.all_variants, *self.evaluations]
        if wrong := [name for name in names if not name or name in (".", "..") or set(name) & set('/\\:*?"<>|')]:
            raise InputError(f"{wrong[0]!r} cannot be the name of a folder")
        for pair in self.comparisons:
            if unknown := [name for name in pair if name not in self.all_variants]:
                raise InputError(f"comparisons: {unknown[0]!r} is no variant; known: {', '.join(self.all_variants)}")
            if pair[0] == pair[1]:
                raise InputError(f"comparisons: {pair[0]!r} is compared with itself")
        if unknown := [name for name in self.forecast if name not in self.all_variants]:
            raise InputError(f"scaling: {unknown[0]!r} is no variant; known: {', '.join(self.all_variants)}")

    @property
    def all_variants(self) -> dict[str, tuple[str, ...]]:
        """Name -> changes of every variant, those of the factors last."""
        combined: dict[str, tuple[str, ...]] = {_BASE: ()} if self.factors else {}
        for key, values in self.factors.items():
            combined = {
                f"{'' if name == _BASE else f'{name} '}{key.rpartition('.')[2]}={value}": (
                    *changes,
                    f"{key}={_text(value)}",
                )
                for name, changes in combined.items()
                for value in values
            }
        return self.variants | combined

    @property
    def forecast(self) -> dict[str, float]:
        """Variant outside the fit -> multiple of the budget."""
        return self.scaling.forecast if self.scaling else {}

    @property
    def shown(self) -> tuple[str, ...]:
        """All numbers of the page, compared or not."""
        return self.metrics + self.reported

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The planned comparisons."""
        if self.comparisons or self.scaling:
            return self.comparisons
        first, *others = self.all_variants
        return tuple((first, other) for other in others)


def read_study(path: Path) -> Study:
    """Read and check the file of a study.

    Its keys replace those of the file that it ``extends``, if it has one.

    Raises:
        ExperimentError: the file has problems; the message lists all with their JSON paths.
    """
    values = {key: value for document in read_chain(path) for key, value in document.values.items()}
    values.pop("extends", None)
    try:
        planned = plan(values, Study, registries=())
    except ExperimentError as error:
        raise ExperimentError(error.problems, source=path) from error.__cause__
    try:
        return construct(planned)
    except ExperimentError as error:  # of the study as a whole, which has no JSON path
        problems = [problem.removeprefix("experiment: ") for problem in error.problems]
        raise ExperimentError(problems, source=path) from error.__cause__


def _text(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
