"""Where the stretches of each weight lie in ZeRO's flat partitions, and how to change from one division to another.

Stages 1 and 2 lay the weights of an optimizer group end to end and cut the row into one piece per process, wherever
the cut falls. Stage 3 cuts every weight by itself. What is divided either way can be put together by name, and so
divided anew for another number of processes or another stage.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Stretch:
    """A part of one weight in the partition of one process.

    Attributes:
        name: of the weight.
        start: its first element, in the flattened weight.
        numel: its length.
        offset: where it begins in the partition.
    """

    name: str
    start: int
    numel: int
    offset: int


Layout = tuple[tuple[Stretch, ...], ...]
"""What one process holds: the stretches in each of its partitions, of which there is one per optimizer group."""


def cut_each(shapes: Iterable[Mapping[str, Sequence[int]]], *, rank: int, world_size: int) -> Layout:
    """The layout of stage 3: every weight in equal parts, the last of them filled up.

    Args:
        shapes: of the weights by name, in their order, group by group.
        rank: of the process.
        world_size: number of processes.
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
    """The layouts of stages 1 and 2, of all processes.

    Args:
        held: by process, group and name: offset in the partition and number of elements. The parts of a weight follow
            each other in the order of the processes.
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
    """Divided weights, or what an optimizer knows of each, by name.

    Args:
        layouts: of each process.
        partitions: by process and group.
        shapes: of the whole weights.
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
        """One weight, put together.

        Raises:
            ValueError: the parts do not make up the weight.
        """
        parts, covered = sorted(self._parts[name], key=lambda part: part[0]), 0
        for start, values in parts:
            if start != covered:
                break
            covered += values.numel()
        if covered != prod(self.shapes[name]):
            raise ValueError(f"{covered} of {prod(self.shapes[name])} elements of {name} are there in order")
        return torch.cat([values for _, values in parts]).reshape(tuple(self.shapes[name]))


def divide(
    stretches: Iterable[Stretch], whole: Callable[[str], Tensor], *, size: int
) -> Float[Tensor, " size"]:  # fmt: skip
    """One partition: the stretches of weights that ``whole`` returns; zero where no weight lies."""
    partition = torch.zeros(size)
    for stretch in stretches:
        values = whole(stretch.name).flatten().narrow(0, stretch.start, stretch.numel)
        partition.narrow(0, stretch.offset, stretch.numel).copy_(values)
    return partition
