"""Who sees whom among views, without masks: queries of some views against the keys that they may see, and no others.

Every function makes one call of an attention backend, or a number of calls that grows with the logarithm of the number
of views. So all backends work, and nothing is computed that a mask would throw away.
"""

from functools import partial

from einops import rearrange

from openrayzer.interfaces import AttentionBackend
from openrayzer.layers.cosine_attention import Heads, KeyValue, Look
from openrayzer.layers.merged_attention import Blocks, earlier, everything, for_pairs, itself, merged_attention


def own_view(backend: AttentionBackend) -> Look:
    """Each view sees itself alone."""
    return partial(_own_view, backend=backend)


def all_views(backend: AttentionBackend) -> Look:
    """Each view sees all."""
    return partial(_all_views, backend=backend)


def earlier_views(backend: AttentionBackend, memory: KeyValue | None = None) -> Look:
    """View i sees views 0 to i, and before them those that ``memory`` remembers, if any."""
    return partial(_earlier_views, memory=memory, backend=backend)


def memory_and_own_view(memory: KeyValue, *, backend: AttentionBackend) -> Look:
    """Each view sees all views that ``memory`` remembers, and itself."""
    return partial(_memory_and_own_view, memory=memory, backend=backend)


def contexts_and_targets(backend: AttentionBackend) -> Look:
    """Views are context 0, target 0, context 1, target 1, ...: all see contexts 0 to i, and targets see themselves."""
    return partial(_contexts_and_targets, backend=backend)


def _own_view(query: Heads, shown: KeyValue, *, backend: AttentionBackend) -> Heads:
    parts = (rearrange(x, "b v n h e -> (b v) n h e") for x in (query, shown.key, shown.value))
    return rearrange(backend.attend(*parts), "(b v) n h e -> b v n h e", v=query.shape[1])


def _all_views(query: Heads, shown: KeyValue, *, backend: AttentionBackend) -> Heads:
    parts = (rearrange(x, "b v n h e -> b (v n) h e") for x in (query, shown.key, shown.value))
    return rearrange(backend.attend(*parts), "b (v n) h e -> b v n h e", v=query.shape[1])


def _earlier_views(query: Heads, shown: KeyValue, *, memory: KeyValue | None, backend: AttentionBackend) -> Heads:
    views = query.shape[1]
    sources = [(shown, itself(views) + earlier(views))]
    if memory is not None:
        sources.append((memory, everything(views, memory.key.shape[1])))
    return merged_attention(query, sources, backend)


def _memory_and_own_view(query: Heads, shown: KeyValue, *, memory: KeyValue, backend: AttentionBackend) -> Heads:
    views = query.shape[1]
    sources = [(shown, itself(views)), (memory, everything(views, memory.key.shape[1]))]
    return merged_attention(query, sources, backend)


def _contexts_and_targets(query: Heads, shown: KeyValue, *, backend: AttentionBackend) -> Heads:
    pairs = query.shape[1] // 2
    contexts = KeyValue(shown.key[:, ::2].contiguous(), shown.value[:, ::2].contiguous())
    target_and_context = (Blocks(1, 1, pairs, 2), Blocks(0, 1, pairs, 1))
    seen = (target_and_context, *for_pairs(earlier(pairs)))
    return merged_attention(query, [(shown, itself(2 * pairs)), (contexts, seen)], backend)
