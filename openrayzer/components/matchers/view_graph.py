"""The neighbours in which the points of each view are looked for."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


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
        reached = torch.zeros(b, v, dtype=torch.bool, device=similarity.device)
        for _ in range(v - 1):
            reached[rows, found] = True
            found = best.masked_fill(reached, -torch.inf).argmax(1)
            closer = similarity[rows, found] > best
            closer = closer & ~reached
            closer[rows, found] = False
            best = torch.where(closer, similarity[rows, found], best)
            parent = torch.where(closer, found[:, None], parent)
        kept = torch.nn.functional.one_hot(parent, v).bool() & ~itself
        similarity = similarity.masked_fill(kept, torch.inf)
    return similarity.topk(min(count, v - 1), dim=2).indices
