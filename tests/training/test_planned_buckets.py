"""The buckets of the planner are those that DeepSpeed allocates."""

from typing import Any

import pytest
import toy
from torch import Tensor

from openrayzer.machine.distributed import Process
from openrayzer.planning.clip_shapes import ClipShape, empty_views
from openrayzer.planning.memory import bucket_bytes
from openrayzer.training.engine import Engine

AUTOCAST = {"torch_autocast": {"enabled": True, "dtype": "bfloat16"}}


pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("precision", [{}, AUTOCAST, {"bf16": {"enabled": True}}], ids=["float32", "autocast", "bf16"])
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_one_rank_allocates_the_planned_buckets(
    process: Process, monkeypatch: pytest.MonkeyPatch, stage: int, precision: dict[str, Any], overlap: bool
):
    from deepspeed.runtime import torch_autocast

    monkeypatch.setattr(torch_autocast, "TORCH_AUTOCAST_INITIALIZED", False)  # else an engine sees that of another
    zero = {"stage": stage, "reduce_bucket_size": 1000, "overlap_comm": overlap}
    experiment = toy.experiment(accumulation=1)
    config = {
        "zero_optimization": zero, "train_batch_size": 4, "train_micro_batch_size_per_gpu": 4,
        "zero_allow_untested_optimizer": True, **precision,
    }  # fmt: skip
    planned = bucket_bytes(experiment.model, config, stage=stage)
    engine = Engine(experiment.model, settings=experiment.train, config=config, process=process)
    seen = [bucket_sizes(engine)]
    if stage < 3:  # there from the first gradient on, until all are where they belong
        release = engine.deepspeed.optimizer._release_ipg_buffers
        monkeypatch.setattr(
            engine.deepspeed.optimizer, "_release_ipg_buffers", lambda: (seen.append(bucket_sizes(engine)), release())
        )
    engine.backward(engine(empty_views(ClipShape(5, 3, 2), (8, 8), batch=4)).images.mean())
    assert max(seen) == planned
    assert planned == 1000 * expected_width(stage, precision) * (2 if overlap and stage < 3 else 1)


def bucket_sizes(engine: Engine) -> int:
    held = [bucket.buffer for bucket in engine.deepspeed.optimizer.ipg_buckets.values()]
    return sum(buffer.nbytes for buffers in held for buffer in ([buffers] if isinstance(buffers, Tensor) else buffers))


def expected_width(stage: int, precision: dict[str, Any]) -> int:
    if precision is AUTOCAST:  # the toy has linear layers and a weight of its own
        return 4 + 2 if stage == 3 else 4 + 4
    return 2 if precision else 4


def test_gradients_that_are_not_gathered_need_no_bucket():
    config = {"zero_optimization": {"stage": 2, "contiguous_gradients": False}}
    assert bucket_bytes(toy.ToyModel(), config, stage=2) == 0
    config["zero_optimization"]["offload_optimizer"] = {"device": "cpu"}
    assert bucket_bytes(toy.ToyModel(), config, stage=2) == 4 * 500_000_000
