"""Pre-norm transformer blocks."""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.interfaces import AttentionBackend, Rotation
from openrayzer.layers.attention import CrossAttention, SelfAttention
from openrayzer.layers.mlp import MLP
from openrayzer.layers.norm import layer_norm


class Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm(x)), then x + mlp(norm(x)).

    Args:
        width: token width d.
        num_heads: attention heads.
        mlp_ratio: hidden width of the feed-forward layer, in token widths.
        qk_norm_eps: see ``SelfAttention``.
        norm_gain: whether the LayerNorms have learned gains.
    """

    def __init__(
        self,
        *,
        width: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qk_norm_eps: float | None = 1e-5,
        norm_gain: bool = True,
    ) -> None:
        super().__init__()
        self.attention_norm = layer_norm(width, gain=norm_gain)
        self.attention = SelfAttention(width=width, num_heads=num_heads, qk_norm_eps=qk_norm_eps)
        self.mlp_norm = layer_norm(width, gain=norm_gain)
        self.mlp = MLP(width=width, ratio=mlp_ratio)

    def forward(
        self, tokens: Float[Tensor, "b n d"], rotate: Rotation, backend: AttentionBackend
    ) -> Float[Tensor, "b n d"]:
        tokens = tokens + self.attention(self.attention_norm(tokens), rotate, backend)
        return tokens + self.mlp(self.mlp_norm(tokens))


class ReadingBlock(nn.Module):
    """Pre-norm block of a decoder: self-attention within a view, cross-attention to the scene's memory, feed-forward.

    Args:
        width: token width d.
        num_heads: attention heads.
        mlp_ratio: hidden width of the feed-forward layer, in token widths.
        qk_norm_eps: see ``SelfAttention``.
        norm_gain: whether the LayerNorms have learned gains.
        memory_norm: whether the block has a LayerNorm of its memory; without one, the memory must have had a norm.
    """

    def __init__(
        self,
        *,
        width: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qk_norm_eps: float | None = 1e-5,
        norm_gain: bool = True,
        memory_norm: bool = False,
    ) -> None:
        super().__init__()
        self.attention_norm = layer_norm(width, gain=norm_gain)
        self.attention = SelfAttention(width=width, num_heads=num_heads, qk_norm_eps=qk_norm_eps)
        self.reading_norm = layer_norm(width, gain=norm_gain)
        self.memory_norm = layer_norm(width, gain=norm_gain) if memory_norm else nn.Identity()
        self.reading = CrossAttention(width=width, num_heads=num_heads, qk_norm_eps=qk_norm_eps)
        self.mlp_norm = layer_norm(width, gain=norm_gain)
        self.mlp = MLP(width=width, ratio=mlp_ratio)

    def forward(
        self,
        tokens: Float[Tensor, "b v n d"],
        memory: Float[Tensor, "b k d"],
        rotate: Rotation,
        rotate_targets: Rotation,
        rotate_memory: Rotation,
        backend: AttentionBackend,
        keys_values: tuple[Float[Tensor, "b k h e"], Float[Tensor, "b k h e"]] | None = None,
        memory_backend: AttentionBackend | None = None,
    ) -> Float[Tensor, "b v n d"]:
        """Tokens of all views after the block.

        Args:
            tokens: tokens of v views, which do not see each other.
            memory: tokens of the scene, which all views see.
            rotate: position encoding of the tokens of each view, (b v) n.
            rotate_targets: position encoding of the tokens of all views in one sequence, b (v n).
            rotate_memory: position encoding of the memory.
            backend: computes attention.
            keys_values: keys and values of the memory, if they are known. The block then ignores ``memory``.
            memory_backend: computes the attention to the memory; ``backend`` by default.
        """
        b, v = tokens.shape[:2]
        tokens = rearrange(tokens, "b v n d -> (b v) n d")
        tokens = tokens + self.attention(self.attention_norm(tokens), rotate, backend)
        tokens = rearrange(tokens, "(b v) n d -> b (v n) d", b=b)  # all views attend to the same memory
        keys_values = self.keys_values(memory, rotate_memory) if keys_values is None else keys_values
        tokens = tokens + self.reading(
            self.reading_norm(tokens), keys_values, rotate_targets, memory_backend or backend
        )
        tokens = tokens + self.mlp(self.mlp_norm(tokens))
        return rearrange(tokens, "b (v n) d -> b v n d", v=v)

    def keys_values(
        self, memory: Float[Tensor, "b k d"], rotate: Rotation
    ) -> tuple[Float[Tensor, "b k h e"], Float[Tensor, "b k h e"]]:
        """Keys and values of the memory. Those of a token depend on this token alone."""
        return self.reading.keys_values(self.memory_norm(memory), rotate)
