"""Starts of bundle adjustment: shapes of a scene that lead to different local minima."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from openrayzer.types import T, map_tensors

NUM_SHAPES = 16


def depth_shapes(points: Float[Tensor, "n 2"], count: int) -> Float[Tensor, "count n"]:
    """Factors of the inverse depth: flat, near in the middle, at a side, at the bottom, at the border, ...

    From one start, bundle adjustment often ends with reversed depths and translations, as a hollow mask looks like a
    face. Only the pixels tell the two apart, so that several starts are needed.

    Args:
        points: isotropic image coordinates.
        count: number of shapes, 1 to ``NUM_SHAPES``; the first is flat.
    """
    x, y = points.unbind(-1)
    border = points.norm(dim=-1) - 0.38
    slopes = [
        0 * x, 2 * border, 1.5 * x, 1.5 * y, -2 * border, -1.5 * x, -1.5 * y, y + 1.5 * border,
        1.5 * (y - x), 1.5 * (y + x), 3 * y, 3 * border, 1.5 * x.abs(), 1.5 * y.abs(), -1.5 * (y + x), 1.5 * (x - y),
    ]  # fmt: skip
    shapes = torch.stack(slopes[:count]).exp()
    return shapes / shapes.mean(dim=1, keepdim=True)


def repeated(value: T, times: int) -> T:
    """Each batch element of all tensors, ``times`` times."""
    return map_tensors(value, lambda tensor: tensor.repeat_interleave(times, dim=0))


def lowest(value: T, costs: Float[Tensor, "b times"], keep: int) -> T:
    """The ``keep`` repetitions of each batch element with the lowest costs, the inverse of ``repeated``.

    A cost that is not finite counts as the highest.
    """
    which: Int[Tensor, "b keep"] = costs.nan_to_num(torch.inf, torch.inf).topk(keep, dim=1, largest=False).indices
    rows = torch.arange(len(which), device=which.device)[:, None] * costs.shape[1] + which
    return map_tensors(value, lambda tensor: tensor[rows.flatten()])
