"""What every tokenizer, fusion, attention layout and renderer promises."""

import pytest
import torch
from einops import rearrange
from learning import awake
from small import names

from openrayzer.interfaces import (
    ATTENTION_BACKENDS,
    ATTENTION_LAYOUTS,
    FUSIONS,
    POSITION_ENCODINGS,
    RENDERERS,
    TOKENIZERS,
    TokenRenderer,
)


def images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", names(TOKENIZERS))
def test_tokenizer_makes_one_token_per_patch_row_by_row(small, name):
    tokenizer = small(TOKENIZERS, name)
    p = tokenizer.patch_size
    pixels = images(2, 3, 3, 2 * p, 3 * p)
    tokens = tokenizer(pixels)
    assert tokens.shape == (2, 3, 6, 32)
    changed = pixels.clone()
    changed[:, :, :, p:, 2 * p :] += 0.1  # second row, third column: the last patch
    difference = (tokenizer(changed) - tokens).abs().amax((0, 1, 3))
    assert difference.argmax() == 5


@pytest.mark.parametrize("name", names(TOKENIZERS))
def test_tokenizer_reads_each_image_alone(small, name):
    tokenizer = small(TOKENIZERS, name)
    pixels = images(2, 3, 3, 2 * tokenizer.patch_size, tokenizer.patch_size)
    torch.testing.assert_close(tokenizer(pixels[:1, 1:2]), tokenizer(pixels)[:1, 1:2], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", names(TOKENIZERS))
def test_tokenizer_refuses_images_that_patches_do_not_tile(small, name):
    tokenizer = small(TOKENIZERS, name)
    with pytest.raises(ValueError, match=f"multiple of the patch size {tokenizer.patch_size}"):
        tokenizer(images(1, 1, 3, 2 * tokenizer.patch_size + 1, 3 * tokenizer.patch_size))


@pytest.mark.parametrize("name", names(FUSIONS))
def test_fusion_reads_rays_and_either_tokens_or_pixels(small, name):
    fusion = small(FUSIONS, name)
    pixels, tokens, rays = images(1, 2, 3, 16, 24), images(1, 2, 6, 32), images(1, 2, 6, 16, 24)
    fused = fusion(pixels, tokens, rays)
    assert fused.shape == (1, 2, 6, 32)
    assert not torch.allclose(fusion(pixels, tokens, rays + 0.1), fused)
    assert torch.allclose(fusion(pixels, tokens.flip(-1), rays), fused) != fusion.reads_tokens
    assert torch.allclose(fusion(pixels.flip(2), tokens, rays), fused) == fusion.reads_tokens


@pytest.mark.parametrize("name", names(ATTENTION_LAYOUTS))
def test_layout_groups_are_a_rearrangement(small, name):
    layout, tokens = small(ATTENTION_LAYOUTS, name), images(2, 3, 4, 8)
    for block in range(5):
        groups = layout.groups(block)
        grouped = rearrange(tokens, f"b v n d -> {groups} d")
        assert grouped.numel() == tokens.numel()
        assert torch.equal(rearrange(grouped, f"{groups} d -> b v n d", b=2, v=3, n=4), tokens)


@pytest.mark.parametrize("name", names(RENDERERS, TokenRenderer))
@pytest.mark.parametrize("encoding", ["none", "rope2d"])
class TestRenderer:
    @pytest.fixture
    def render(self, small, name, encoding):
        """Renders chosen views of a memory of five tokens; ``prepared`` first prepares the memory."""
        renderer, encoding = awake(small(RENDERERS, name)), small(POSITION_ENCODINGS, encoding)
        rays, positions, memory_positions = images(2, 3, 6, 32), images(2, 3, 6, 2) * 4, images(2, 5, 2) * 4

        def call(views: slice, memory: torch.Tensor, *, prepared: bool = False) -> torch.Tensor:
            known = renderer.prepare(memory, memory_positions=memory_positions, position_encoding=encoding)
            return renderer(
                rays[:, views],
                memory,
                positions=positions[:, views],
                memory_positions=memory_positions,
                position_encoding=encoding,
                backend=ATTENTION_BACKENDS["sdpa"](),
                **({"prepared": known} if prepared and known else {}),
            )

        return call

    def test_views_do_not_see_each_other_but_see_the_memory(self, render):
        memory = images(2, 5, 32)
        together = render(slice(0, 3), memory)
        assert together.shape == (2, 3, 6, 32)
        torch.testing.assert_close(render(slice(1, 2), memory), together[:, 1:2])
        assert not torch.allclose(render(slice(0, 3), memory.square()), together, rtol=0, atol=1e-6)

    def test_a_prepared_memory_gives_the_same_tokens(self, render):
        memory = images(2, 5, 32)
        torch.testing.assert_close(render(slice(0, 3), memory, prepared=True), render(slice(0, 3), memory))
