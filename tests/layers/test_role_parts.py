"""The parts of RayDer: role norms, cosine attention, rotary positions, and maps between grids of tokens."""

import math

import pytest
import torch
from torch import nn

from openrayzer.interfaces import ATTENTION_BACKENDS
from openrayzer.layers.axial_rotary import axial_frequencies, axial_rotation, grid_coordinates
from openrayzer.layers.cosine_attention import CosineAttention, unrotated
from openrayzer.layers.merge import TokenMerge, TokenSplit
from openrayzer.layers.rms_norm import RMSNorm, rms_normalise
from openrayzer.layers.roles import ROLES, LearnedCodes, RegisterNorm, RoleNorm, TableCodes, alternating, normalise
from openrayzer.layers.swiglu import SwiGLU
from openrayzer.layers.view_attention import all_views

CPU = torch.device("cpu")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_rms_norm_is_pytorchs():
    tokens, gain = random(2, 3, 16) * 5, random(16, seed=1)
    expected = nn.functional.rms_norm(tokens, (16,), gain, 1e-6)
    torch.testing.assert_close(rms_normalise(tokens, gain), expected)
    assert RMSNorm(16)(tokens.bfloat16()).dtype == torch.float32
    zeros = torch.zeros(1, 16, requires_grad=True)
    rms_normalise(zeros, gain).sum().backward()
    assert torch.isfinite(zeros.grad).all()


