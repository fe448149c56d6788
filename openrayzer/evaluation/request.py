"""What a user asks of an evaluation."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
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
"""Keys of the run's sections in whose place an option stands."""


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """One evaluation.

    Attributes:
        run: run folder, folder of weights, or name on the hub, as ``load_model`` takes it.
        output: folder to write.
        checkpoint: of a run: ``latest``, ``best``, or a name.
        weights: of a run: ``ema``, ``raw``, or ``auto``; see ``load_model``.
        data: folders of clips instead of the run's own test sources.
        dataset: registered name of the dataset that reads ``data``.
        overrides: ``data.workers=4``: changes of the run's sections ``data`` and ``evaluation``.
        protocol: a published protocol; empty for none.
        index: file that lists the views; None takes the protocol's rule, or else the run's own view sampler.
        placements: ways to place the targets; empty for all that the model has.
        image_size: height and width; None takes the protocol's, or else the run's.
        batch_size: scenes that go through the model together.
        views_at_once: most target views of a scene that are rendered together; fewer where memory does not suffice.
        max_scenes: at most this many; 0 for all.
        precision: in which the model computes; metrics are always float32.
        lpips_vgg: backbone of LPIPS; None looks for it in weights/.
        lpips_alex: likewise.
        sweep: numbers of context views to try; empty for none.
        sanity: whether to run the sanity battery.
        transfer: whether to measure transfer of cameras between clips.
        transfer_oracle: run of the model that judges it, as ``run``; empty for the evaluated one itself.
        pictures: scenes that are drawn, besides the worst and the best; 0 draws none at all.
        seed: of the view choice and of the bootstrap; None takes the run's for the former, 0 for the latter.
    """

    run: str
    output: Path
    checkpoint: str = "latest"
    weights: WeightKind = "auto"
    data: tuple[Path, ...] = ()
    dataset: str = "chunks"
    overrides: tuple[str, ...] = ()
    protocol: str = ""
    index: Path | None = None
    placements: tuple[str, ...] = ()
    image_size: tuple[int, int] | None = None
    batch_size: int = 1
    views_at_once: int = 16
    max_scenes: int = 0
    precision: Precision = "float32"
    lpips_vgg: Path | None = None
    lpips_alex: Path | None = None
    sweep: tuple[int, ...] = ()
    sanity: bool = False
    transfer: bool = False
    transfer_oracle: str = ""
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
            wrong.append("--transfer_oracle judges what --transfer measures; give both")
        wrong += [
            f"--set {override} is an option here: take {_OWN_OPTION[key]}"
            for override in self.overrides
            if (key := re.split(r"[=\[]", override, maxsplit=1)[0].strip()) in _OWN_OPTION
        ]
        wrong += [
            f"--set {override}: only data.* and evaluation.* can be changed; the model is what the run made it"
            for override in self.overrides
            if not override.strip().startswith(("data.", "evaluation."))
        ]
        if wrong:
            raise InputError("\n".join(wrong))


def split_names(protocol: Sequence[str], placement: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The published protocol and the placements among what ``--protocol`` and ``--placement`` were given.

    ``--protocol`` takes both kinds of names, since no name is of both.

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
        raise InputError(f"one protocol at a time, got {' and '.join(dict.fromkeys(named))}")
    return (named[0] if named else ""), tuple(dict.fromkeys(placements))
