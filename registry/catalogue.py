"""Catalogue of registries as text or Markdown: names, summaries, parameters and locations of all classes."""

import inspect
import re
from collections.abc import Iterable

from registry.registry import Entry, Registry

_MODULES_OR_QUOTED = re.compile(r"(?P<quoted>'[^']*'|\"[^\"]*\")|\b(?:[a-z_]\w*\.)+(?=[A-Z])")
"""Strings, which ``annotation_text`` keeps, and modules before a class name, which it removes."""


def as_text(registries: Iterable[Registry], *, with_parameters: bool = True) -> str:
    """All entries of each registry: name, summary, location and, with ``with_parameters``, each parameter."""
    return "\n\n".join(_section(registry, with_parameters) for registry in registries)


def as_markdown(registries: Iterable[Registry]) -> str:
    """Each registry as a Markdown table of names, parameters and summaries."""
    blocks = []
    for registry in registries:
        rows = [f"| `{entry.name}` | {_inline(entry)} | {entry.summary} |" for entry in registry]
        head = [f"### {registry.kind}", "", "| name | parameters | summary |", "|---|---|---|"]
        blocks.append("\n".join([*head, *rows]))
    return "\n\n".join(blocks)


def annotation_text(hint: object) -> str:
    """A type annotation as in source code: without the modules of its names, e.g. ``Path | None``."""
    text = hint.__name__ if inspect.isclass(hint) and not getattr(hint, "__args__", ()) else str(hint)
    return _MODULES_OR_QUOTED.sub(lambda match: match["quoted"] or "", text)


def _section(registry: Registry, with_parameters: bool) -> str:
    lines = [f"{registry.kind}  ({inspect.cleandoc(registry.interface.__doc__ or '').partition(chr(10))[0]})"]
    for entry in registry:
        lines += [f"  {entry.name:<22} {entry.summary}", f"  {'':<22} {entry.location}"]
        if with_parameters:
            lines += [f"  {'':<24} {_parameter(parameter)}" for parameter in entry.parameters]
    return "\n".join(lines)


def _inline(entry: Entry) -> str:
    return ", ".join(f"`{_parameter(parameter)}`".replace("|", "\\|") for parameter in entry.parameters)


def _parameter(parameter: inspect.Parameter) -> str:
    default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
    return f"{parameter.name}: {annotation_text(parameter.annotation)}{default}"
