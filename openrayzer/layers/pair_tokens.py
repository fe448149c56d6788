"""Tokens of views from the matches between them."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.interfaces import Matcher, Matches
from openrayzer.types import select_views

_UNIT = 1 / 15
"""Displacement in isotropic coordinates that is 1/2 for the network; 4 pixels of 64."""
_FARTHEST = 3.0
"""Larger inputs are cut off here."""
_LEAST = 0.02
"""Weight of a pair without any match, so that weights never sum to 0."""
_POOLED = 4
"""Rows and columns of the map of a pair that become one vector."""


class PairTokens(nn.Module):
    """One token per view, from the displacements of its points in all its neighbours and back.

    A matcher finds the displacements. It is not trained, and has no gradients.

    A convolutional network reads the field of displacements of each pair of views and computes one vector. The token of
    a view is the weighted mean, over its neighbours, of a function of the vectors of both directions of a pair. So the
    order and the number of the views are free. A copy of another view has its token, and a single view has the token 0.

    Args:
        matcher: finds the points of each view in other views.
        width: token width d.
        channels: hidden channels of the convolutions.
    """

    def __init__(self, matcher: Matcher, *, width: int, channels: int = 64) -> None:
        super().__init__()
        self.matcher = matcher.requires_grad_(False).eval()
        self.first = nn.Conv2d(7, channels, 3, stride=2, padding=1)
        self.near = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=step, dilation=step) for step in (1, 2))
        self.smaller = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.last = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)
        self.vector = nn.Linear(2 * channels * _POOLED**2, width)
        self.there, self.back = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.joined = nn.Sequential(nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def train(self, mode: bool = True) -> "PairTokens":
        super().train(mode)
        self.matcher.eval()
        return self

    def forward(self, images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v d"]:
        """Tokens of views in [0, 1]; any number of them."""
        matches = self.matcher(images)
        if not matches.neighbours.shape[2]:
            return self.vector.bias.new_zeros(*matches.neighbours.shape[:2], self.vector.out_features)
        vectors = self._vectors(matches)
        joined = self.joined(self.there(vectors) + self.back(_opposite(vectors, matches)))
        shares = (matches.weights.mean(-1, keepdim=True) + _LEAST) * matches.counted[..., None]
        tokens = (joined * shares).sum(2) / shares.sum(2).clamp(min=_LEAST)
        return tokens if matches.originals is None else select_views(tokens, matches.originals)

    def _vectors(self, matches: Matches) -> Float[Tensor, "b v k d"]:
        moved = ((matches.places - matches.points) / (2 * _UNIT)).clamp(-_FARTHEST, _FARTHEST)
        weights = matches.weights[..., None]
        fields = torch.cat([moved, moved * weights, weights, 2 * matches.points.expand_as(moved)], dim=-1)
        x = F.gelu(self.first(fields.flatten(0, 2).mT.unflatten(2, matches.grid)))
        for layer in self.near:
            x = x + F.gelu(layer(x))
        x = F.gelu(self.smaller(x))
        x = F.adaptive_avg_pool2d(x + F.gelu(self.last(x)), _POOLED)
        return self.vector(x.flatten(1)).unflatten(0, matches.neighbours.shape)


def _opposite(vectors: Float[Tensor, "b v k d"], matches: Matches) -> Float[Tensor, "b v k d"]:
    """For each view and neighbour, the vector of the neighbour towards the view; 0 if the view is none of its own."""
    b, v = matches.neighbours.shape[:2]
    scattered = vectors.new_zeros(b, v, v, vectors.shape[-1])
    place = matches.neighbours[..., None].expand_as(vectors)
    towards = scattered.scatter(2, place, vectors).transpose(1, 2)
    return towards.gather(2, place)
