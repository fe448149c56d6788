"""Speed, memory and error of attention backends, measured alternately on the calls of view synthesis models."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from openrayzer.benchmarks.timing import Timing, time_in_turn
from openrayzer.components.attention.auto import AutoAttention
from openrayzer.components.attention.reference import ReferenceAttention
from openrayzer.interfaces import ATTENTION_BACKENDS, InputError

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DIRECTIONS = ("forward", "forward and backward")


@dataclass(frozen=True)
class Call:
    """One attention call.

    Attributes:
        kind: role of the call in a model, e.g. "global".
        batch: number of sequences.
        queries: number of queries in a sequence.
        keys: number of keys in a sequence.
        heads: number of attention heads.
        head_width: width of one head.
        dtype: a key of ``DTYPES``.
    """

    kind: str
    batch: int
    queries: int
    keys: int
    heads: int
    head_width: int
    dtype: str

    def flops(self, direction: str) -> int:
        """Floating point operations: two products forward and four backward, without recomputed scores."""
        forward = 4 * self.batch * self.heads * self.queries * self.keys * self.head_width
        return forward if direction == DIRECTIONS[0] else 3 * forward

    def tensors(self, device: torch.device, *, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Random queries, keys and values, equal in every call, rounded to the call's dtype."""
        generator = torch.Generator().manual_seed(0)
        made = [
            torch.randn(self.batch, length, self.heads, self.head_width, generator=generator)
            .to(DTYPES[self.dtype])
            .to(device, dtype or DTYPES[self.dtype])
            .requires_grad_()
            for length in (self.queries, self.keys, self.keys)
        ]
        return made[0], made[1], made[2]


@dataclass(frozen=True)
class Figure:
    """Measurements of one backend for one call and direction.

    Attributes:
        call: the call.
        direction: one of ``DIRECTIONS``.
        backend: registered name of the backend.
        refusal: reason why the backend was not measured; then the fields below have no meaning.
        seconds: seconds of one call.
        flops_per_second: operations of ``Call.flops`` divided by the median time.
        extra_bytes: peak memory without queries, keys and values, with their gradients.
        error: largest difference from the formula in float32, relative to its largest value: of the outputs, or of the
            gradient with the largest error.
        chosen: whether ``auto`` chooses this backend.
    """

    call: Call
    direction: str
    backend: str
    refusal: str = ""
    seconds: Timing | None = None
    flops_per_second: float = 0.0
    extra_bytes: int = 0
    error: float = 0.0
    chosen: bool = False


def calls_of(
    *, views: int, tokens: int, latents: int, heads: int, head_width: int, dtype: str, batch: int = 1
) -> list[Call]:
    """The calls of a model with ``views`` views of ``tokens`` tokens each, and a memory of ``latents`` tokens."""
    sizes = {
        "global": (batch, views * tokens, views * tokens),
        "frame": (batch * views, tokens, tokens),
        "latents": (batch, latents + views * tokens, latents + views * tokens),
        "target with scene": (batch * views, tokens + latents, tokens + latents),
        "target with cached scene": (batch, views * tokens, latents),
    }
    return [Call(kind, *size, heads, head_width, dtype) for kind, size in sizes.items()]


def measure(calls: Sequence[Call], *, device: torch.device, rounds: int) -> Iterator[Figure]:
    """Measure every backend on every call, forward and forward with backward; the backends of a call take turns."""
    if rounds < 1:
        raise InputError("rounds must be 1 or more")
    for call in calls:
        backends, refusals = contestants(call, device)
        query, key, _ = call.tensors(device)
        verdicts = AutoAttention().refusals(query, key)
        chosen = next(name for name, refusal in verdicts.items() if not refusal)
        for direction in DIRECTIONS:
            for name, why in refusals.items():
                yield Figure(call, direction, name, refusal=why)
            runs = {name: _run(attend, call, device, direction) for name, attend in backends.items()}
            timings = time_in_turn(runs, rounds=rounds, device=device)
            exact = _results(ReferenceAttention().attend, call, device, direction, dtype=torch.float32)
            for name, attend in backends.items():
                yield Figure(
                    call,
                    direction,
                    name,
                    seconds=timings[name],
                    flops_per_second=call.flops(direction) / timings[name].median,
                    extra_bytes=_extra_bytes(runs[name], device),
                    error=_error(_results(attend, call, device, direction), exact),
                    chosen=name == chosen,
                )


def contestants(call: Call, device: torch.device) -> tuple[dict[str, Attend], dict[str, str]]:
    """The registered backends that can compute the call, and the refusals of the others."""
    query, key, value = call.tensors(device)
    able, refusals = dict[str, Attend](), dict[str, str]()
    for entry in ATTENTION_BACKENDS:
        if entry.name == "auto":
            continue
        backend = entry.target()
        if refusal := backend.refusal(query) or _failure(backend.attend, query, key, value, device):
            refusals[entry.name] = refusal
        else:
            able[entry.name] = backend.attend
    return able, refusals


def _failure(attend: Attend, query: Tensor, key: Tensor, value: Tensor, device: torch.device) -> str:
    """The error of a backend at these sequence lengths; empty if it succeeds, and always empty on a CPU."""
    try:
        if device.type == "cuda":
            attend(query, key, value).sum().backward()
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    return ""


def _run(attend: Attend, call: Call, device: torch.device, direction: str) -> Callable[[], object]:
    heads = call.tensors(device)
    if direction == DIRECTIONS[0]:
        return lambda: _without_gradients(attend, heads)
    wanted = torch.ones_like(heads[0])
    return lambda: torch.autograd.grad(attend(*heads), heads, wanted)


def _without_gradients(attend: Attend, heads: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    with torch.no_grad():
        return attend(*heads)


def _results(
    attend: Attend, call: Call, device: torch.device, direction: str, *, dtype: torch.dtype | None = None
) -> tuple[Tensor, ...]:
    heads = call.tensors(device, dtype=dtype)
    out = attend(*heads)
    if direction == DIRECTIONS[0]:
        return (out.detach(),)
    wanted = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    return torch.autograd.grad(out, heads, wanted)


def _error(results: tuple[Tensor, ...], exact: tuple[Tensor, ...]) -> float:
    pairs = zip(results, exact, strict=True)
    worst = [(result.float() - truth).abs().max() / truth.abs().max() for result, truth in pairs]
    return float(torch.stack(worst).max())


def _extra_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Peak memory of one call in bytes, without its arguments."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate((event.nbytes() for event in sorted(events, key=lambda e: e.start_ns())), initial=0))
