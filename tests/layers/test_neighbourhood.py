"""Tiled neighbourhood attention equals a loop over queries, on every grid."""

import pytest
import torch
from torch import Tensor

from openrayzer.layers.cosine_attention import KeyValue
from openrayzer.layers.neighbourhood import neighbourhood, window_starts

GRIDS = [(1, 1), (1, 5), (3, 4), (4, 11), (7, 7), (8, 8), (9, 17), (16, 8), (13, 6), (20, 3)]
CPU = torch.device("cpu")


def heads(n: int, *, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, n, 2, 8, generator=generator, dtype=torch.float64).requires_grad_()


def one_by_one(query: Tensor, key: Tensor, value: Tensor, grid, window: int, limits) -> Tensor:
    """Attention of one query at a time to the keys in its window."""
    rows, columns = grid
    radius, read = window // 2, []
    for y in range(rows):
        for x in range(columns):
            middle = [
                torch.tensor(at).clamp(radius, limit - 1 - radius)
                for at, limit in zip((y, x), limits, strict=True)
            ]  # fmt: skip
            inside = [
                i * columns + j
                for i in range(rows)
                for j in range(columns)
                if abs(i - middle[0]) <= radius and abs(j - middle[1]) <= radius
            ]
            q = query[:, :, y * columns + x]
            scores = torch.einsum("bvhe,bvnhe->bvhn", q, key[:, :, inside]) / q.shape[-1] ** 0.5
            read.append(torch.einsum("bvhn,bvnhe->bvhe", scores.softmax(-1), value[:, :, inside]))
    return torch.stack(read, dim=2)


@pytest.mark.parametrize("borders", ["own", "swapped"])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("window", [7, 3])
def test_tiles_equal_a_loop_over_queries(grid, borders, window):
    n = grid[0] * grid[1]
    query, key, value = (heads(n, seed=seed) for seed in range(3))
    read = neighbourhood(grid, window=window, borders=borders, device=CPU)(query, KeyValue(key, value))
    expected = one_by_one(query, key, value, grid, window, grid if borders == "own" else grid[::-1])
    torch.testing.assert_close(read, expected)
    wanted = heads(n, seed=3).detach()
    gradients = torch.autograd.grad((read * wanted).sum(), (query, key, value))
    others = torch.autograd.grad((expected * wanted).sum(), (query, key, value))
    for gradient, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(gradient, other)


@pytest.mark.parametrize("grid", [(4, 4), (16, 16)], ids=str)
def test_swapped_borders_are_the_same_on_square_images(grid):
    query, key, value = (heads(grid[0] ** 2, seed=seed) for seed in range(3))
    attends = [neighbourhood(grid, window=7, borders=borders, device=CPU) for borders in ("own", "swapped")]
    first, second = (attend(query, KeyValue(key, value)) for attend in attends)
    assert torch.equal(first, second)


def test_every_query_sees_a_whole_window_or_the_whole_row():
    for count in range(1, 20):
        starts = window_starts(count, 7, count, CPU)
        covered = [sum(start <= cell < start + 7 for cell in range(count)) for start in starts.tolist()]
        assert covered == [min(7, count)] * count
