"""Options of tokenizers, fusions and attention layouts."""

import pytest
import torch

from openrayzer.interfaces import ATTENTION_LAYOUTS, FUSIONS, POSITION_ENCODINGS, TOKENIZERS, InputError


def images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("registry", "name"), [(TOKENIZERS, "linear"), (FUSIONS, "pixel")])
def test_pixel_range_gives_the_values_of_black_and_white(small, registry, name):
    pixels, rays = images(1, 1, 3, 8, 8), torch.zeros(1, 1, 6, 8, 8)

    def tokens_of(part, pixels):
        return part(pixels) if registry is TOKENIZERS else part(pixels, torch.zeros(1, 1, 0, 32), rays)

    both, plain = small(registry, name), small(registry, name, pixel_range=(0.0, 1.0))
    torch.testing.assert_close(tokens_of(both, (pixels + 1) / 2), tokens_of(plain, pixels))
    assert tokens_of(plain, torch.zeros_like(pixels)).abs().max() == 0


@pytest.mark.parametrize(("first", "expected"), [("frame", "fgfgf"), ("global", "gfgfg")])
def test_alternating_layout_starts_with_the_layout_first(small, first, expected):
    layout = small(ATTENTION_LAYOUTS, "vggt_alternating", first=first)
    letters = {"(b v) n": "f", "b (v n)": "g"}
    assert "".join(letters[layout.groups(block)] for block in range(5)) == expected


def test_ray_positions_distinguish_equal_rays_and_need_no_view_index(small):
    pixels, tokens = images(1, 2, 3, 8, 24), torch.zeros(1, 2, 3, 32)
    positions = small(POSITION_ENCODINGS, "sinusoidal", image_index=False)
    plain, placed = small(FUSIONS, "token_mlp"), small(FUSIONS, "token_mlp", ray_positions=positions)
    rays = torch.zeros(1, 2, 6, 8, 24)  # sums of zeros are exact in any order of the summands
    fused = [fusion(pixels, tokens, rays) for fusion in (plain, placed)]
    assert fused[0].diff(dim=2).abs().max() == 0
    assert fused[1].diff(dim=2).abs().amin(dim=(0, 1)).amax(-1).min() > 0
    with pytest.raises(InputError, match="encodes the index of a view"):
        small(FUSIONS, "token_mlp", ray_positions=small(POSITION_ENCODINGS, "sinusoidal"))
