"""Roles of the views of a clip: the numbers of context and target views, their choice, and their order."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from openrayzer.interfaces import InputError, ViewChoice, ViewSampler

NumViews = int | tuple[int, int]
"""A number of views, or the smallest and the largest number; one between them is drawn for each optimizer step."""

Split = Literal["rayzer", "lvsm", "random"]
Order = Literal["temporal", "shuffled"]


@dataclass(frozen=True)
class ViewCounts:
    """Numbers of context views, of target views, and of views that are both."""

    context: int
    target: int
    shared: int = 0

    @property
    def views(self) -> int:
        """Number of different views of the clip."""
        return self.context + self.target - self.shared


@dataclass(frozen=True)
class Roles:
    """A rule that chooses the roles of a clip's frames.

    Splits:
        rayzer: the first and the last frame are context, the roles of the others are random, and no target is context.
            With one context view, any frame may be the context view.
        lvsm: the first and the last frame are context. Each target is drawn from all num_context + num_target views, so
            some targets are also context, and the clip has fewer different views. The number of shared views is drawn
            once for all clips of an optimizer step.
        random: the context frames are drawn from all frames, and no target is context.

    Orders: ``temporal`` sorts the views by frame number. ``shuffled`` makes their order random, for models that must
    not learn from it.

    Args:
        num_context: number of context views, 1 or more; or a range.
        num_target: number of target views, 1 or more; or a range.
        split: see above.
        order: see above.
        shared: number of targets that are also context; None draws it for split "lvsm" and is 0 otherwise.

    Raises:
        InputError: the numbers of views cannot work.
    """

    num_context: NumViews
    num_target: NumViews
    split: Split = "rayzer"
    order: Order = "temporal"
    shared: int | None = None

    def __post_init__(self) -> None:
        if self.smallest.context < 1 or self.smallest.target < 1:
            raise InputError(
                f"num_context and num_target must be 1 or more, got {self.num_context} and {self.num_target}"
            )
        for name in ("num_context", "num_target"):
            first, last = bounds(getattr(self, name))
            if first > last:
                raise InputError(f"{name} must be a number or (smallest, largest), got ({first}, {last})")
        if self.split == "lvsm" and self.smallest.context < 2:
            raise InputError(
                "split 'lvsm' makes the first and the last frame context, so num_context must be 2 or more"
            )

    @property
    def smallest(self) -> ViewCounts:
        """The smallest numbers that may be drawn."""
        return ViewCounts(bounds(self.num_context)[0], bounds(self.num_target)[0])

    @property
    def largest(self) -> ViewCounts:
        """The largest numbers that may be drawn."""
        return ViewCounts(bounds(self.num_context)[1], bounds(self.num_target)[1])

    @property
    def fixed(self) -> bool:
        """Whether all numbers are fixed, so that nothing is drawn."""
        return self.smallest == self.largest and (self.split != "lvsm" or self.shared is not None)

    def draw(self, generator: np.random.Generator) -> ViewCounts:
        """The numbers of one clip; fixed numbers use no random draw."""
        if self.fixed:
            return replace(self.smallest, shared=self.shared or 0)
        context, target = (_draw(numbers, generator) for numbers in (self.num_context, self.num_target))
        shared = int(generator.hypergeometric(context, target, target)) if self.split == "lvsm" else 0
        return ViewCounts(context, target, shared)

    def for_step(self, generator: np.random.Generator) -> "Roles":
        """The same rule with the numbers drawn for one optimizer step."""
        if self.fixed:
            return self
        counts = self.draw(generator)
        return replace(self, num_context=counts.context, num_target=counts.target, shared=counts.shared)

    def assign(
        self, ends: Sequence[int] | np.ndarray, inner: np.ndarray, counts: ViewCounts, generator: np.random.Generator
    ) -> ViewChoice:
        """Assign roles to the ``counts.views`` frames of a clip.

        Args:
            ends: the first and the last frame.
            inner: all other frames, in any order.
            counts: numbers of views by role.
            generator: source of all randomness.
        """
        if counts.context >= 2 and self.split != "random":
            inner = generator.permutation(inner)
            context, target = np.append(ends, inner[: counts.context - 2]), inner[counts.context - 2 :]
        else:
            context, target = np.split(generator.permutation(np.append(ends, inner)), [counts.context])
        if counts.shared:
            target = np.append(target, generator.choice(context, counts.shared, replace=False))
        if self.order == "temporal":
            return ViewChoice(tuple(sorted(context.tolist())), tuple(sorted(target.tolist())))
        order = generator.permutation(np.union1d(context, target)).tolist()
        given = tuple(frame for frame in order if frame in context)
        return ViewChoice(given, tuple(frame for frame in order if frame in target), tuple(order))


class RoleSampler(ViewSampler):
    """A view sampler that assigns roles by a rule and draws open numbers of views once per optimizer step.

    Attributes:
        roles: the rule.
    """

    roles: Roles

    def for_step(self, step: int, generator: np.random.Generator) -> "RoleSampler":
        if self.roles.fixed:
            return self
        fixed = copy(self)
        fixed.roles = self.roles.for_step(generator)
        return fixed


def bounds(numbers: NumViews) -> tuple[int, int]:
    """Smallest and largest number."""
    return (numbers, numbers) if isinstance(numbers, int) else numbers


def _draw(numbers: NumViews, generator: np.random.Generator) -> int:
    if isinstance(numbers, int):
        return numbers
    return int(generator.integers(numbers[0], numbers[1] + 1))
