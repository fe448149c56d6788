"""Pre-norm transformer blocks."""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.interfaces import AttentionBackend, Rotation
from openrayzer.layers.attention import CrossAttention, SelfAttention
from openrayzer.layers.mlp import MLP
from openrayzer.layers.norm import layer_norm


class Block(nn.Module):
    """Self-attention, then feed-forward, each behind a LayerNorm and beside a residual path."""

    def __init__(self, *, width: int, num_heads: int, mlp_ratio: float = 4.0, qk_norm_eps: float | None = 1e-5) -> None:
        super().__init__()
        self.attention_norm = layer_norm(width)
        self.attention = SelfAttention(width=width, num_heads=num_heads, qk_norm_eps=qk_norm_eps)
        self.mlp_norm = layer_norm(width)
        self.mlp = MLP(width=width, ratio=mlp_ratio)

    def forward(
        self, tokens: Float[Tensor, "b n d"], rotate: Rotation, backend: AttentionBackend
    ) -> Float[Tensor, "b n d"]:
        tokens = tokens + self.attention(self.attention_norm(tokens), rotate, backend)
        return tokens + self.mlp(self.mlp_norm(tokens))


class ReadingBlock(nn.Module):
    """Self-attention within a view, attention to a memory that all views of a scene share, feed-forward."""

    def __init__(self, *, width: int, num_heads: int, mlp_ratio: float = 4.0, qk_norm_eps: float | None = 1e-5) -> None:
        super().__init__()
        self.attention_norm = layer_norm(width)
        self.attention = SelfAttention(width=width, num_heads=num_heads, qk_norm_eps=qk_norm_eps)
        self.reading_norm = layer_norm(width)
        self.reading = CrossAttention(width=width, num_heads=num_heads, qk_norm_eps=qk_norm_eps)
        self.mlp_norm = layer_norm(width)
        self.mlp = MLP(width=width, ratio=mlp_ratio)

    def forward(
        self,
        tokens: Float[Tensor, "b v n d"],
        memory: Float[Tensor, "b k d"],
        rotate: Rotation,
        rotate_targets: Rotation,
        rotate_memory: Rotation,
        backend: AttentionBackend,
        shown: tuple[Float[Tensor, "b k h e"], Float[Tensor, "b k h e"]] | None = None,
    ) -> Float[Tensor, "b v n d"]:
        """``rotate`` turns one view's tokens, ``rotate_targets`` those of all views in one sequence.

        ``shown`` are the memory's keys and values where they are known already; then ``memory`` is not looked at.
        """
        b, v = tokens.shape[:2]
        tokens = rearrange(tokens, "b v n d -> (b v) n d")
        tokens = tokens + self.attention(self.attention_norm(tokens), rotate, backend)
        tokens = rearrange(tokens, "(b v) n d -> b (v n) d", b=b)  # all views read the same memory
        shown = self.reading.show(memory, rotate_memory) if shown is None else shown
        tokens = tokens + self.reading(self.reading_norm(tokens), shown, rotate_targets, backend)
        tokens = tokens + self.mlp(self.mlp_norm(tokens))
        return rearrange(tokens, "b (v n) d -> b v n d", v=v)
