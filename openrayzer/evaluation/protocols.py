"""The published protocols: views, image sizes, and the properties of their index files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from openrayzer.data.sampling.evaluation_index import EvaluationIndex
from openrayzer.data.sampling.view_samplers import Window
from openrayzer.interfaces import InputError, UnusableSceneError, ViewChoice, ViewSampler
from registry import did_you_mean

Targets = Literal["inside", "outside", "every", "anywhere"]
"""Position of the targets: between the first and last context view, beyond them, every frame between, or anywhere."""

_NAMED = 3  # most faults in one message


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A published way to choose views.

    Attributes:
        name: value of ``--protocol``.
        summary: one line.
        num_context: number of context views per scene.
        num_target: number of target views per scene; None if it differs among scenes.
        targets: position of the targets.
        image_size: height and width in pixels.
        index: name of the published file with the views; empty if ``sampler`` chooses them.
        entries: number of scenes in that file, and number of null entries; None if they are not published.
        sampler: makes the view sampler of a protocol without a file.
        source: source of the rules.
    """

    name: str
    summary: str
    num_context: int
    num_target: int | None
    targets: Targets
    image_size: tuple[int, int] = (256, 256)
    index: str = ""
    entries: tuple[int, int] | None = None
    sampler: Callable[[], ViewSampler] | None = None
    source: str

    @property
    def rules(self) -> str:
        """The choice of views and the image size in one sentence."""
        count = "all" if self.num_target is None else self.num_target
        where = {
            "inside": "between the first and last context",
            "outside": "beyond the contexts",
            "every": "every frame from the first to the last context",
            "anywhere": "",
        }[self.targets]
        height, width = self.image_size
        views = f"{self.num_context} context and {count} target views{', ' if where else ''}{where}"
        chosen = f"listed in {self.index}" if self.index else self.summary
        return f"{views}; {height} x {width} pixels; {chosen}"

    def view_sampler(self, index: EvaluationIndex | None) -> tuple[ViewSampler, list[str]]:
        """The view sampler, and notes on the index.

        Args:
            index: the file that the user gave, if any.

        Raises:
            InputError: the protocol needs a file and there is none, or the file has the views of another protocol.
        """
        if index is None:
            if self.sampler is None:
                raise InputError(f"protocol {self.name} needs --index FILE: the published {self.index} ({self.source})")
            return self.sampler(), []
        return index, self._check(index)

    def _check(self, index: EvaluationIndex) -> list[str]:
        """Refuse views of another protocol; return a note if the number of scenes is not the published one."""
        listed = {scene: choice for scene, choice in index.choices.items() if choice is not None}
        faults = [f"{scene!r} has {fault}" for scene, choice in listed.items() if (fault := self._fault(choice))]
        if faults:
            more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
            raise InputError(
                f"{index.path} is no index of protocol {self.name} ({self.rules}): {'; '.join(faults[:_NAMED])}{more}; "
                "leave out --protocol to evaluate these views"
            )
        found = (len(index.choices), len(index.choices) - len(listed))
        if self.entries is None or found == self.entries:
            return []
        return [
            f"{index.path} has {found[0]} scenes, {found[1]} of them null; the published {self.index} has "
            f"{self.entries[0]} and {self.entries[1]}: published numbers belong to other scenes"
        ]

    def _fault(self, choice: ViewChoice) -> str:
        first, last = min(choice.context), max(choice.context)
        if len(choice.context) != self.num_context:
            return f"{len(choice.context)} context views"
        if self.num_target is not None and len(choice.target) != self.num_target:
            return f"{len(choice.target)} target views"
        if self.targets == "every" and sorted(choice.target) != list(range(first, last + 1)):
            return f"targets that are not every frame from {first} to {last}"
        if self.targets == "inside" and not all(first <= frame <= last for frame in choice.target):
            return f"a target outside {first} to {last}"
        if self.targets == "outside" and any(first <= frame <= last for frame in choice.target):
            return f"a target inside {first} to {last}"
        return ""


