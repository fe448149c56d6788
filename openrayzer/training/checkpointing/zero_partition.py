"""The weights that this process owns in DeepSpeed's ZeRO optimizer. Only this file reads its internals for weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from openrayzer.interfaces import InputError
from openrayzer.weights.checkpoints.zero_checkpoint import WEIGHTS, ZeroCheckpoint
from openrayzer.weights.checkpoints.zero_layout import Layout, Stretch, cut_each, divide


def share_weights(zero: Any) -> None:
    """Have the optimizer of stage 1 or 2 move the model's float32 weights, where DeepSpeed would move a copy of them.

    This saves 4 bytes for every weight that this process owns. It has no effect if the model's weights have another
    dtype, or if the optimizer's weights are on another device.

    Args:
        zero: DeepSpeed's optimizer of stage 1 or 2, before its first step.
    """
    for copy, partitions, group in zip(
        zero.single_partition_of_fp32_groups,
        zero.parallel_partitioned_bit16_groups,
        zero.real_dp_process_group,
        strict=True,
    ):
        own = partitions[dist.get_rank(group=group)]
        if (own.dtype, own.device) == (copy.dtype, copy.device):
            copy.data = own.detach()
    zero._link_all_hp_params()  # DeepSpeed's links point into the copies


class ZeroPartition:
    """The float32 weights that this process owns, and their connection to the model.

    Args:
        engine: DeepSpeed's engine, with ZeRO stage 1, 2 or 3.
        stage: ZeRO stage.
    """

    def __init__(self, engine: Any, *, stage: int) -> None:
        self._engine, self._zero, self.stage = engine, engine.optimizer, stage

    @property
    def weights(self) -> list[Tensor]:
        """Flat float32 partitions, one per optimizer group. Call ``publish`` after changing them."""
        zero = self._zero
        return zero.fp32_partitioned_groups_flat if self.stage == 3 else zero.single_partition_of_fp32_groups

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the whole optimized weights, by name."""
        return {name: shape for group in self._groups() for name, shape in group.items()}

    def layout(self) -> Layout:
        """The stretches of weights that the partitions hold."""
        if self.stage == 3:
            from deepspeed import comm

            group = self._zero.dp_process_group
            rank, world_size = comm.get_rank(group=group), comm.get_world_size(group=group)
            return cut_each(self._groups(), rank=rank, world_size=world_size)
        return tuple(
            tuple(self._stretch(weight) for weight in group if weight._hp_mapping is not None)
            for group in self._zero.bit16_groups
        )

    def publish(self) -> None:
        """Copy the partitions into the model, on all processes."""
        zero = self._zero
        if self.stage != 3:
            zero.update_lp_params()
            return
        zero.checkpoint_event_prologue()
        for group in range(len(zero.fp16_groups)):
            zero._reassign_or_swap_out_partitioned_parameters(group)
        zero.checkpoint_event_epilogue()

    def fill(self, saved: ZeroCheckpoint) -> None:
        """Load weights and optimizer state from a checkpoint that any number of processes wrote.

        Raises:
            InputError: the checkpoint belongs to other weights.
        """
        self._check(saved)
        self._fill_others(saved.others)
        layout, state = self.layout(), {}
        for group, (stretches, weights) in enumerate(zip(layout, self.weights, strict=True)):
            parts = {
                key: divide(stretches, pieces.whole, size=weights.numel()) for key, pieces in saved.optimized.items()
            }
            weights.data.copy_(parts.pop(WEIGHTS))
            counts = saved.counts[min(group, len(saved.counts) - 1)]  # all groups have the same
            state[group] = {**parts, **counts}
        self._fill_optimizer(state)
        self.publish()
        self._engine.lr_scheduler.load_state_dict(dict(saved.schedule))
        for name, value in saved.progress.items():
            setattr(self._engine, name, value)

    def _groups(self) -> list[dict[str, tuple[int, ...]]]:
        groups = self._zero.fp16_groups if self.stage == 3 else self._zero.bit16_groups
        names = self._engine.param_names
        return [
            {names[weight]: tuple(getattr(weight, "ds_shape", weight.shape)) for weight in group} for group in groups
        ]

    def _stretch(self, weight: Any) -> Stretch:
        held, part = weight._hp_mapping.hp_fragment_address, weight._hp_mapping.lp_fragment_address
        return Stretch(self._engine.param_names[weight], part.start, part.numel, held.start)

    def _check(self, saved: ZeroCheckpoint) -> None:
        own, given = self.shapes, saved.optimized[WEIGHTS].shapes
        if own != given:
            differing = sorted(name for name in own.keys() | given.keys() if own.get(name) != given.get(name))
            raise InputError(f"the checkpoint belongs to other weights: {', '.join(differing[:3])} and others differ")

    def _fill_others(self, others: Mapping[str, Tensor]) -> None:
        module = self._engine.module
        own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        unknown = sorted(others.keys() - own.keys())
        if unknown:
            raise InputError(
                f"the checkpoint belongs to another model: {', '.join(unknown[:3])} and others are not in this model"
            )
        for name, value in others.items():
            with torch.no_grad(), self._gathered([own[name]]):
                own[name].copy_(value)

    def _gathered(self, weights: Sequence[Tensor]) -> Any:
        import deepspeed

        divided = [weight for weight in weights if hasattr(weight, "ds_id")]
        return deepspeed.zero.GatheredParameters(divided, modifier_rank=0, enabled=bool(divided))

    def _fill_optimizer(self, state: Mapping[int, Mapping[str, Any]]) -> None:
        zero = self._zero
        if self.stage == 3:
            zero._set_fp32_optimizer_param_groups()
        zero.optimizer.load_state_dict({"state": state, "param_groups": zero.optimizer.state_dict()["param_groups"]})
        if self.stage == 3:
            zero._clear_fp32_optimizer_param_groups()
        else:
            zero._link_all_hp_params()
