"""One micro-batch, forward and backward, traced operation by operation on fake tensors, which hold no numbers."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import flop_registry

from openrayzer.interfaces import ATTENTION_BACKENDS, AttentionBackend, Model, Objective
from openrayzer.layers.view_shares import ViewShares
from openrayzer.machine.live_bytes import LiveBytes
from openrayzer.planning.clip_shapes import ClipShape, empty_views
from openrayzer.planning.cuda_autocast import cuda_casts
from openrayzer.planning.exchanges import CountedExchange, own_views, sharing_views
from openrayzer.planning.flops import flops_of

Device = Literal["cuda", "cpu"]

CUDA_BLOCK = 512
"""PyTorch's CUDA allocator rounds sizes up to multiples of this. Source: CUDACachingAllocator, ``kMinBlockSize``."""
CUBLAS_WORKSPACES = 2 * 32 * 2**20
"""Bytes of workspaces that PyTorch allocates for cuBLAS on Hopper and Blackwell, for the forward and backward threads.
Source: ATen's CublasHandlePool.cpp; 2 x 8 MiB on other GPUs."""
_OF_TORCH = ("aten", "prim", "prims")
_NO_WATCH: AbstractContextManager[Any] = nullcontext()
_ZEROS: dict[torch.dtype, bool | int] = {torch.bool: False, torch.int64: 0, torch.int32: 0, torch.uint8: 0}


@dataclass(frozen=True)
class MicroBatchCost:
    """Memory and computation of one micro-batch on one rank.

    Attributes:
        kept: bytes that model and losses keep for the backward pass, clips and prediction included.
        peak: most bytes in use at once during both passes, without weights and their gradients.
        forward: floating point operations of the forward pass, losses included.
        total: floating point operations of both passes, recomputed activations included.
        sent: bytes that the process sends to others with the same clips.
        uncounted: operators from outside PyTorch, such as a rasteriser; ``forward`` and ``total`` leave them out.
    """

    kept: int
    peak: int
    forward: int
    total: int
    sent: float = 0.0
    uncounted: tuple[str, ...] = ()


def trace_micro_batch(
    model: Model,
    shape: ClipShape,
    image_size: tuple[int, int],
    *,
    batch: int,
    bf16: bool,
    losses: Sequence[nn.Module] = (),
    device: Device = "cuda",
    objective: Objective | None = None,
    processes: int = 1,
    watching: AbstractContextManager[Any] = _NO_WATCH,
) -> MicroBatchCost:
    """Trace a micro-batch of a model on the ``meta`` device. This computes nothing and allocates nothing.

    A storage counts from the operation that makes it until its last reference is gone. Attention counts as fused, as on
    GPUs, so no scores are kept. The gradient of a weight counts until it is complete; then it belongs to the optimizer.
    Code that reads a number from a tensor gets 0 or False.

    For a GPU, casts follow CUDA's autocast, sizes of storages are rounded up as in PyTorch's allocator, and the peak
    includes the workspaces of cuBLAS. Not modelled: blocks that the allocator does not split, its fragmentation, the
    workspaces of cuDNN, and the temporary memory of a kernel.

    Args:
        model: its weights become fake tensors during the trace and are restored afterwards.
        shape: shape of the clips.
        image_size: height and width in pixels.
        batch: clips of one micro-batch on one rank.
        bf16: whether autocast to bfloat16 is on, as with ``torch_autocast`` or ``bf16`` in DeepSpeed's file.
        losses: losses of prediction and target, on ``meta``; without any, the loss is the mean of the prediction. The
            extra losses of the model are added.
        device: device of the planned micro-batch.
        objective: makes the prediction; None calls the model.
        processes: number of processes that share each clip, as ``train.sequence_parallel``; the first one is traced.
        watching: context around both passes, entered after the weights have become fake tensors.

    Raises:
        InputError: ``processes`` does not divide the views.
        RuntimeError: an operator from outside PyTorch has no rule for fake tensors (``register_fake``).
    """
    objectives = [] if objective is None else [objective, *_hidden(objective)]
    everything = nn.ModuleList([model, *losses, *_hidden(model), *objectives])
    block, workspaces = (CUDA_BLOCK, CUBLAS_WORKSPACES) if device == "cuda" else (1, 0)
    exchange = CountedExchange()
    shares = ViewShares(processes, 0, exchange)
    with (
        planned_for(model, everything, device=device),
        sharing_views(model, shares),
        _Live(everything, block=block) as live,
        watching,
    ):
        views = empty_views(shape, image_size, batch=batch)
        with autocast(bf16=bf16):
            prediction = model(views) if objective is None else objective(model, views)
        target = views.target_images
        images = prediction.images.float()
        values = [loss(*(own_views(each, loss, shares) for each in (images, target))) for loss in losses]
        values = values or [images.mean()]
        values += [value.float() for value in prediction.extra_losses.values()]
        kept, forward = live.bytes, live.flops
        torch.stack(values).sum().backward()
        uncounted = tuple(sorted(live.uncounted))
        return MicroBatchCost(kept, live.peak + workspaces, forward, live.flops, exchange.bytes, uncounted)


