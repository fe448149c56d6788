"""Registries as text: what there is, what it takes, where it is written."""

import inspect
import re
from collections.abc import Iterable

from registry.registry import Entry, Registry


def as_text(registries: Iterable[Registry], *, with_parameters: bool = True) -> str:
    """Every registry with its entries: name, summary, location and, if wanted, each parameter."""
    return "\n\n".join(_section(registry, with_parameters) for registry in registries)


def as_markdown(registries: Iterable[Registry]) -> str:
    """Every registry as a Markdown table of name, parameters and summary."""
    blocks = []
    for registry in registries:
        rows = [f"| `{entry.name}` | {_inline(entry)} | {entry.summary} |" for entry in registry]
        head = [f"### {registry.kind}", "", "| name | parameters | what it is |", "|---|---|---|"]
        blocks.append("\n".join([*head, *rows]))
    return "\n\n".join(blocks)


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
    hint = parameter.annotation
    text = hint.__name__ if inspect.isclass(hint) and not getattr(hint, "__args__", ()) else str(hint)
    text = re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Z])", "", text)  # names without the modules that hold them
    default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
    return f"{parameter.name}: {text}{default}"