def find_protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        InputError: there is none.
    """
    if name not in PROTOCOLS:
        raise InputError(f"no protocol named {name!r}{did_you_mean(name, list(PROTOCOLS))}")
    return PROTOCOLS[name]


def _by_name(*protocols: Protocol) -> Mapping[str, Protocol]:
    return {protocol.name: protocol for protocol in protocols}


def _overlap(size: str, scenes: int) -> Protocol:
    return Protocol(
        name=f"re10k_overlap_{size}",
        summary=f"RealEstate10K, 2 contexts with {size} overlap",
        num_context=2,
        num_target=3,
        targets="inside",
        index=f"overlap_{size}.json",
        entries=(scenes, 0),
        source="Less3Depend, after NoPoSplat",
    )


def _rayzer(kind: str) -> Protocol:
    return Protocol(
        name=f"rayzer_dl3dv_{kind}",
        summary="DL3DV benchmark, 24 views of a window of 64 to 96 frames",
        num_context=16,
        num_target=8,
        targets="inside",
        index=f"rayzer_evaluation_index_dl3dv_{kind}.json",
        entries=(140, 0),
        source="RayZer's repository",
    )


PROTOCOLS: Mapping[str, Protocol] = _by_name(
    Protocol(
        name="re10k_2v3",
        summary="RealEstate10K, 3 targets between 2 contexts that are 45 to 136 frames apart",
        num_context=2,
        num_target=3,
        targets="inside",
        index="evaluation_index_re10k.json",
        entries=(7194, 720),
        source="pixelSplat's assets, also in LVSM",
    ),
    Protocol(
        name="re10k_video",
        summary="RealEstate10K, every frame from one context to the other",
        num_context=2,
        num_target=None,
        targets="every",
        index="evaluation_index_re10k_video.json",
        entries=(7194, 720),
        source="pixelSplat's assets",
    ),
    Protocol(
        name="acid_2v3",
        summary="ACID, 3 targets between 2 contexts",
        num_context=2,
        num_target=3,
        targets="inside",
        index="evaluation_index_acid.json",
        entries=(1848, 253),
        source="pixelSplat's assets",
    ),
    _overlap("small", 1403),
    _overlap("medium", 2568),
    _overlap("large", 1630),
    Protocol(
        name="re10k_extrapolation",
        summary="RealEstate10K, 3 targets 1 to 45 frames before or behind 2 contexts",
        num_context=2,
        num_target=3,
        targets="outside",
        index="extrapolation.json",
        entries=(7194, 770),
        source="Less3Depend's repository",
    ),
    _rayzer("even"),
    _rayzer("random"),
    Protocol(
        name="open_rayzer",
        summary="a window of 48 to 96 frames of each scene, drawn once; its ends and 14 random frames are context",
        num_context=16,
        num_target=8,
        targets="inside",
        sampler=lambda: Window(num_context=16, num_target=8, min_frame_distance=48, max_frame_distance=96),
        source="Open-RayZer's rayzer_dl3dv configuration, which draws a new window at each evaluation",
    ),
    Protocol(
        name="erayzer_dl3dv",
        summary="10 evenly spaced views of the first 97 frames, every second one context, both ends included",
        num_context=5,
        num_target=5,
        targets="inside",
        sampler=lambda: FixedViews(context=(0, 21, 42, 64, 96), target=(10, 32, 53, 74, 85)),
        source="E-RayZer's camera_eval.py and paper",
    ),
)
"""All protocols by name."""


def protocol_table() -> str:
    """All protocols as text."""
    return "\n".join(
        f"{protocol.name}\n    {protocol.summary}\n    {protocol.rules}\n    {protocol.source}"
        for protocol in PROTOCOLS.values()
    )


class FixedViews(ViewSampler):
    """The same frame numbers in every scene.

    Args:
        context: frame numbers of the context views, from 0.
        target: frame numbers of the target views.
    """

    def __init__(self, *, context: tuple[int, ...], target: tuple[int, ...]) -> None:
        if not context or not target or min(*context, *target) < 0:
            raise InputError(f"fixed views need frame numbers from 0 on, got context {context} and target {target}")
        self.choice = ViewChoice(context, target)

    def sample(self, key: str, num_frames: int, generator: np.random.Generator, step: int = 0) -> ViewChoice:
        last = max(self.choice.frames)
        if num_frames <= last:
            raise UnusableSceneError(f"scene {key!r} has {num_frames} frames, views up to frame {last} need {last + 1}")
        return self.choice
