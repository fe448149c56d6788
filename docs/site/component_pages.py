"""Pages of the components: one for each kind and one for each registered class."""

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_type_hints

from griffe import Docstring, DocstringSectionKind

from openrayzer.interfaces import REGISTRIES
from registry import Entry, Registry, annotation_text

ROOT = Path(__file__).parents[2]
FOLDER = "components"
OVERVIEW = """\
# Components

A component is a class with a name. An experiment selects it by this name, as `type`. The other entries of its JSON
object are the parameters of its constructor. A required parameter stands beside `type`, or in the section `shared` of
the experiment, which gives it to every component that needs it. `python tools/list_components.py` prints this list, and
[Add a component](../tasks/add_a_component.md) shows how to write one.

| kind | components | purpose |
|---|---|---|
"""
KINDS = {registry.interface: registry.kind for registry in REGISTRIES}


def own_entries(registry: Registry) -> list[Entry]:
    """The entries of openrayzer; plugins have pages of their own."""
    return [entry for entry in registry if entry.target.__module__.startswith("openrayzer.")]


def component_pages() -> dict[str, str]:
    """Path below ``docs/`` and Markdown of each page."""
    pages = {f"{FOLDER}/index.md": _overview()}
    for registry in REGISTRIES:
        pages[f"{FOLDER}/{registry.kind}/index.md"] = _kind_page(registry)
        for entry in own_entries(registry):
            pages[f"{FOLDER}/{registry.kind}/{entry.name}.md"] = _page(registry, entry)
    return pages


def component_navigation() -> list:
    """The pages as mkdocs takes them under ``nav``."""
    kinds: list = [f"{FOLDER}/index.md"]
    for registry in REGISTRIES:
        names = [{entry.name: f"{FOLDER}/{registry.kind}/{entry.name}.md"} for entry in own_entries(registry)]
        kinds.append({_title(registry): [f"{FOLDER}/{registry.kind}/index.md", *names]})
    return kinds


def _title(registry: Registry) -> str:
    return registry.kind.replace("_", " ").capitalize()


def _overview() -> str:
    rows = [
        f"| [{_title(registry)}]({registry.kind}/index.md) | {len(own_entries(registry))} | {_first_line(registry)} |"
        for registry in REGISTRIES
    ]
    return OVERVIEW + "\n".join(rows)


def _kind_page(registry: Registry) -> str:
    rows = [f"| [`{entry.name}`]({entry.name}.md) | {entry.summary} |" for entry in own_entries(registry)]
    base = registry.interface
    return "\n".join(
        [
            f"# {_title(registry)}",
            "",
            *_prose(base.__doc__ or ""),
            "",
            f"The base class is `{base.__module__}.{base.__qualname__}`; "
            "[Interfaces](../../api/interfaces.md) describes its methods.",
            "",
            f"| {registry.kind} | summary |",
            "|---|---|",
            *rows,
        ]
    )


def _page(registry: Registry, entry: Entry) -> str:
    lines = [f"# {entry.name}", "", f"{_title(registry)}. {entry.summary}", ""]
    lines += ["```json", _example(entry), "```", ""]
    lines += _prose(entry.target.__doc__ or "", skip_summary=True)
    lines += ["", "## Parameters", "", *_parameter_table(entry), ""]
    file = Path(inspect.getfile(entry.target)).relative_to(ROOT)
    source = inspect.getsource(entry.target).rstrip().splitlines()
    lines += ["## Source", "", f"`{entry.location}`", "", f'??? quote "{file}"', "", "    ```python"]
    return "\n".join([*lines, *(f"    {line}".rstrip() for line in source), "    ```"])


def _example(entry: Entry) -> str:
    """The JSON object of a component with its required parameters."""
    required = [parameter.name for parameter in entry.parameters if parameter.default is parameter.empty]
    return json.dumps({"type": entry.name, **dict.fromkeys(required, "...")}, indent=2 if len(required) > 2 else None)


def _parameter_table(entry: Entry) -> Iterator[str]:
    if not entry.parameters:
        yield "It has no parameters."
        return
    meanings = _meanings(entry)
    hints = get_type_hints(entry.target.__init__)
    yield "| parameter | type | default | meaning |"
    yield "|---|---|---|---|"
    for parameter in entry.parameters:
        default = "required" if parameter.default is parameter.empty else f"`{_json(parameter.default)}`"
        kind = f"`{annotation_text(parameter.annotation)}`" + _links(hints[parameter.name])
        yield f"| `{parameter.name}` | {kind} | {default} | {meanings.get(parameter.name, '')} |"


def _json(value: object) -> str:
    """A default as an experiment file writes it."""
    try:
        return json.dumps(value)
    except TypeError:
        return str(value)


def _links(hint: object) -> str:
    """Links to the pages of the kinds of components that a parameter takes."""
    classes = [part for part in (hint, *get_args(hint)) if inspect.isclass(part)]
    kinds = {kind for base, kind in KINDS.items() if any(issubclass(part, base) for part in classes)}
    return "".join(f" ([{kind}](../{kind}/index.md))" for kind in sorted(kinds))


def _meanings(entry: Entry) -> dict[str, str]:
    sections = _sections(entry.target.__doc__ or "") + _sections(entry.target.__init__.__doc__ or "")
    return {
        parameter.name: " ".join(parameter.description.split()).replace("|", "\\|")
        for section in sections
        if section.kind is DocstringSectionKind.parameters
        for parameter in section.value
    }


def _sections(text: str) -> list:
    return Docstring(inspect.cleandoc(text)).parse("google", warnings=False)


def _prose(text: str, *, skip_summary: bool = False) -> list[str]:
    """The docstring without its table of arguments, with double backticks as Markdown writes them."""
    prose = "\n\n".join(
        section.value for section in _sections(text) if section.kind is DocstringSectionKind.text
    ).replace("``", "`")
    return (prose.partition("\n")[2].strip() if skip_summary else prose).splitlines()


def _first_line(registry: Registry) -> str:
    return inspect.cleandoc(registry.interface.__doc__ or "").partition("\n")[0].replace("``", "`")
