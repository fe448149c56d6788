"""List the registered components: name, description, file and parameters.

    python tools/list_components.py                        # all components
    python tools/list_components.py camera_head loss       # some kinds
    python tools/list_components.py --markdown             # as Markdown tables

This is ``openrayzer list`` in a clone. ``--help`` describes the arguments and the exit codes.
"""

from openrayzer.cli import COMMANDS, run_tool

main = COMMANDS["list"].main

if __name__ == "__main__":
    run_tool(main)
