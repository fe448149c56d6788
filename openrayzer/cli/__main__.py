"""The command ``openrayzer``, also as ``python -m openrayzer.cli``."""

import sys
from collections.abc import Sequence
from typing import NoReturn

import openrayzer
from openrayzer.cli.command_table import COMMANDS
from openrayzer.cli.exit_codes import INPUT_WRONG, run_tool
from registry import UnknownNameError, did_you_mean


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; returns its exit code.

    Raises:
        UnknownNameError: there is no such command.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0].startswith("--local_rank"):  # given by the deepspeed launcher; the environment has it, too
        del words[0]
    name = words[0] if words else ""
    if name in ("", "-h", "--help"):
        print(help_text(), file=sys.stdout if name else sys.stderr)
        return 0 if name else INPUT_WRONG
    if name == "--version":
        print(f"openrayzer {openrayzer.__version__}")
        return 0
    if name not in COMMANDS:
        raise UnknownNameError(f"openrayzer has no command {name!r}{did_you_mean(name, COMMANDS)}")
    return COMMANDS[name].main(words[1:])


def help_text() -> str:
    """The commands with their summaries."""
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            openrayzer.__doc__ or "",
            "",
            "usage: openrayzer COMMAND ...",
            "       openrayzer COMMAND --help",
            "",
            *(f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()),
            "",
            "With several processes:",
            "  deepspeed --module openrayzer.cli train --exp rayzer_dl3dv --data /data/dl3dv",
            "  torchrun --nproc_per_node 8 -m openrayzer.cli train --exp rayzer_dl3dv --data /data/dl3dv",
        ]
    )


def start() -> NoReturn:
    """Run the command of this process and end it with its exit code."""
    run_tool(main)


if __name__ == "__main__":
    start()
