"""Who sees whom among views, without masks: queries of some views against the keys that they may see, and no others.

Every function makes one call of an attention backend, or a number of calls that grows with the logarithm of the number
of views. So all backends work, and nothing is computed that a mask would throw away.
"""

from functools import partial

from einops import rearrange

from openrayzer.interfaces import AttentionBackend
from openrayzer.layers.cosine_attention import Heads, KeyValue, Look
from openrayzer.layers.merged_attention import Sees, merged_attention


def own_view(backend: AttentionBackend) -> Look:
    """Each view sees itself alone."""
    return partial(_own_view, backend=backend)


def all_views(backend: AttentionBackend) -> Look:
    """Each view sees all."""
    return partial(_all_views, backend=backend)


def earlier_views(backend: AttentionBackend, memory: KeyValue | None = None) -> Look:
    """View i sees views 0 to i, and before them those that ``memory`` remembers, if any."""
    return partial(_earlier_views, memory=memory, backend=backend)


def memory_and_own_view(memory: KeyValue, *, prefix: bool, backend: AttentionBackend) -> Look:
    """View i sees itself and remembered views: 0 to i if ``prefix``, else all.

    Args:
        memory: what the remembered views show; with ``prefix``, as many as there are views that look.
    """
    return partial(_memory_and_own_view, memory=memory, prefix=prefix, backend=backend)


def _own_view(query: Heads, shown: KeyValue, *, backend: AttentionBackend) -> Heads:
    parts = (rearrange(x, "b v n h e -> (b v) n h e") for x in (query, shown.key, shown.value))
    return rearrange(backend.attend(*parts), "(b v) n h e -> b v n h e", v=query.shape[1])


def _all_views(query: Heads, shown: KeyValue, *, backend: AttentionBackend) -> Heads:
    parts = (rearrange(x, "b v n h e -> b (v n) h e") for x in (query, shown.key, shown.value))
    return rearrange(backend.attend(*parts), "b (v n) h e -> b v n h e", v=query.shape[1])


def _earlier_views(query: Heads, shown: KeyValue, *, memory: KeyValue | None, backend: AttentionBackend) -> Heads:
    remembered: list[tuple[Sees, KeyValue]] = [] if memory is None else [("all", memory)]
    return merged_attention(query, [("prefix", shown), *remembered], backend)


def _memory_and_own_view(
    query: Heads, shown: KeyValue, *, memory: KeyValue, prefix: bool, backend: AttentionBackend
) -> Heads:
    return merged_attention(query, [("own", shown), ("prefix" if prefix else "all", memory)], backend)
