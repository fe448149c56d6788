"""Who sees whom among views, without masks: queries of some views against the keys that they may see, and no others.

Every function is one call of an attention backend or a few, so that all backends work and nothing is computed that a
mask would throw away.
"""

from functools import partial

import torch
from einops import rearrange

from openrayzer.interfaces import AttentionBackend
from openrayzer.layers.cosine_attention import Heads, KeyValue, Look


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
    if memory is not None:
        shown = KeyValue(torch.cat([memory.key, shown.key], dim=1), torch.cat([memory.value, shown.value], dim=1))
    key, value = (rearrange(x, "b v n h e -> b (v n) h e") for x in (shown.key, shown.value))
    n, remembered = query.shape[2], shown.key.shape[1] - query.shape[1]
    rows = []
    for view in range(query.shape[1]):
        seen = (remembered + view + 1) * n
        rows.append(backend.attend(query[:, view], key[:, :seen], value[:, :seen]))
    return torch.stack(rows, dim=1)


def _memory_and_own_view(
    query: Heads, shown: KeyValue, *, memory: KeyValue, prefix: bool, backend: AttentionBackend
) -> Heads:
    key, value = (rearrange(x, "b v n h e -> b (v n) h e") for x in (memory.key, memory.value))
    rows = []
    for view in range(query.shape[1]):
        seen = (view + 1) * memory.key.shape[2] if prefix else key.shape[1]
        keys = torch.cat([key[:, :seen], shown.key[:, view]], dim=1)
        values = torch.cat([value[:, :seen], shown.value[:, view]], dim=1)
        rows.append(backend.attend(query[:, view], keys, values))
    return torch.stack(rows, dim=1)
