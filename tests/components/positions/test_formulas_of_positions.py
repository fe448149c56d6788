"""The formula of each position encoding, and the sizes that it refuses."""

import pytest
import torch

from openrayzer.components.positions.sinusoidal import sinusoid
from openrayzer.interfaces import POSITION_ENCODINGS


def heads(n: int = 6) -> torch.Tensor:
    return torch.randn(1, n, 2, 16, generator=torch.Generator().manual_seed(0))


def grid_positions(rows: int = 2, columns: int = 3) -> torch.Tensor:
    return torch.tensor([[[y + 1.0, x + 1.0] for y in range(rows) for x in range(columns)]])


def test_sinusoidal_counts_rows_and_columns_and_the_published_way_is_the_same_on_squares(small):
    tokens, index = torch.zeros(1, 1, 6, 32), torch.zeros(1, 1, dtype=torch.long)

    def codes(counting: str, grid: tuple[int, int]) -> torch.Tensor:
        n = grid[0] * grid[1]
        encoding = small(POSITION_ENCODINGS, "sinusoidal", counting=counting)
        return encoding.embed_patches(tokens.new_zeros(1, 1, n, 32), grid, index)[0, 0]

    assert torch.equal(codes("square", (3, 3)), codes("row_major", (3, 3)))
    # on 2 rows of 3 the published code pairs tokens (0, 1), (2, 3), (4, 5) as rows, so token 2 is where token 3 belongs
    torch.testing.assert_close(codes("square", (2, 3)), codes("row_major", (3, 2)))


def test_rope2d_scores_depend_on_offsets_alone(small):
    encoding = small(POSITION_ENCODINGS, "rope2d")
    query, key = heads(1), heads(1).flip(-1)

    def score(query_at: tuple, key_at: tuple) -> torch.Tensor:
        turned = [
            encoding.rotation(torch.tensor([[at]]), 16)(x)
            for x, at in ((query, query_at), (key, key_at))
        ]  # fmt: skip
        return (turned[0] * turned[1]).sum(-1)

    here = score((1.0, 2.0), (3.0, 1.0))
    torch.testing.assert_close(here, score((6.0, 4.0), (8.0, 3.0)))
    assert not torch.allclose(here, score((1.0, 2.0), (3.0, 2.0)))
    assert not torch.allclose(here, score((1.0, 2.0), (4.0, 1.0)))


def test_rope2d_turns_the_first_half_by_row_and_the_second_by_column(small):
    """Component k of a half turns with component k + e/4 by position * base^(-2k / (e/2)); worked out by hand."""
    encoding = small(POSITION_ENCODINGS, "rope2d", base=100.0)
    row, column = 3.0, 5.0
    turned = encoding.rotation(torch.tensor([[[row, column]]]), 8)(torch.ones(1, 1, 1, 8))[0, 0, 0]
    angles = torch.tensor([row * 1.0, row * 0.1, column * 1.0, column * 0.1])
    expected_first, expected_second = angles.cos() - angles.sin(), angles.cos() + angles.sin()
    torch.testing.assert_close(turned[[0, 1, 4, 5]], expected_first)
    torch.testing.assert_close(turned[[2, 3, 6, 7]], expected_second)


def test_rope2d_angles_do_not_suffer_from_bfloat16(small):
    encoding = small(POSITION_ENCODINGS, "rope2d").to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        turned = encoding.rotation(torch.full((1, 6, 2), 15.7), 16)(heads())
    torch.testing.assert_close(
        turned, small(POSITION_ENCODINGS, "rope2d").rotation(torch.full((1, 6, 2), 15.7), 16)(heads())
    )


def test_rope2d_says_which_head_widths_work(small):
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        small(POSITION_ENCODINGS, "rope2d").rotation(grid_positions(), 6)


def test_sinusoid_is_sines_then_cosines():
    code = sinusoid(torch.tensor([0, 7]), 4)
    expected = torch.tensor([[0.0, 0.0, 1.0, 1.0], [7.0, 0.07, 7.0, 0.07]])
    torch.testing.assert_close(code[0], expected[0])
    torch.testing.assert_close(code[1], torch.cat([expected[1, :2].sin(), expected[1, 2:].cos()]))


def test_sinusoidal_tells_rows_columns_and_views_apart(small):
    encoding = small(POSITION_ENCODINGS, "sinusoidal")
    code = encoding.embed_patches(torch.zeros(1, 2, 6, 32), (2, 3), torch.tensor([[0, 1]]))
    places = code[0].flatten(0, 1)
    distances = torch.cdist(places, places) + torch.eye(12)
    assert distances.min() > 1e-4
    cameras = encoding.embed_cameras(torch.zeros(1, 2, 1, 32), torch.tensor([[0, 1]]))
    assert (cameras[0, 0] - cameras[0, 1]).abs().max() > 1e-4


def test_sinusoidal_without_image_index_treats_views_alike(small):
    encoding = small(POSITION_ENCODINGS, "sinusoidal", image_index=False)
    code = encoding.embed_patches(torch.zeros(1, 2, 6, 32), (2, 3), torch.tensor([[0, 1]]))
    assert torch.equal(code[0, 0], code[0, 1])
    assert torch.equal(
        encoding.embed_cameras(torch.zeros(1, 2, 1, 32), torch.tensor([[0, 1]])), torch.zeros(1, 2, 1, 32)
    )


def test_sinusoidal_says_which_widths_work(small):
    with pytest.raises(ValueError, match="multiple of 8, got 12"):
        small(POSITION_ENCODINGS, "sinusoidal", width=12)


def test_combined_adds_and_turns_as_its_parts_do(small):
    encoding = small(POSITION_ENCODINGS, "combined")
    tokens, index = torch.zeros(1, 2, 6, 32), torch.tensor([[0, 1]])
    added = small(POSITION_ENCODINGS, "sinusoidal").embed_patches(tokens, (2, 3), index)
    torch.testing.assert_close(encoding.embed_patches(tokens, (2, 3), index), added)
    turned = small(POSITION_ENCODINGS, "rope2d").rotation(grid_positions(), 16)(heads())
    torch.testing.assert_close(encoding.rotation(grid_positions(), 16)(heads()), turned)
