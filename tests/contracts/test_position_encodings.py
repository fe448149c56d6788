"""What every position encoding promises."""

import pytest
import torch
from learning import awake
from small import names

from openrayzer.interfaces import POSITION_ENCODINGS

EVERY = pytest.mark.parametrize("name", names(POSITION_ENCODINGS))


def heads(n: int = 6) -> torch.Tensor:
    return torch.randn(1, n, 2, 16, generator=torch.Generator().manual_seed(0))


def grid_positions(rows: int = 2, columns: int = 3) -> torch.Tensor:
    return torch.tensor([[[y + 1.0, x + 1.0] for y in range(rows) for x in range(columns)]])


@EVERY
@pytest.mark.parametrize(("grid", "num_views"), [((2, 3), 1), ((3, 2), 4)])
def test_shapes_are_kept_on_any_grid_and_view_count(small, name, grid, num_views):
    encoding = small(POSITION_ENCODINGS, name)
    tokens = torch.randn(2, num_views, 6, 32)
    index = torch.arange(num_views).repeat(2, 1)
    assert encoding.embed_patches(tokens, grid, index).shape == tokens.shape
    assert encoding.embed_cameras(tokens[:, :, :2], index).shape == (2, num_views, 2, 32)
    assert encoding.rotation(grid_positions(*grid), 16)(heads()).shape == (1, 6, 2, 16)


@EVERY
def test_rotation_keeps_lengths_dtype_and_tokens_without_a_position(small, name):
    encoding = small(POSITION_ENCODINGS, name)
    turned = encoding.rotation(grid_positions(), 16)(heads())
    torch.testing.assert_close(turned.norm(dim=-1), heads().norm(dim=-1))
    assert encoding.rotation(grid_positions(), 16)(heads().bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(encoding.rotation(torch.zeros(1, 6, 2), 16)(heads()), heads())


@EVERY
@torch.no_grad()
def test_an_encoding_states_whether_it_reads_the_index_of_a_view(small, name):
    encoding, tokens = awake(small(POSITION_ENCODINGS, name)), torch.randn(1, 3, 6, 32)
    embedded = [
        (encoding.embed_patches(tokens, (2, 3), index), encoding.embed_cameras(tokens, index))
        for index in (torch.tensor([[0, 1, 2]]), torch.tensor([[2, 0, 1]]))
    ]
    same = all(torch.equal(one, other) for one, other in zip(*embedded, strict=True))
    assert encoding.reads_view_index is not same
