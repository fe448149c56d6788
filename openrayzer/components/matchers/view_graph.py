"""The neighbours in which the points of each view are looked for."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from openrayzer.types import first_equal


def nearest_views(similarity: Float[Tensor, "b v v"], count: int) -> Int[Tensor, "b v k"]:
    """The ``count`` most similar other views of each view; all others if there are no more.

    Every view keeps its place in a maximum spanning tree, so that the graph of all views is connected. The result
    follows a change of the order of the views.

    Source of the tree: Prim 1957, "Shortest Connection Networks and Some Generalizations".
    """
    b, v = similarity.shape[:2]
    itself = torch.eye(v, dtype=torch.bool, device=similarity.device)
    similarity = similarity.masked_fill(itself, -torch.inf)
    if count < v - 1:
        rows = torch.arange(b, device=similarity.device)
        found = similarity.masked_fill(itself, 0).sum(2).argmax(1)
        best, parent = similarity[rows, found].clone(), found[:, None].expand(b, v).clone()
        reached = one_hot(found, v).bool()
        for _ in range(v - 1):
            found = best.masked_fill(reached, -torch.inf).argmax(1)
            reached = reached | one_hot(found, v).bool()
            closer = (similarity[rows, found] > best) & ~reached
            best = torch.where(closer, similarity[rows, found], best)
            parent = torch.where(closer, found[:, None], parent)
        kept = one_hot(parent, v).bool() & ~itself
        similarity = similarity.masked_fill(kept, torch.inf)
    return similarity.topk(min(count, v - 1), dim=2).indices


def first_copies(images: Float[Tensor, "b v 3 h w"]) -> Int[Tensor, "b v"]:
    """Position of the first view with equal mean colours in 8 x 8 areas; a view that is no copy has its own."""
    itself = torch.eye(
        images.shape[1], dtype=torch.bool, device=images.device
    )  # an image with NaN does not equal itself
    means = F.adaptive_avg_pool2d(images.flatten(0, 1), 8).unflatten(0, images.shape[:2]).flatten(2)
    return first_equal((means[:, :, None] == means[:, None]).all(-1) | itself)


def without_copies(similarity: Float[Tensor, "b v v"], originals: Int[Tensor, "b v"]) -> Float[Tensor, "b v v"]:
    """Similarities in which a copy of an earlier view is less similar to all views than any other view."""
    copy = originals != torch.arange(originals.shape[1], device=originals.device)
    return similarity.masked_fill(copy[:, :, None] | copy[:, None], -2)
