"""Train and evaluate the variants of a study, and write tables and a page with the statistics of their differences.

    openrayzer study my_study.json --output studies/my_study
    openrayzer study my_study.json --output studies/my_study --parallel 2
    openrayzer study my_study.json --output studies/my_study --submitit slurm_partition=gpu timeout_min=600

A study in a few lines:

    {
      "experiment": "rayzer_demo",
      "variants": {"base": [], "many planes": ["model.renderer.planes=32"]},
      "seeds": [0, 1, 2],
      "budget": {"steps": 300},
      "metrics": ["psnr", "rpa@15"],
      "evaluations": {"held_out": ["--baselines", "none"]}
    }

Every variant is checked completely before the first run starts. The output folder gets runs/VARIANT/seed_N (the run
folder), runs/VARIANT/seed_N_EVALUATION, a log beside each run, metrics.json, study.md and study.html. The same command
again continues where it stopped and repeats no complete run. A run that fails does not stop the others; the next start
tries it again. docs/studies.md explains the file and the statistics.

Exit code: 0 all runs are complete; 1 some failed; 2 the study is wrong; 130 and 143 interrupted.
"""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from openrayzer.cli import command_parser, exit_at_sigterm


def parser() -> ArgumentParser:
    """The parser of the command."""
    parser = command_parser("study", __doc__)
    add = parser.add_argument
    add("study", type=Path, metavar="STUDY", help="JSON file of the study")
    add("--output", type=Path, required=True, metavar="DIR", help="folder of the results")
    add("--check", action="store_true", help="check the study, print its runs, and start none of them")
    add("--parallel", type=int, default=1, metavar="N", help="runs at the same time on this machine (default: 1)")
    add(
        "--launch", nargs="+", default=[sys.executable, "-m"], metavar="WORD",
        help="words that start a module, e.g. --launch torchrun --nproc_per_node=8 -m (default: python -m)",
    )  # fmt: skip
    add(
        "--submitit", nargs="+", default=[], metavar="KEY=VALUE",
        help="run as SLURM jobs by submitit, with these parameters, e.g. slurm_partition=gpu timeout_min=600",
    )  # fmt: skip
    return parser


def run(arguments: Namespace) -> int:
    """Check the study, execute the missing runs, write the results."""
    from openrayzer.cli.commands import evaluate_command
    from openrayzer.evaluation.studies.study import Place, check_study, run_study
    from openrayzer.evaluation.studies.study_tables import markdown
    from openrayzer.interfaces import InputError

    if arguments.parallel < 1:
        raise InputError(f"--parallel must be 1 or more, got {arguments.parallel}")
    if wrong := [text for text in arguments.submitit if not text.partition("=")[2]]:
        raise InputError(f"--submitit takes KEY=VALUE, got {wrong[0]!r}")
    place = Place(
        arguments.output, tuple(arguments.launch), arguments.parallel,
        dict(text.split("=", 1) for text in arguments.submitit),
    )  # fmt: skip
    checked = check_study(arguments.study, evaluate_command.parser(), evaluate_command.request_of)
    print(checked.summary(), file=sys.stderr)
    if arguments.check:
        return 0
    with exit_at_sigterm():
        results, files = run_study(checked, place, told=lambda line: print(line, file=sys.stderr, flush=True))
    print(markdown(results))
    for file in files:
        print(f"wrote {file}", file=sys.stderr)
    return int(any(each.problem for each in results.runs))
