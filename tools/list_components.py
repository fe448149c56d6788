"""List the registered components: name, description, file and parameters.

python tools/list_components.py                        # all components
python tools/list_components.py camera_head loss       # some kinds
python tools/list_components.py --markdown             # as Markdown tables
python tools/list_components.py --plugins my_head.py   # with the components of a plugin
"""

import argparse
from pathlib import Path

from jsonargparse import ArgumentParser

from openrayzer.cli import run_tool
from openrayzer.interfaces import PLUGIN_GROUP, REGISTRIES, InputError
from registry import as_markdown, as_text, did_you_mean, load_plugin


def main() -> int:
    """Parse the arguments and print the list."""
    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="kinds to list, e.g. camera_head; default: all")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    parser.add_argument(
        "--plugins", nargs="+", action="extend", default=[], metavar="PLUGIN",
        help="plugins to load: a .py file, a module, or the entry point of an installed package",
    )  # fmt: skip
    arguments = parser.parse_args()
    registries = {registry.kind: registry for registry in REGISTRIES}
    for kind in arguments.kinds:
        if kind not in registries:
            raise InputError(f"no kind of component named {kind!r}{did_you_mean(kind, registries)}")
    for plugin in arguments.plugins:
        load_plugin(plugin, group=PLUGIN_GROUP, root=Path())
    wanted = [registries[kind] for kind in arguments.kinds or registries]
    print(as_markdown(wanted) if arguments.markdown else as_text(wanted))
    return 0


if __name__ == "__main__":
    run_tool(main)
