"""The request for an evaluation: everything that a user can choose."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from openrayzer.evaluation.placements import PLACEMENTS
from openrayzer.evaluation.protocols import PROTOCOLS
from openrayzer.interfaces import InputError
from openrayzer.weights.finding import WeightKind
from registry import did_you_mean

Precision = Literal["float32", "bfloat16"]
_OWN_OPTION = {
    "data.image_size": "--image_size H W",
    "evaluation.max_scenes": "--max_scenes N",
    "evaluation.batch_size": "--batch_size N",
}
"""Keys of the experiment that have an option of the tool."""


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """One evaluation.

    Attributes:
        run: run folder, folder of weights, or name on the hub, as ``load_model`` takes it.
        output: folder to write.
        checkpoint: checkpoint of a run: ``latest``, ``best``, or a name.
        weights: weights of a checkpoint: ``ema``, ``raw``, or ``auto``; see ``load_model``.
        data: folders of clips that replace the run's test sources.
        dataset: registered name of the dataset that reads ``data``.
        overrides: changes of the run's sections ``data`` and ``evaluation``, e.g. ``data.workers=4``.
        plugins: plugins to load, such as a file with a metric; the plugins of the run are always loaded.
        protocol: name of a published protocol; empty for none.
        index: file that lists the views; None takes the rule of the protocol, or else the run's own view sampler.
        placements: names of placements; empty for all that fit the model.
        metrics: registered names of image metrics; empty for all.
        metric_weights: files of pretrained weights by metric; the other files are looked for in ``weights/``.
        image_size: height and width in pixels; None takes the size of the protocol, or else of the run.
        batch_size: scenes that go through the model together.
        views_at_once: most target views of a scene that are rendered together; fewer if memory does not suffice.
        max_scenes: most scenes to evaluate; 0 for all.
        precision: of the model; metrics are always computed in float32.
        sweep: numbers of context views of the views sweep; empty for none.
        sanity: whether to run the sanity battery.
        transfer: whether to measure the transfer of cameras between clips.
        baselines: baselines that look at the images: ``sfm``, ``colmap``.
        transfer_oracle: run of the model that judges the transfer, as ``run``; empty for the evaluated model.
        pictures: number of scenes with pictures, besides the worst and best ones; 0 for no pictures at all.
        seed: seed of the view choice and of the bootstrap; None takes the run's seed for the view choice and 0 for the
            bootstrap.

    Raises:
        InputError: a value is out of range, or an override is not allowed.
    """

    run: str | Path
    output: str | Path
    checkpoint: str = "latest"
    weights: WeightKind = "auto"
    data: tuple[str | Path, ...] = ()
    dataset: str = "chunks"
    overrides: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    protocol: str = ""
    index: str | Path | None = None
    placements: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    metric_weights: Mapping[str, str | Path] = field(default_factory=dict)
    image_size: tuple[int, int] | None = None
    batch_size: int = 1
    views_at_once: int = 16
    max_scenes: int = 0
    precision: Precision = "float32"
    sweep: tuple[int, ...] = ()
    sanity: bool = False
    transfer: bool = False
    baselines: tuple[str, ...] = ("sfm",)
    transfer_oracle: str | Path = ""
    pictures: int = 24
    seed: int | None = None

    def __post_init__(self) -> None:
        wrong = [
            f"--{name} must be {least} or more, got {value}"
            for name, value, least in (
                ("batch_size", self.batch_size, 1),
                ("views_at_once", self.views_at_once, 1),
                ("max_scenes", self.max_scenes, 0),
                ("pictures", self.pictures, 0),
                ("seed", self.seed or 0, 0),
                *(("image_size", side, 1) for side in self.image_size or ()),
                *(("views", count, 1) for count in self.sweep),
            )
            if value < least
        ]
        if self.transfer_oracle and not self.transfer:
            wrong.append("--transfer_oracle needs --transfer")
        wrong += [
            f"--set {override}: take the option {_OWN_OPTION[key]} instead"
            for override in self.overrides
            if (key := re.split(r"[=\[]", override, maxsplit=1)[0].strip()) in _OWN_OPTION
        ]
        wrong += [
            f"--set {override}: only data.* and evaluation.* can be changed; the model is fixed by the run"
            for override in self.overrides
            if not override.strip().startswith(("data.", "evaluation."))
        ]
        if wrong:
            raise InputError("\n".join(wrong))


def split_names(protocol: Sequence[str], placement: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The published protocol and the placements that the user named.

    Args:
        protocol: values of ``--protocol``, which takes names of protocols and of placements. A protocol and a placement
            never have the same name.
        placement: values of ``--placement``.

    Raises:
        InputError: a name is unknown, or there are two protocols.
    """
    named = [name for name in protocol if name in PROTOCOLS]
    placements = [*(name for name in protocol if name not in PROTOCOLS), *placement]
    for name in placements:
        if name not in PLACEMENTS:
            known = [*PLACEMENTS] if name in placement else [*PROTOCOLS, *PLACEMENTS]
            raise InputError(f"no protocol or placement named {name!r}{did_you_mean(name, known)}")
    if len(set(named)) > 1:
        raise InputError(f"--protocol takes one protocol, got {' and '.join(dict.fromkeys(named))}")
    return (named[0] if named else ""), tuple(dict.fromkeys(placements))
