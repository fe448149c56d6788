"""Search for the largest micro-batch that fits into a GPU's memory."""

import gc
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from openrayzer.machine.fitting_batches import ran_out_of_memory
from openrayzer.machine.largest_fit import largest
from openrayzer.types import Views

_SPARE = 0.03
"""Share of the GPU's memory that stays free, for fragmentation."""


def largest_batch(
    clips: Callable[[int], Views],
    *,
    model: nn.Module,
    losses: Callable[..., Mapping[str, Tensor]],
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[Any]],
    train_on_one: Callable[[], object],
) -> int:
    """Find the largest number of clips of a micro-batch that fits into memory.

    Each trial is a forward and backward pass without DeepSpeed, because DeepSpeed would not recover from an unfinished
    step. The gradients of a trial are new tensors, so no weight changes.

    Args:
        clips: makes a batch with the given number of clips, on the CPU.
        model: the model, in training mode.
        losses: the training loss.
        device: a GPU.
        autocast: returns the context that sets the precision of the model.
        train_on_one: trains on a single clip, so that the memory of the optimizer and of its buckets is in use.

    Raises:
        InputError: not even one clip fits.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]

    def step(batch: int) -> None:
        views = clips(batch).to(device)
        with autocast():
            prediction = model(views)
        loss = losses(prediction.images, views.target_images, step=0, extra=prediction.extra_losses)["loss"]
        torch.autograd.grad(loss + 0 * prediction.cameras.c2w.sum(), weights, allow_unused=True)
        torch.cuda.synchronize(device)

    train_on_one()
    extra = _peak(train_on_one, device) - _peak(lambda: step(1), device)  # e.g. buckets of gradients
    spare = max(0, extra) + int(_SPARE * torch.cuda.mem_get_info(device)[1])
    reserve = torch.empty(spare, dtype=torch.uint8, device=device)
    found = largest(lambda batch: _fits(lambda: step(batch)))
    del reserve
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return found


def _peak(work: Callable[[], object], device: torch.device) -> int:
    """Peak bytes allocated while ``work`` runs."""
    torch.cuda.reset_peak_memory_stats(device)
    work()
    return torch.cuda.max_memory_allocated(device)


def _fits(trial: Callable[[], None]) -> bool:
    """Whether a trial fits into memory."""
    try:
        trial()
    except RuntimeError as error:
        if not ran_out_of_memory(error):
            raise
    else:
        return True
    gc.collect()
    torch.cuda.empty_cache()  # not inside ``except``: there the error still holds the tensors of the trial
    return False
