"""Print a script that completes commands, options and names of shipped experiments in a shell.

    openrayzer completion bash > ~/.local/share/bash-completion/completions/openrayzer
    openrayzer completion zsh > ~/.zfunc/_openrayzer      # with fpath+=~/.zfunc and compinit in ~/.zshrc

The script needs no further program. Print it again after an update of openrayzer.

Exit code: 0 done; 2 the package shtab is not installed.
"""

from argparse import Action, ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Iterator
from pathlib import Path

from openrayzer.cli.arguments import command_parser
from openrayzer.cli.command_table import COMMANDS

EXPERIMENT = "EXPERIMENT"
"""The name of arguments that are files or shipped experiments."""


def parser() -> ArgumentParser:
    """The parser of the command."""
    parser = command_parser("completion", __doc__)
    parser.add_argument("shell", choices=("bash", "zsh"), help="the shell that reads the script")
    return parser


def run(arguments: Namespace) -> int:
    """Print the script."""
    from openrayzer.composer import SHIPPED  # slow to import
    from openrayzer.interfaces import InputError

    try:
        import shtab
    except ImportError as error:
        raise InputError("completion needs the package shtab: pip install 'openrayzer[completion]'") from error
    names = " ".join(sorted(file.stem for file in (SHIPPED / "experiments").glob("*.json")))
    experiments = {
        "bash": "_openrayzer_experiments",
        "zsh": f"_alternative 'shipped:experiment:({names})' 'files:file:_files -g \"*.json\"'",
        "preamble": {
            "bash": f'_openrayzer_experiments() {{ compgen -W "{names}" -- "$1"; compgen -f -X "!*.json" -- "$1"; '
            'compgen -d -S / -- "$1"; }'
        },
    }
    root = tree()
    for action in actions_of(root):
        if action.metavar == EXPERIMENT:
            action.complete = experiments  # type: ignore[attr-defined]
        elif action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(root, shell=arguments.shell))
    return 0


def tree() -> ArgumentParser:
    """One parser with all commands."""
    root = ArgumentParser(prog="openrayzer", allow_abbrev=False)
    commands = root.add_subparsers(metavar="COMMAND")
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.summary, parents=[command.parser()], add_help=False)
    return root


def actions_of(parser: ArgumentParser) -> Iterator[Action]:
    """The arguments of a parser and of its commands."""
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for command in action.choices.values():
                yield from actions_of(command)
        else:
            yield action
