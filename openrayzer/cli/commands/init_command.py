"""Start a project of one's own in a new folder.

    openrayzer init my_project
    cd my_project && openrayzer train --exp experiment.json --set train.steps=20

The folder gets an experiment, a plugin with a loss, a DeepSpeed file, a job for SLURM and a README.md. The experiment
trains without changes.

Exit code: 0 done; 2 the folder exists and is not empty, or cannot be written.
"""

import shutil
from argparse import ArgumentParser, Namespace
from pathlib import Path

from openrayzer.cli.arguments import command_parser

TEMPLATES = Path(__file__).parents[1] / "project"
TEMPLATE = ".template"
"""Last suffix of a template that would otherwise be code of openrayzer."""


def parser() -> ArgumentParser:
    """The parser of the command."""
    parser = command_parser("init", __doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder to write; must not exist or be empty")
    return parser


def run(arguments: Namespace) -> int:
    """Write the files and print their names."""
    from openrayzer.composer import SHIPPED  # slow to import
    from openrayzer.machine.writing import refuse_filled, whole_folder

    folder = arguments.folder
    refuse_filled(folder, option="the folder")
    with whole_folder(folder, option="the folder") as unfinished:
        for file in TEMPLATES.iterdir():
            shutil.copyfile(file, unfinished / file.name.removesuffix(TEMPLATE))
        shutil.copyfile(SHIPPED / "ds_configs" / "zero2_fp32.json", unfinished / "ds_config.json")
    print(f"{folder}: {', '.join(sorted(file.name for file in folder.iterdir()))}")
    print(f"  train   cd {folder} && openrayzer train --exp experiment.json --set train.steps=20")
    return 0
