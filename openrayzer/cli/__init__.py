"""The command ``openrayzer``: its commands, and the exit codes, messages and arguments that they share."""

from openrayzer.cli.arguments import add_change_arguments as add_change_arguments
from openrayzer.cli.arguments import add_experiment_arguments as add_experiment_arguments
from openrayzer.cli.arguments import add_input_arguments as add_input_arguments
from openrayzer.cli.arguments import command_parser as command_parser
from openrayzer.cli.arguments import input_arguments as input_arguments
from openrayzer.cli.command_table import COMMANDS as COMMANDS
from openrayzer.cli.command_table import Command as Command
from openrayzer.cli.exit_codes import BROKEN_PIPE as BROKEN_PIPE
from openrayzer.cli.exit_codes import INPUT_WRONG as INPUT_WRONG
from openrayzer.cli.exit_codes import INTERRUPTED as INTERRUPTED
from openrayzer.cli.exit_codes import exit_at_sigterm as exit_at_sigterm
from openrayzer.cli.exit_codes import print_error as print_error
from openrayzer.cli.exit_codes import run_tool as run_tool
