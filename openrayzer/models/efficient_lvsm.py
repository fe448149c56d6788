"""Model: Efficient-LVSM, from posed images, with a memory for each layer."""

from openrayzer.interfaces import MODELS, AttentionBackend, Fusion, PositionEncoding, Tokenizer, TokenRenderer
from openrayzer.models.lvsm_encoder_decoder import LVSMEncoderDecoder


@MODELS.register("efficient_lvsm")
class EfficientLVSM(LVSMEncoderDecoder):
    """Efficient-LVSM: each context view is encoded alone; block l of a target view reads all of them after block l.

    This is the encoder-decoder without latents, whose encoder keeps the views apart. ``extend`` adds views to a scene
    and computes nothing of the earlier views again, and ``prepare`` computes the keys and values of all blocks, so that
    a scene grows like the cache of a language model. With the renderer "layered", the model is the published one.

    The weights start as in RayZer and LVSM. The published code leaves its encoder at PyTorch's default instead.

    Args:
        width: token width d.
        num_heads: attention heads of every block.
        patch_size: side of a patch in pixels.
        fusion: context images and rays to tokens.
        renderer: target rays and tokens of the encoder's layers to views; "layered" as published.
        attention: computes attention.
        encoder_depth: number of blocks of the encoder; the published renderer has the same number.
        position_encoding: encoding of image tokens and of queries and keys; "none" as published.
        tokenizer: images to tokens, for a fusion that reads tokens; None for a fusion that reads pixels.
        mlp_ratio: hidden width of the feed-forward layers of the encoder, in token widths.
        qk_norm_eps: epsilon of the RMS norm of queries and keys in the encoder; null for no norm.
        norm_gains: whether the LayerNorms of the encoder and before the pixels have learned gains; as published, none.
        activation_checkpointing: n recomputes every n-th block in the backward pass, to save memory; 0 recomputes none.

    Source: Jia et al. 2026, "Efficient-LVSM: Faster, Cheaper, and Better Large View Synthesis Model via Decoupled
    Co-Refinement Attention".
    """

    def __init__(
        self,
        *,
        width: int,
        num_heads: int,
        patch_size: int,
        fusion: Fusion,
        renderer: TokenRenderer,
        attention: AttentionBackend,
        encoder_depth: int,
        position_encoding: PositionEncoding,
        tokenizer: Tokenizer | None = None,
        mlp_ratio: float = 4.0,
        qk_norm_eps: float | None = 1e-5,
        norm_gains: bool = False,
        activation_checkpointing: int = 0,
    ) -> None:
        super().__init__(
            width=width,
            num_heads=num_heads,
            patch_size=patch_size,
            fusion=fusion,
            renderer=renderer,
            attention=attention,
            encoder_depth=encoder_depth,
            num_latents=0,
            encoder="per_view",
            position_encoding=position_encoding,
            tokenizer=tokenizer,
            mlp_ratio=mlp_ratio,
            qk_norm_eps=qk_norm_eps,
            norm_gains=norm_gains,
            activation_checkpointing=activation_checkpointing,
        )