def trace_frame(
    model: Model, shape: ClipShape, image_size: tuple[int, int], *, bf16: bool, device: Device = "cuda"
) -> int:
    """Most bytes in use at once while a model renders one view of a prepared scene, without the scene and the weights.

    Args:
        model: on ``meta``, as for ``trace_micro_batch``.
        shape: shape of a clip; the scene is reconstructed from its context views.
        image_size: height and width in pixels.
        bf16: whether autocast to bfloat16 is on.
        device: device of the planned frame; the workspaces of cuBLAS do not count.
    """
    with planned_for(model, nn.ModuleList([model]), device=device), torch.inference_mode():
        views = empty_views(shape, image_size)
        if views.cameras is None:
            raise ValueError("planned clips need cameras")
        with autocast(bf16=bf16):
            contexts = views.cameras.select(views.context)
            scene = model.prepare(model.reconstruct(views.context_images, contexts))
            camera = contexts.select(views.context[:, :1])
            with LiveBytes(block=CUDA_BLOCK if device == "cuda" else 1) as live:
                model.render(scene, camera)
            return live.peak


@contextmanager
def planned_for(model: Model, everything: nn.ModuleList, *, device: Device) -> Iterator[None]:
    """Turn model and losses into fake CPU tensors, with the casts and the attention kernels of ``device``."""
    gpu = device == "cuda"
    casts = cuda_casts() if gpu else nullcontext()
    choices = _precision_of_a_gpu(everything) if gpu else nullcontext()
    with _without_content(everything), _fused_attention(model), casts, choices:
        yield


def autocast(*, bf16: bool) -> torch.autocast:
    """Autocast for a planned forward pass."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16)


class _Live(LiveBytes):
    """Counts the live bytes and the floating point operations of all operations inside a ``with`` block."""

    def __init__(self, model: nn.Module, *, block: int = 1) -> None:
        super().__init__(block=block)
        self.flops, self.uncounted = 0, set[str]()
        self._hooks = [
            weight.register_post_accumulate_grad_hook(_drop) for weight in model.parameters() if weight.requires_grad
        ]

    def __exit__(self, *error: Any) -> None:
        for hook in self._hooks:
            hook.remove()
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.prim.device.default:  # two of three calls; fake tensors know the answer
            return args[0].fake_device
        if func is torch.ops.aten._local_scalar_dense.default:  # code reads a number; a fake tensor has none
            return _ZEROS.get(args[0].dtype, 0.0)
        if func is torch.ops.aten._unsafe_view.default:  # the same result, found faster
            func = torch.ops.aten.view.default
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if func.namespace not in _OF_TORCH and func._overloadpacket not in flop_registry:
            self.uncounted.add(func._schema.name)
        self.flops += flops_of(func, args, kwargs or {}, result)
        return result


def _drop(weight: Tensor) -> None:
    weight.grad = None


def _hidden(model: nn.Module) -> list[nn.Module]:
    """Modules in tuples, such as the teacher of ``taught``: they compute, and they belong to no state dict."""
    values = [value for module in model.modules() for value in vars(module).values() if isinstance(value, tuple)]
    return [part for value in values for part in value if isinstance(part, nn.Module)]


@contextmanager
def _without_content(model: nn.ModuleList) -> Iterator[None]:
    """Weights as fake tensors on the CPU, so that a CPU's autocast and fused kernels apply to them."""
    tables = [table for module in model.modules() for table in (module._parameters, module._buffers)]
    before = [(table, name, tensor) for table in tables for name, tensor in table.items() if tensor is not None]
    training = {module: module.training for module in model.modules()}
    with FakeTensorMode():
        empty: dict[Tensor, Tensor] = {}
        for table, name, tensor in before:
            if tensor not in empty:  # a shared weight stays one weight
                made = torch.empty(tensor.shape, dtype=tensor.dtype)
                empty[tensor] = nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made
            table[name] = empty[tensor]  # type: ignore[assignment]
        model[0].train()
        try:
            yield
        finally:
            for module, mode in training.items():
                module.training = mode
            for table, name, tensor in before:
                table[name] = tensor  # type: ignore[assignment]


@contextmanager
def _fused_attention(model: Model) -> Iterator[None]:
    """Replace GPU kernels and ``auto`` by ``sdpa``: on a CPU ``auto`` would keep the scores of short sequences."""
    auto, fused = ATTENTION_BACKENDS["auto"], ATTENTION_BACKENDS["sdpa"]
    query = torch.empty(1, 2, 1, 64)
    places = [
        (module, name, value)
        for module in model.modules()
        for name, value in vars(module).items()
        if isinstance(value, AttentionBackend) and (isinstance(value, auto) or value.refusal(query))
    ]
    for module, name, _ in places:
        setattr(module, name, fused())
    try:
        yield
    finally:
        for module, name, value in places:
            setattr(module, name, value)


@contextmanager
def _precision_of_a_gpu(modules: nn.ModuleList) -> Iterator[None]:
    """Compute modules with ``precision`` "auto", such as the perceptual loss, in bfloat16, as on a GPU."""
    found = [module for module in modules.modules() if vars(module).get("precision") == "auto"]
    for module in found:
        vars(module)["precision"] = "bfloat16"
    try:
        yield
    finally:
        for module in found:
            vars(module)["precision"] = "auto"
