"""List the registered components: name, description, file and parameters.

    openrayzer list                        # all components
    openrayzer list camera_head loss       # some kinds
    openrayzer list --markdown             # as Markdown tables
    openrayzer list --plugins my_head.py   # with the components of a plugin

Exit code: 0 done; 2 there is no such kind or plugin.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from openrayzer.cli import command_parser
from openrayzer.interfaces import PLUGIN_GROUP, REGISTRIES, InputError
from registry import as_markdown, as_text, did_you_mean, load_plugin


def parser() -> ArgumentParser:
    """The parser of the command."""
    parser = command_parser("list", __doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="kinds to list, e.g. camera_head; default: all")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    parser.add_argument(
        "--plugins", nargs="+", action="extend", default=[], metavar="PLUGIN",
        help="plugins to load: a .py file, a module, or the entry point of an installed package",
    )  # fmt: skip
    return parser


def run(arguments: Namespace) -> int:
    """Print the list."""
    registries = {registry.kind: registry for registry in REGISTRIES}
    for kind in arguments.kinds:
        if kind not in registries:
            raise InputError(f"no kind of component named {kind!r}{did_you_mean(kind, registries)}")
    for plugin in arguments.plugins:
        load_plugin(plugin, group=PLUGIN_GROUP, root=Path())
    wanted = [registries[kind] for kind in arguments.kinds or registries]
    print(as_markdown(wanted) if arguments.markdown else as_text(wanted))
    return 0
