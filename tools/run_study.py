"""Train and evaluate the variants of a study, and write tables and a page with the statistics of their differences.

    python tools/run_study.py my_study.json --output studies/my_study

This is ``openrayzer study`` in a clone. ``--help`` describes the arguments and the exit codes.
"""

from openrayzer.cli import COMMANDS, run_tool

main = COMMANDS["study"].main

if __name__ == "__main__":
    run_tool(main)
