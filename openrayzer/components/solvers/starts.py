"""Starts of bundle adjustment: shapes of the scene that lead to different local minima."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from openrayzer.types import map_tensors

NUM_SHAPES = 16


def depth_shapes(points: Float[Tensor, "n 2"], count: int) -> Float[Tensor, "count n"]:
    """Factors of the inverse depth with mean 1: flat, near at the bottom, at the top, at a side, in the middle, ...

    Bundle adjustment from one start often ends with depths and translations reversed, as a hollow mask looks like a
    face. The pictures tell the two apart only at the end, so that several starts are needed.

    Args:
        points: isotropic image coordinates.
        count: number of shapes, 1 to ``NUM_SHAPES``; the first is flat.
    """
    x, y = points.unbind(-1)
    radius = points.norm(dim=-1) - 0.38
    slopes = [
        0 * x, 2 * radius, 1.5 * x, 1.5 * y, 1.5 * x.abs(), 3 * radius, -1.5 * x, y + 1.5 * radius,
        1.5 * (y - x), 3 * y, 1.5 * (y + x), 1.5 * y.abs(), -1.5 * y, -2 * radius, -1.5 * (y + x), 1.5 * (x - y),
    ]  # fmt: skip
    shapes = torch.stack(slopes[:count]).exp()
    return shapes / shapes.mean(dim=1, keepdim=True)


def lowest(costs: Float[Tensor, "b count"], keep: int) -> Int[Tensor, "b keep"]:
    """Positions of the ``keep`` lowest costs; a cost that is not finite counts as the highest."""
    return costs.nan_to_num(torch.inf, torch.inf).topk(keep, dim=1, largest=False).indices


def picked(value: object, which: Int[Tensor, "b keep"], count: int) -> object:
    """The chosen ones of ``count`` solutions of each batch element: axis b * count becomes b * keep."""
    rows = (torch.arange(len(which), device=which.device)[:, None] * count + which).flatten()
    return map_tensors(value, lambda tensor: tensor[rows])
