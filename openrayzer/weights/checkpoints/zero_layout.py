"""The layout of weights in ZeRO's flat partitions, and the change from one layout to another.

Stages 1 and 2 concatenate the weights of an optimizer group and cut the result into one partition per rank; a cut may
go through a weight. Stage 3 cuts every weight into one part per rank. ``Pieces`` puts weights together again by name,
and ``divide`` cuts them for another number of ranks or another stage.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Stretch:
    """A part of one weight in the partition of one rank.

    Attributes:
        name: name of the weight.
        start: index of its first element in the flattened weight.
        numel: number of elements.
        offset: index of its first element in the partition.
    """

    name: str
    start: int
    numel: int
    offset: int


Layout = tuple[tuple[Stretch, ...], ...]
"""The stretches in the partitions of one rank, one partition per optimizer group."""


def cut_each(shapes: Iterable[Mapping[str, Sequence[int]]], *, rank: int, world_size: int) -> Layout:
    """Return the layout of stage 3: every weight in equal parts, the last one padded.

    Args:
        shapes: for each optimizer group, shapes of the weights by name, in their order.
        rank: the rank.
        world_size: number of ranks.
    """
    groups = []
    for group in shapes:
        stretches, offset = [], 0
        for name, shape in group.items():
            numel = prod(shape)
            part = -(-numel // world_size)
            held = min(part, numel - rank * part)
            if held > 0:
                stretches.append(Stretch(name, rank * part, held, offset))
            offset += part
        groups.append(tuple(stretches))
    return tuple(groups)


def cut_rows(held: Sequence[Sequence[Mapping[str, tuple[int, int]]]]) -> list[Layout]:
    """Return the layouts of stages 1 and 2 for all ranks.

    Args:
        held: for each rank and optimizer group, offset in the partition and number of elements by name. The parts of a
            weight are in the order of the ranks.
    """
    done: dict[str, int] = {}
    layouts = []
    for groups in held:
        layout = []
        for group in groups:
            stretches = []
            for name, (offset, numel) in group.items():
                stretches.append(Stretch(name, done.get(name, 0), numel, offset))
                done[name] = done.get(name, 0) + numel
            layout.append(tuple(stretches))
        layouts.append(tuple(layout))
    return layouts


class Pieces:
    """Partitioned weights, or optimizer states of weights, by name.

    Args:
        layouts: layout of each rank.
        partitions: for each rank, one flat tensor per optimizer group.
        shapes: shapes of the whole weights by name.
    """

    def __init__(
        self, layouts: Sequence[Layout], partitions: Sequence[Sequence[Tensor]], shapes: Mapping[str, Sequence[int]]
    ) -> None:
        self.shapes = shapes
        self._parts: dict[str, list[tuple[int, Tensor]]] = {name: [] for name in shapes}
        for layout, held in zip(layouts, partitions, strict=True):
            for stretches, partition in zip(layout, held, strict=True):
                for stretch in stretches:
                    values = partition.narrow(0, stretch.offset, stretch.numel)
                    self._parts[stretch.name].append((stretch.start, values))

    def whole(self, name: str) -> Tensor:
        """Return a weight, put together from its parts.

        Raises:
            ValueError: the parts do not cover the weight.
        """
        parts, covered = sorted(self._parts[name], key=lambda part: part[0]), 0
        for start, values in parts:
            if start != covered:
                break
            covered += values.numel()
        if covered != prod(self.shapes[name]):
            raise ValueError(
                f"only {covered} of {prod(self.shapes[name])} elements of {name} are in the checkpoint in order"
            )
        return torch.cat([values for _, values in parts]).reshape(tuple(self.shapes[name]))


def divide(
    stretches: Iterable[Stretch], whole: Callable[[str], Tensor], *, size: int
) -> Float[Tensor, " size"]:  # fmt: skip
    """Return a partition of ``size`` elements with the given stretches of weights; other elements are 0.

    Args:
        stretches: the layout of the partition.
        whole: returns a whole weight by name.
        size: number of elements in the partition.
    """
    partition = torch.zeros(size)
    for stretch in stretches:
        values = whole(stretch.name).flatten().narrow(0, stretch.start, stretch.numel)
        partition.narrow(0, stretch.offset, stretch.numel).copy_(values)
    return partition
