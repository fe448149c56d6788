"""One micro-batch, forward and backward, followed operation by operation on tensors without content."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from openrayzer.interfaces import ATTENTION_BACKENDS, AttentionBackend, Model
from openrayzer.machine.live_bytes import LiveBytes
from openrayzer.planning.clip_shapes import ClipShape, empty_views
from openrayzer.planning.cuda_autocast import cuda_casts
from openrayzer.planning.flops import flops_of

Device = Literal["cuda", "cpu"]

CUDA_BLOCK = 512
"""PyTorch's CUDA allocator rounds up to multiples of so many bytes. Source: CUDACachingAllocator, ``kMinBlockSize``."""
CUBLAS_WORKSPACES = 2 * 32 * 2**20
"""Bytes of workspaces that PyTorch allocates for cuBLAS on Hopper and Blackwell, for the forward and backward threads.
Source: ATen's CublasHandlePool.cpp; 2 x 8 MiB on other GPUs."""
_NO_WATCH: AbstractContextManager[Any] = nullcontext()
_NOTHING: dict[torch.dtype, bool | int] = {torch.bool: False, torch.int64: 0, torch.int32: 0, torch.uint8: 0}


@dataclass(frozen=True)
class MicroBatchCost:
    """What one micro-batch takes on one rank.

    Attributes:
        kept: bytes that model and losses leave for the backward, clips and prediction included.
        peak: most bytes in use at once, in either pass, beyond weights and their gradients.
        forward: floating point operations of the forward, losses included.
        total: of both passes, what is computed a second time included.
    """

    kept: int
    peak: int
    forward: int
    total: int


def trace_micro_batch(
    model: Model,
    shape: ClipShape,
    image_size: tuple[int, int],
    *,
    batch: int,
    bf16: bool,
    losses: Sequence[nn.Module] = (),
    device: Device = "cuda",
    watching: AbstractContextManager[Any] = _NO_WATCH,
) -> MicroBatchCost:
    """Follow a micro-batch of a model that is on the ``meta`` device; nothing is computed and no memory is taken.

    Every storage that an operation makes counts from then until nothing refers to it any more. Attention is taken to be
    fused, as on GPUs: no scores are kept. A gradient of a weight counts until it is complete; then it is the
    optimizer's. A check of a number gets 0 or False.

    For a GPU, casts follow CUDA's autocast, sizes of storages are rounded up as in PyTorch's allocator, and the peak
    includes the workspaces of cuBLAS. Not modelled: blocks that the allocator does not split, its fragmentation, the
    workspaces of cuDNN, and the temporary memory of a kernel.

    Args:
        model: its weights are given without content and put back afterwards.
        shape: of the clips.
        image_size: height and width.
        batch: clips of one micro-batch on one rank.
        bf16: whether autocast to bfloat16 is on, as both ``torch_autocast`` and ``bf16`` mean.
        losses: of prediction and target, on ``meta`` too; none takes the mean of the prediction.
        device: device of the planned micro-batch.
        watching: context around the passes; it is entered after the weights have lost their content.
    """
    everything = nn.ModuleList([model, *losses])
    block, workspaces = (CUDA_BLOCK, CUBLAS_WORKSPACES) if device == "cuda" else (1, 0)
    with planned_for(model, everything, device=device), _Live(everything, block=block) as live, watching:
        views = empty_views(shape, image_size, batch=batch)
        with autocast(bf16=bf16):
            prediction = model(views)
        target = views.target_images
        images = prediction.images.float()
        values = [loss(images, target) for loss in losses] or [images.mean()]
        kept, forward = live.bytes, live.flops
        torch.stack(values).sum().backward()
        return MicroBatchCost(kept, live.peak + workspaces, forward, live.flops)


def trace_frame(
    model: Model, shape: ClipShape, image_size: tuple[int, int], *, bf16: bool, device: Device = "cuda"
) -> int:
    """Most bytes in use at once while one more view of a prepared scene is rendered, beyond the scene and the weights.

    Args:
        model: on ``meta``, as for ``trace_micro_batch``.
        shape: of the clip whose context the scene is made of.
        image_size: height and width.
        bf16: whether autocast to bfloat16 is on.
        device: device of the planned frame; the workspaces of cuBLAS do not count.
    """
    with planned_for(model, nn.ModuleList([model]), device=device), torch.inference_mode():
        views = empty_views(shape, image_size)
        if views.cameras is None:
            raise ValueError("clips without content come with cameras")
        with autocast(bf16=bf16):
            contexts = views.cameras.select(views.context)
            scene, camera = (
                model.prepare(model.reconstruct(views.context_images, contexts)),
                contexts.select(views.context[:, :1]),
            )
            with LiveBytes(block=CUDA_BLOCK if device == "cuda" else 1) as live:
                model.render(scene, camera)
            return live.peak


@contextmanager
def planned_for(model: Model, everything: nn.ModuleList, *, device: Device) -> Iterator[None]:
    """Model and losses as CPU tensors without content, with the casts and attention of ``device``."""
    gpu = device == "cuda"
    casts = cuda_casts() if gpu else nullcontext()
    choices = _precision_of_a_gpu(everything) if gpu else nullcontext()
    with _without_content(everything), _fused_attention(model), casts, choices:
        yield


def autocast(*, bf16: bool) -> torch.autocast:
    """The autocast of a planned forward pass."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16)


class _Live(LiveBytes):
    """Bytes of all storages that operations have made and that are still in use, and what the operations computed."""

    def __init__(self, model: nn.Module, *, block: int = 1) -> None:
        super().__init__(block=block)
        self.flops = 0
        self._hooks = [
            weight.register_post_accumulate_grad_hook(_drop) for weight in model.parameters() if weight.requires_grad
        ]

    def __exit__(self, *error: Any) -> None:
        for hook in self._hooks:
            hook.remove()
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:  # a check of the content, of which there is none
            return _NOTHING.get(args[0].dtype, 0.0)
        result = super().__torch_dispatch__(func, types, args, kwargs)
        self.flops += flops_of(func, args, kwargs or {}, result)
        return result


def _drop(weight: Tensor) -> None:
    weight.grad = None


@contextmanager
def _without_content(model: nn.ModuleList) -> Iterator[None]:
    """Weights as CPU tensors with a shape and no content, so that autocast and fused kernels are those of a CPU."""
    tables = [table for module in model.modules() for table in (module._parameters, module._buffers)]
    before = [(table, name, tensor) for table in tables for name, tensor in table.items() if tensor is not None]
    training = {module: module.training for module in model.modules()}
    with FakeTensorMode():
        empty: dict[Tensor, Tensor] = {}
        for table, name, tensor in before:
            if tensor not in empty:  # a weight that is used twice stays one weight
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
    """``sdpa`` instead of kernels of GPUs and of ``auto``, which on a CPU would keep the scores of short sequences."""
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
    """bfloat16 for modules with ``precision`` "auto", such as the perceptual loss, as on a GPU."""
    found = [module for module in modules.modules() if vars(module).get("precision") == "auto"]
    for module in found:
        vars(module)["precision"] = "bfloat16"
    try:
        yield
    finally:
        for module in found:
            vars(module)["precision"] = "auto"
