"""Formulas of the position encodings, and the widths that they reject."""

import pytest
import torch

from openrayzer.components.positions.sinusoidal import sinusoid
from openrayzer.interfaces import POSITION_ENCODINGS


def heads(n: int = 6) -> torch.Tensor:
    return torch.randn(1, n, 2, 16, generator=torch.Generator().manual_seed(0))


def grid_positions(rows: int = 2, columns: int = 3) -> torch.Tensor:
    return torch.tensor([[[y + 1.0, x + 1.0] for y in range(rows) for x in range(columns)]])


def test_sinusoidal_square_counting_equals_row_major_on_square_images_only(small):
    tokens, index = torch.zeros(1, 1, 6, 32), torch.zeros(1, 1, dtype=torch.long)

    def codes(counting: str, grid: tuple[int, int]) -> torch.Tensor:
        n = grid[0] * grid[1]
        encoding = small(POSITION_ENCODINGS, "sinusoidal", counting=counting)
        return encoding.embed_patches(tokens.new_zeros(1, 1, n, 32), grid, index)[0, 0]

    assert torch.equal(codes("square", (3, 3)), codes("row_major", (3, 3)))
    # With 2 rows of 3 tokens, "square" takes tokens (0, 1), (2, 3), (4, 5) for rows, as if there were 3 rows of 2.
    torch.testing.assert_close(codes("square", (2, 3)), codes("row_major", (3, 2)))


def test_rope2d_scores_depend_on_offsets_only(small):
    encoding = small(POSITION_ENCODINGS, "rope2d")
    query, key = heads(1), heads(1).flip(-1)

    def score(query_at: tuple, key_at: tuple) -> torch.Tensor:
        rotated = [
            encoding.rotation(torch.tensor([[at]]), 16)(x)
            for x, at in ((query, query_at), (key, key_at))
        ]  # fmt: skip
        return (rotated[0] * rotated[1]).sum(-1)

    here = score((1.0, 2.0), (3.0, 1.0))
    torch.testing.assert_close(here, score((6.0, 4.0), (8.0, 3.0)))
    assert not torch.allclose(here, score((1.0, 2.0), (3.0, 2.0)))
    assert not torch.allclose(here, score((1.0, 2.0), (4.0, 1.0)))


def test_rope2d_rotates_the_first_half_by_row_and_the_second_by_column(small):
    """Components k and k + e/4 of a half rotate by position * base^(-2k / (e/2))."""
    encoding = small(POSITION_ENCODINGS, "rope2d", base=100.0)
    row, column = 3.0, 5.0
    rotated = encoding.rotation(torch.tensor([[[row, column]]]), 8)(torch.ones(1, 1, 1, 8))[0, 0, 0]
    angles = torch.tensor([row * 1.0, row * 0.1, column * 1.0, column * 0.1])
    expected_first, expected_second = angles.cos() - angles.sin(), angles.cos() + angles.sin()
    torch.testing.assert_close(rotated[[0, 1, 4, 5]], expected_first)
    torch.testing.assert_close(rotated[[2, 3, 6, 7]], expected_second)


def test_rope2d_angles_are_float32_with_bfloat16_parameters_and_autocast(small):
    encoding = small(POSITION_ENCODINGS, "rope2d").to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        rotated = encoding.rotation(torch.full((1, 6, 2), 15.7), 16)(heads())
    torch.testing.assert_close(
        rotated, small(POSITION_ENCODINGS, "rope2d").rotation(torch.full((1, 6, 2), 15.7), 16)(heads())
    )


def test_rope2d_needs_a_head_width_that_is_a_multiple_of_4(small):
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        small(POSITION_ENCODINGS, "rope2d").rotation(grid_positions(), 6)


def test_sinusoid_is_sines_then_cosines():
    code = sinusoid(torch.tensor([0, 7]), 4)
    expected = torch.tensor([[0.0, 0.0, 1.0, 1.0], [7.0, 0.07, 7.0, 0.07]])
    torch.testing.assert_close(code[0], expected[0])
    torch.testing.assert_close(code[1], torch.cat([expected[1, :2].sin(), expected[1, 2:].cos()]))


def test_sinusoidal_codes_differ_between_rows_columns_and_views(small):
    encoding = small(POSITION_ENCODINGS, "sinusoidal")
    code = encoding.embed_patches(torch.zeros(1, 2, 6, 32), (2, 3), torch.tensor([[0, 1]]))
    places = code[0].flatten(0, 1)
    distances = torch.cdist(places, places) + torch.eye(12)
    assert distances.min() > 1e-4
    cameras = encoding.embed_cameras(torch.zeros(1, 2, 1, 32), torch.tensor([[0, 1]]))
    assert (cameras[0, 0] - cameras[0, 1]).abs().max() > 1e-4


def test_sinusoidal_codes_without_image_index_are_equal_in_all_views(small):
    encoding = small(POSITION_ENCODINGS, "sinusoidal", image_index=False)
    code = encoding.embed_patches(torch.zeros(1, 2, 6, 32), (2, 3), torch.tensor([[0, 1]]))
    assert torch.equal(code[0, 0], code[0, 1])
    assert torch.equal(
        encoding.embed_cameras(torch.zeros(1, 2, 1, 32), torch.tensor([[0, 1]])), torch.zeros(1, 2, 1, 32)
    )


def test_sinusoidal_needs_a_width_that_is_a_multiple_of_8(small):
    with pytest.raises(ValueError, match="multiple of 8, got 12"):
        small(POSITION_ENCODINGS, "sinusoidal", width=12)


def test_combined_applies_all_its_parts(small):
    encoding = small(POSITION_ENCODINGS, "combined")
    tokens, index = torch.zeros(1, 2, 6, 32), torch.tensor([[0, 1]])
    added = small(POSITION_ENCODINGS, "sinusoidal").embed_patches(tokens, (2, 3), index)
    torch.testing.assert_close(encoding.embed_patches(tokens, (2, 3), index), added)
    rotated = small(POSITION_ENCODINGS, "rope2d").rotation(grid_positions(), 16)(heads())
    torch.testing.assert_close(encoding.rotation(grid_positions(), 16)(heads()), rotated)