def test_a_table_of_gains_can_express_each_projection_of_learned_codes():
    """The columns of the table are the projections of the codes."""
    codes, table = LearnedCodes(width=8), TableCodes()
    projected, folded = RegisterNorm(8, codes.code_width), RegisterNorm(8, table.code_width)
    nn.init.normal_(projected.patches.weight, generator=torch.Generator().manual_seed(0))
    nn.init.normal_(projected.register.weight, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for number, role in enumerate(ROLES):
            code = codes(role, CPU)
            folded.patches.weight[:, number] = projected.patches.weight @ code.patches[0]
            folded.register.weight[:, number] = projected.register.weight @ code.register[0]
    tokens = random(2, 3, 5, 8)
    for role in ROLES:
        first, second = (normalise(tokens, gains) for gains in (projected(codes(role, CPU)), folded(table(role, CPU))))
        torch.testing.assert_close(first, second)


def test_gains_differ_between_roles_and_between_kinds_of_tokens():
    for codes in (TableCodes(), LearnedCodes(width=8)):
        norm = RegisterNorm(8, codes.code_width)
        tokens = random(1, 1, 3, 8)
        camera, target = (normalise(tokens, norm(codes(role, CPU))) for role in ("camera", "target"))
        assert torch.equal(camera, target)  # at the start
        nn.init.normal_(norm.patches.weight)
        nn.init.normal_(norm.register.weight)
        seen = [normalise(tokens, norm(codes(role, CPU))) for role in ROLES]
        assert all(not torch.allclose(seen[i], seen[j]) for i in range(3) for j in range(i))
        same = normalise(tokens[:, :, :1].expand(-1, -1, 3, -1), norm(codes("context", CPU)))[0, 0]
        assert torch.equal(same[0], same[1])
        assert not torch.allclose(same[1], same[2])


def test_views_with_alternating_roles_have_the_gains_of_their_roles():
    codes, norm = LearnedCodes(width=8), RegisterNorm(8, 16)
    nn.init.normal_(norm.patches.weight)
    nn.init.normal_(norm.register.weight)
    tokens, context, target = random(2, 4, 3, 8), codes("context", CPU), codes("target", CPU)
    both = normalise(tokens, norm(alternating(context, target)))
    torch.testing.assert_close(both[:, ::2], normalise(tokens[:, ::2], norm(context)))
    torch.testing.assert_close(both[:, 1::2], normalise(tokens[:, 1::2], norm(target)))


def test_gains_stay_exact_under_autocast():
    codes, norm = TableCodes(), RoleNorm(8, 3)
    nn.init.normal_(norm.weight, std=1e-3)
    exact = norm.gain(codes("target", CPU).patches)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(norm.gain(codes("target", CPU).patches), exact)
        assert normalise(random(1, 1, 2, 8).bfloat16(), norm(codes("target", CPU))).dtype == torch.bfloat16


def test_cosine_attention_ignores_the_length_of_queries_and_keys():
    """It is softmax(s cos(q, k)) v."""
    attention = CosineAttention(width=16, head_width=8)
    with torch.no_grad():
        attention.scale.copy_(torch.tensor([3.0, 7.0]))
        attention.out.weight.copy_(torch.eye(16))
    tokens = random(1, 2, 3, 16) * 10
    read, keys_values = attention(tokens, all_views(ATTENTION_BACKENDS["reference"]()), unrotated)
    query, key, value = attention.query_key_value(tokens).reshape(6, 3, 2, 8).unbind(1)
    cosine = nn.functional.cosine_similarity(query[:, None], key[None], dim=-1)  # (6, 6, heads)
    weights = (cosine * torch.tensor([3.0, 7.0])).softmax(dim=1)
    expected = torch.einsum("nmh,mhe->nhe", weights, value).reshape(1, 2, 3, 16)
    torch.testing.assert_close(read, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(keys_values.key.norm(dim=-1), torch.ones(1, 2, 3, 2))
    with torch.no_grad():
        attention.scale.fill_(-1.0)
    assert torch.isfinite(attention(tokens, all_views(ATTENTION_BACKENDS["sdpa"]()), unrotated)[0]).all()


def test_the_width_must_be_a_multiple_of_the_head_width():
    with pytest.raises(ValueError, match="width 48 must be a multiple of head_width 32"):
        CosineAttention(width=48, head_width=32)


def test_swiglu_gates_its_first_half_by_its_second():
    mlp, tokens = SwiGLU(width=4, ratio=3.0), random(1, 1, 2, 4)
    hidden = tokens @ mlp.values_gates.weight.T
    expected = (hidden[..., :12] * nn.functional.silu(hidden[..., 12:])) @ mlp.out.weight.T
    torch.testing.assert_close(mlp(tokens), expected)


def test_frequencies_rise_from_pi_and_stay_below_ten_pi():
    for spread in ("interleaved", "blocked"):
        frequencies = axial_frequencies(3, 64, spread, CPU)
        rising = frequencies.flatten().sort().values
        torch.testing.assert_close(rising, math.pi * 10 ** (torch.arange(24) / 24))
    every_third = axial_frequencies(3, 64, "interleaved", CPU)[0]
    torch.testing.assert_close(every_third, math.pi * 10 ** (torch.arange(0, 24, 3) / 24))
    first_eight = axial_frequencies(3, 64, "blocked", CPU)[0]
    torch.testing.assert_close(first_eight, math.pi * 10 ** (torch.arange(8) / 24))
    with pytest.raises(ValueError, match="multiple of 8, got 12"):
        axial_frequencies(3, 12, "blocked", CPU)


def test_coordinates_keep_the_aspect_ratio_and_the_centre():
    wide = grid_coordinates((2, 4), CPU)
    assert wide[:, 1].tolist() == [-0.75, -0.25, 0.25, 0.75] * 2
    assert wide[:, 0].tolist() == [-0.25] * 4 + [0.25] * 4
    torch.testing.assert_close(wide.mean(dim=0), torch.zeros(2))
    fine = grid_coordinates((4, 8), CPU).reshape(2, 2, 4, 2, 2).mean(dim=(1, 3))  # averaged when tokens merge
    torch.testing.assert_close(fine.reshape(8, 2), wide)


def test_rotary_scores_depend_on_offsets_only_and_the_centre_stays_the_same():
    heads = random(2, 1, 1, 1, 16, seed=3)

    def score(query_at, key_at) -> torch.Tensor:
        rotated = [
            axial_rotation(torch.tensor([at]), num_heads=1, head_width=16, spread="blocked")(x[None])
            for at, x in zip((query_at, key_at), heads, strict=True)
        ]
        return (rotated[0] * rotated[1]).sum()

    here = score((0.1, 0.2), (0.4, -0.3))
    torch.testing.assert_close(here, score((0.3, -0.1), (0.6, -0.6)))
    assert not torch.allclose(here, score((0.1, 0.2), (-0.3, 0.4)))
    at_centre = axial_rotation(torch.zeros(1, 2), num_heads=1, head_width=16, spread="blocked")
    assert torch.equal(at_centre(heads[:1]), heads[:1])


def test_merge_and_split_keep_places():
    """Each token of the coarse grid belongs to one square of cells, in both directions."""
    merge, split = TokenMerge(widths=(3, 5), patch=2), TokenSplit(widths=(5, 3), patch=2)
    tokens = random(1, 2, 24, 3)  # 4 x 6 cells
    changed = tokens.clone()
    changed[:, :, 2 * 6 + 5] += 1  # third row, last column: the last square of the second row
    moved = (merge(changed, (4, 6)) - merge(tokens, (4, 6))).abs().amax((0, 1, 3)) > 1e-6
    assert moved.tolist() == [False] * 5 + [True]
    coarse = random(1, 2, 6, 5, seed=1)
    bumped = coarse.clone()
    bumped[:, :, 5] += 1
    moved = (split(bumped, tokens, (4, 6)) - split(coarse, tokens, (4, 6))).abs().amax((0, 1, 3)) > 1e-6
    assert moved.reshape(4, 6).nonzero().tolist() == [[2, 4], [2, 5], [3, 4], [3, 5]]


def test_split_starts_as_the_mean_of_split_and_skip():
    split = TokenSplit(widths=(5, 3), patch=1)
    tokens, skip = random(1, 1, 4, 5), random(1, 1, 4, 3, seed=1)
    torch.testing.assert_close(split(tokens, skip, (2, 2)), (split.linear(tokens) + skip) / 2)
    with torch.no_grad():
        split.share.fill_(0.0)
    assert torch.equal(split(tokens, skip, (2, 2)), skip)
