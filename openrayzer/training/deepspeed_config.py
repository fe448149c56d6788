"""Reading, checking and completing a ``ds_configs/`` file.

Each number has one owner. The file owns ZeRO stage, precision, buckets and offload; the experiment owns batch size,
accumulation, clipping, optimizer and schedule. DeepSpeed silently ignores unknown top-level keys, so this module
checks them.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from openrayzer.interfaces import InputError
from openrayzer.settings import TrainSettings
from registry.errors import did_you_mean

OWNED_BY_EXPERIMENT = {
    "train_batch_size": "train.batch_size",
    "train_micro_batch_size_per_gpu": "train.batch_size",
    "sequence_parallel_size": "train.sequence_parallel",
    "gradient_accumulation_steps": "train.accumulation",
    "gradient_clipping": "train.clip_norm",
    "optimizer": "train.optimizer",
    "scheduler": "train.schedule",
    "steps_per_print": "train.log_every",
}
ALLOWED = (
    "activation_checkpointing", "aio", "bf16", "comms_logger", "communication_data_type", "data_types",
    "flops_profiler", "gradient_predivide_factor", "memory_breakdown", "prescale_gradients", "timers", "torch_autocast",
    "wall_clock_breakdown", "zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer", "zero_optimization",
)  # fmt: skip
NEVER = 2**31 - 1
"""Steps between DeepSpeed's own progress lines, which metrics.jsonl replaces."""


def load_deepspeed_config(path: str | Path, settings: TrainSettings, *, world_size: int) -> dict[str, Any]:
    """The configuration for ``deepspeed.initialize``.

    Args:
        path: a JSON file, relative to the working directory or to the clone that holds this package.
        settings: the section ``train`` of the experiment.
        world_size: number of processes.

    Raises:
        InputError: the file is missing or broken, has unknown keys or keys that belong to the experiment, or the batch
            cannot be split evenly.
    """
    file = _find(Path(path))
    given = _read(file)
    problems = [*_clashes(given), *_unknown(given), *_stage(given), *_offload(given), *_precision(given)]
    if problems:
        raise InputError("\n".join([f"{file}: {len(problems)} problem(s)", *problems]))
    merged = {
        "zero_allow_untested_optimizer": True,  # the experiment names the optimizer; plugins may bring their own
        "timers": {"throughput": {"enabled": False}},  # it waits for the device twice in every micro-batch
        **given,
        "train_batch_size": settings.batch_size,
        "train_micro_batch_size_per_gpu": micro_batch_size(settings, world_size=world_size),
        "gradient_accumulation_steps": settings.accumulation,
        **_sequence_parallel(settings),
        "gradient_clipping": settings.clip_norm,
        "steps_per_print": NEVER,
    }
    _check_by_deepspeed(merged, file)
    return merged


def micro_batch_size(settings: TrainSettings, *, world_size: int) -> int:
    """Number of scenes in a micro-batch of one process, or of the processes that share their clips.

    Raises:
        InputError: ``sequence_parallel`` does not divide the number of processes, or the batch size is no multiple of
            the number of groups of processes times ``accumulation``.
    """
    shared = settings.sequence_parallel
    if world_size % shared:
        works = [str(size) for size in range(1, world_size + 1) if world_size % size == 0]
        raise InputError(
            f"train.sequence_parallel {shared} does not divide the {world_size} process(es); {' or '.join(works)} "
            "would work"
        )
    groups = world_size // shared
    unit = groups * settings.accumulation
    if settings.batch_size % unit:
        lower, kind = (
            settings.batch_size // unit * unit,
            "process(es)" if shared == 1 else f"group(s) of {shared} processes",
        )
        works = [str(size) for size in (lower, lower + unit) if size]
        raise InputError(
            f"train.batch_size {settings.batch_size} cannot be split evenly over {groups} {kind} x "
            f"train.accumulation {settings.accumulation}; {' or '.join(works)} would work"
        )
    return settings.batch_size // unit


