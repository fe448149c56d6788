"""What every tokenizer, fusion, layout and renderer promises."""

import pytest
import torch
from einops import rearrange

from openrayzer.interfaces import (
    ATTENTION_BACKENDS,
    ATTENTION_LAYOUTS,
    FUSIONS,
    POSITION_ENCODINGS,
    RENDERERS,
    TOKENIZERS,
)

TOKENIZER_NAMES = [entry.name for entry in TOKENIZERS if entry.name != "dinov3"]  # it needs a checkpoint
FUSION_NAMES = [entry.name for entry in FUSIONS]
RENDERER_NAMES = [entry.name for entry in RENDERERS]
LAYOUT_NAMES = [entry.name for entry in ATTENTION_LAYOUTS]


def images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", TOKENIZER_NAMES)
def test_tokenizer_makes_one_token_per_patch_row_by_row(small, name):
    tokenizer, pixels = small(TOKENIZERS, name), images(2, 3, 3, 16, 24)
    tokens = tokenizer(pixels)
    assert tokens.shape == (2, 3, 6, 32)
    changed = pixels.clone()
    changed[:, :, :, 8:, 16:] += 0.1  # second row, third column: the last patch
    different = (tokenizer(changed) - tokens).abs().amax((0, 1, 3)) > 1e-6
    assert different.tolist() == [False] * 5 + [True]


@pytest.mark.parametrize("name", TOKENIZER_NAMES)
def test_tokenizer_refuses_images_that_patches_do_not_tile(small, name):
    with pytest.raises(ValueError, match="17 x 24 must be a multiple of the patch size 8"):
        small(TOKENIZERS, name)(images(1, 1, 3, 17, 24))


@pytest.mark.parametrize(("registry", "name"), [(TOKENIZERS, "linear"), (FUSIONS, "pixel")])
def test_pixel_range_is_what_black_and_white_become(small, registry, name):
    pixels, rays = images(1, 1, 3, 8, 8), torch.zeros(1, 1, 6, 8, 8)

    def tokens_of(part, pixels):
        return part(pixels) if registry is TOKENIZERS else part(pixels, torch.zeros(1, 1, 0, 32), rays)

    both, plain = small(registry, name), small(registry, name, pixel_range=(0.0, 1.0))
    torch.testing.assert_close(tokens_of(both, (pixels + 1) / 2), tokens_of(plain, pixels))
    assert tokens_of(plain, torch.zeros_like(pixels)).abs().max() == 0


@pytest.mark.parametrize("name", FUSION_NAMES)
def test_fusion_reads_rays_and_what_it_says_it_reads(small, name):
    fusion = small(FUSIONS, name)
    pixels, tokens, rays = images(1, 2, 3, 16, 24), images(1, 2, 6, 32), images(1, 2, 6, 16, 24)
    fused = fusion(pixels, tokens, rays)
    assert fused.shape == (1, 2, 6, 32)
    assert not torch.allclose(fusion(pixels, tokens, rays + 0.1), fused)
    assert torch.allclose(fusion(pixels, tokens.flip(-1), rays), fused) != fusion.reads_tokens
    assert torch.allclose(fusion(pixels.flip(2), tokens, rays), fused) == fusion.reads_tokens


@pytest.mark.parametrize("name", LAYOUT_NAMES)
def test_layout_groups_are_a_rearrangement(small, name):
    layout, tokens = small(ATTENTION_LAYOUTS, name), images(2, 3, 4, 8)
    for block in range(5):
        groups = layout.groups(block)
        grouped = rearrange(tokens, f"b v n d -> {groups} d")
        assert grouped.numel() == tokens.numel()
        assert torch.equal(rearrange(grouped, f"{groups} d -> b v n d", b=2, v=3, n=4), tokens)


@pytest.mark.parametrize(("first", "expected"), [("frame", "fgfgf"), ("global", "gfgfg")])
def test_alternating_layout_takes_turns_from_either_side(small, first, expected):
    layout = small(ATTENTION_LAYOUTS, "vggt_alternating", first=first)
    letters = {"(b v) n": "f", "b (v n)": "g"}
    assert "".join(letters[layout.groups(block)] for block in range(5)) == expected


@pytest.mark.parametrize("name", RENDERER_NAMES)
@pytest.mark.parametrize("encoding", ["none", "rope2d"])
def test_rendered_views_do_not_see_each_other_but_see_the_memory(small, name, encoding):
    renderer = small(RENDERERS, name)
    rays, memory = images(2, 3, 6, 32), images(2, 5, 32)
    positions, memory_positions = images(2, 3, 6, 2) * 4, images(2, 5, 2) * 4

    def render(chosen: slice, memory: torch.Tensor) -> torch.Tensor:
        return renderer(
            rays[:, chosen],
            memory,
            positions=positions[:, chosen],
            memory_positions=memory_positions,
            position_encoding=small(POSITION_ENCODINGS, encoding),
            backend=ATTENTION_BACKENDS["sdpa"](),
        )

    together = render(slice(0, 3), memory)
    assert together.shape == rays.shape
    torch.testing.assert_close(render(slice(1, 2), memory), together[:, 1:2])
    assert not torch.allclose(render(slice(0, 3), memory.square()), together, rtol=0, atol=1e-6)
