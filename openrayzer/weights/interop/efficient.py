"""Efficient-LVSM."""

from collections.abc import Mapping

from torch import Tensor

from openrayzer.interfaces import InputError, Model
from openrayzer.types import Scene, select_views
from openrayzer.weights.interop.configuration import Configuration
from openrayzer.weights.interop.naming import depth_of, paired, published_names, rename
from openrayzer.weights.interop.system import Imported, System
from openrayzer.weights.interop.trunk import patch_size_of, predicted, read_trunk, view_counts, views_of

INPUT_STREAM, TARGET_STREAM = "input_self_attn_blocks", "self_cross_blocks"
"""Published names of the two stacks of blocks."""


class EfficientLVSMWeights(System):
    """Efficient-LVSM: posed, context views encoded alone, target views that read them layer by layer."""

    name = "efficient-lvsm"
    experiment = "efficient_lvsm_re10k.json"
    fingerprint = ("rgbp_tokenizer.1.weight",)
    title = "Efficient-LVSM (Jia et al. 2026, github.com/Ayakaee/Efficient-LVSM)"
    license = "cc-by-nc-sa-4.0"

    def read(self, state: Mapping[str, Tensor], configuration: Configuration) -> Imported:
        depth = configuration.agree("model.transformer.n_layer", depth_of(state, INPUT_STREAM))
        normed = any(name.endswith("_norm.weight") for name in state)
        names = {
            "rgbp_tokenizer.1.weight": "fusion.patches.linear.weight",
            "target_pose_tokenizer.1.weight": "scene.target_rays.linear.weight",
            "image_token_decoder.1.weight": "scene.pixels.linear.weight",
        }
        for number in range(depth):
            names |= paired(f"{INPUT_STREAM}.{number}", f"scene.encoder.blocks.{number}", _input_block(normed))
            ours = f"scene.renderer.stack.blocks.{number}"
            names |= paired(f"{TARGET_STREAM}.{number}", ours, _target_block(normed))
        weights = rename(state, names)
        trunk = read_trunk(state, f"{INPUT_STREAM}.0", configuration)
        patch_size = self._patch_size(state, configuration)
        sizes = {"width": trunk.width, "num_heads": trunk.num_heads}
        blocks = {"mlp_ratio": trunk.mlp_ratio, "qk_norm_eps": trunk.qk_norm_eps(1e-5)}
        model = {
            "type": "efficient_lvsm",
            **sizes,
            "patch_size": patch_size,
            "position_encoding": {"type": "none"},
            "fusion": {"type": "pixel", "width": trunk.width, "patch_size": patch_size},
            "renderer": {"type": "layered", **sizes, "depth": depth, **blocks},
            "attention": {"type": "auto"},
            "encoder_depth": depth,
            **blocks,
            "activation_checkpointing": 0,
        }
        configuration.check()
        side = configuration.get("model.image_tokenizer.image_size", 0)
        size = (f"data.image_size=[{side}, {side}]",) if side else ()
        return Imported(model, weights, published_names(names), (*size, *view_counts(configuration)))

    def reproduce(self, model: Model, inputs: Mapping[str, Tensor], configuration: Configuration) -> dict[str, Tensor]:
        """Compute render and loss, and the renders of each call of the incremental inference."""
        missing = [f"in/{name}" for name in ("input_idx", "target_idx", "increments") if name not in inputs]
        if missing:
            raise InputError(f"the recording has no {' nor '.join(missing)}")
        views = views_of(inputs, inputs["input_idx"], inputs["target_idx"], posed=True)
        prediction, outputs = predicted(model, views, configuration)
        targets, first = prediction.cameras.select(views.target), 0
        scene: Scene | None = None
        for number, count in enumerate(inputs["increments"].tolist()):
            places = views.context[:, first : first + count]
            new = select_views(views.images, places), prediction.cameras.select(places)
            scene = model.prepare(model.reconstruct(*new)) if scene is None else model.extend(scene, *new)
            outputs[f"render_increment_{number}"] = model.render(scene, targets)
            first += count
        return outputs

    @staticmethod
    def _patch_size(state: Mapping[str, Tensor], configuration: Configuration) -> int:
        context = patch_size_of(state, "rgbp_tokenizer.1.weight", channels=9)
        target = patch_size_of(state, "target_pose_tokenizer.1.weight", channels=6)
        configuration.agree("model.image_tokenizer.patch_size", context)
        configuration.agree("model.target_pose_tokenizer.patch_size", target)
        if context != target:
            configuration.problem(
                f"context views have patches of {context} pixels and target views of {target}; only equal patches are "
                "supported"
            )
        return context


def _attention(published: str, ours: str, packed: Mapping[str, str], normed: bool) -> dict[str, str]:
    leaves = {f"{name}.weight": f"{own}.weight" for name, own in packed.items()} | {"fc.weight": "out.weight"}
    if normed:
        leaves |= {f"{kind[0]}_norm.weight": f"{kind}_norm.weight" for kind in ("query", "key")}
    return paired(published, ours, leaves)


def _input_block(normed: bool) -> dict[str, str]:
    return _attention("attn", "attention", {"to_qkv": "query_key_value"}, normed) | _mlp()


def _target_block(normed: bool) -> dict[str, str]:
    own = _attention("self_attn", "attention", {"to_qkv": "query_key_value"}, normed)
    return own | _attention("cross_attn", "reading", {"to_q": "query", "to_kv": "key_value"}, normed) | _mlp()


def _mlp() -> dict[str, str]:
    return paired("mlp.mlp", "mlp.layers", {f"{layer}.weight": f"{layer}.weight" for layer in (0, 2)})