def _sequence_parallel(settings: TrainSettings) -> dict[str, int]:
    """The key by which DeepSpeed counts each clip once, and not once for every process that shares it.

    It has no other effect without the key ``data_parallel_size``. With both, DeepSpeed would multiply the mean gradient
    by the number of processes that share a clip, which is wrong for the losses of ``layers.view_shares``.
    """
    return {"sequence_parallel_size": settings.sequence_parallel} if settings.sequence_parallel > 1 else {}


def _find(path: Path) -> Path:
    shipped = Path(__file__).parents[1] / "shipped"
    for candidate in (path, shipped / path):
        if candidate.is_file():
            return candidate
    known = sorted(file.name for file in (shipped / "ds_configs").glob("*.json"))
    raise InputError(f"no DeepSpeed configuration {str(path)!r}; ds_configs/ has: {', '.join(known) or '(nothing)'}")


def _read(file: Path) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            raise ValueError(f"a key occurs twice in {[key for key, _ in pairs]}")
        return result

    try:
        given = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=unique)
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read as JSON: {error}") from error
    if not isinstance(given, dict):
        raise InputError(f"{file}: expected a JSON object, got {given!r:.60}")
    return given


def _clashes(given: dict[str, Any]) -> Iterable[str]:
    for key in given.keys() & OWNED_BY_EXPERIMENT.keys():
        yield f"  {key}: belongs to the experiment ({OWNED_BY_EXPERIMENT[key]}); remove it here"


def _unknown(given: dict[str, Any]) -> Iterable[str]:
    for key in given.keys() - OWNED_BY_EXPERIMENT.keys() - set(ALLOWED) - {"fp16"}:
        yield f"  {key}: unknown, and DeepSpeed would silently ignore it{did_you_mean(key, ALLOWED)}"


def _stage(given: dict[str, Any]) -> Iterable[str]:
    section = given.get("zero_optimization")
    stage = section.get("stage", 0) if isinstance(section, dict) else 0
    if stage not in (1, 2, 3):
        yield (
            f"  zero_optimization.stage: must be 1, 2 or 3, got {stage!r}; stage 0 has no global gradient norm, so a "
            "NaN would reach the weights. Stage 1 costs nothing with one process"
        )


def _offload(given: dict[str, Any]) -> Iterable[str]:
    section = given.get("zero_optimization")
    offload = section.get("offload_optimizer") if isinstance(section, dict) else None
    if isinstance(offload, dict) and offload.get("device") == "nvme":
        yield (
            "  zero_optimization.offload_optimizer.device: nvme is not supported, because DeepSpeed saves such an "
            "optimizer outside of the checkpoint, in files that cannot be checked; use cpu"
        )


def _precision(given: dict[str, Any]) -> Iterable[str]:
    autocast = given.get("torch_autocast", {})
    half = isinstance(autocast, dict) and str(autocast.get("dtype", "")) in ("fp16", "float16", "half")
    if "fp16" in given or half:
        yield "  fp16: not supported, its range needs loss scaling; use torch_autocast with bfloat16, or bf16"
    elif autocast and isinstance(autocast, dict) and given.get("bf16", {}).get("enabled"):
        yield "  bf16, torch_autocast: enable one of the two"
    if given.get("bf16", {}).get("check_grad_overflow", True) is not True:
        yield "  bf16.check_grad_overflow: must be true, or a gradient that is not finite would reach the weights"


def _check_by_deepspeed(merged: dict[str, Any], file: Path) -> None:
    """Have DeepSpeed check the nested keys, and turn its exceptions into one InputError."""
    from deepspeed.runtime.config import DeepSpeedConfig
    from pydantic import ValidationError

    # With this key DeepSpeed checks the batch against the processes that run now, perhaps fewer than the run will have.
    probe = {key: value for key, value in merged.items() if key != "train_batch_size"}
    try:
        DeepSpeedConfig(probe)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, one['loc']))}: {one['msg']} (got {one['input']!r})" for one in error.errors()]
        raise InputError("\n".join([f"{file}: DeepSpeed refuses ({error.title})", *lines])) from error
    except (AssertionError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{file}: DeepSpeed refuses: {error}") from error
